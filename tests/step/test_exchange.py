"""Networks through NIR: round trip, three other libraries, what cannot be said, and the command line."""

import json
import subprocess
import sys
import warnings
from itertools import pairwise
from types import SimpleNamespace
from unittest import mock

import nir
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import energy
import neurons
from energy.twins import twin_bits, twin_name
from neurons import Neuron
from neurons.adapters.nir import NIRError
from neurons.adapters.nir_neurons import GeneralCubaLIF, GeneralLIF
from neurons.errors import ShapeError, StepError
from step import exchange, models
from step.models.layers import Folded

SIZES = {"mlp": {"hidden": (30, 20)}, "cnn": {"widths": (4, 6)}}
NEURONS = ["if", "lif", {"name": "lif", "tau": 3.3, "threshold": 0.7}, "plif", "cuba"]
T, B = 20, 4


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def awake(network, factor=8.0):
    """Give a fresh network weights and norms with which its neurons fire."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.weight.data.uniform_(1, 3, generator=generator)
            module.bias.data.uniform_(-0.2, 0.8, generator=generator)
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.01, 0.3, generator=generator)
        elif isinstance(module, (nn.Linear, nn.Conv2d)):
            module.weight.data.mul_(factor)
    return network.eval()


def images(*shape, seed=0):
    return torch.rand(T, B, *(shape or (1, 8, 8)), generator=torch.Generator().manual_seed(seed))


def spikes(network, x):
    """Output of a network and of each of its neurons."""
    seen = []
    handles = [m.register_forward_hook(lambda m, i, o: seen.append(o)) for m in network.modules() if is_neuron(m)]
    with torch.no_grad():
        out = network(x)
    for handle in handles:
        handle.remove()
    return [*seen, out]


def is_neuron(module):
    return isinstance(module, Neuron)


def weights(network):
    return [m for m in network.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("neuron", NEURONS, ids=str)
@pytest.mark.parametrize("options", [{"norm": False, "readout_tau": 2.5}, {"norm": False, "bias": False}, {}], ids=str)
def test_a_network_comes_back_from_its_file_with_equal_spikes(name, neuron, options, tmp_path):
    network = awake(models.create(name, image_size=8, neuron=neuron, seed=0, **SIZES[name], **options))
    exchange.write_nir(network, tmp_path / "net.nir")
    back = exchange.read_nir(tmp_path / "net.nir")
    assert back.notes == []
    assert list(tmp_path.iterdir()) == [tmp_path / "net.nir"]
    first, second = spikes(network, images()), spikes(back, images())
    assert len(first) == 2 + (1 if "readout_tau" in options else 0) + 1
    assert all(layer.any() for layer in first)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    mine, its = ([m for m in net.modules() if is_neuron(m)] for net in (network, back))
    assert [repr(m) for m in mine] == [repr(m) for m in its]
    for m, n in zip(mine, its, strict=True):
        assert all(torch.equal(p, q) for p, q in zip(m.parameters(), n.parameters(), strict=True))
    if options:  # no norm to fold: the weights are the same bits
        for a, b in zip(weights(network), weights(back), strict=True):
            assert torch.equal(a.weight, b.weight)
            assert a.bias is None or torch.equal(a.bias, b.bias)
    again = exchange.to_nir(back)
    graph = nir.read(tmp_path / "net.nir")
    kinds = [{name: type(node).__name__ for name, node in g.nodes.items()} for g in (graph, again)]
    assert kinds[0] == kinds[1]
    assert sorted(graph.edges) == sorted(again.edges)


@settings(max_examples=20, deadline=None)
@given(
    hidden=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    neuron=st.sampled_from(["if", "lif", "plif", "cuba"]),
    norm=st.booleans(),
    bias=st.booleans(),
    size=st.integers(1, 4),
    channels=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_perceptrons_of_any_size_come_back(hidden, neuron, norm, bias, size, channels, seed):
    network = awake(
        models.create(
            "mlp", image_size=size, channels=channels, classes=3, hidden=hidden, neuron=neuron, norm=norm, bias=bias,
            seed=seed,
        )
    )  # fmt: skip
    back = exchange.read_nir(exchange.to_nir(network))
    x = images(channels, size, size, seed=seed)
    if norm:  # folded weights round differently, and a potential may lie that close to the threshold
        same = [
            torch.isclose(a, b, atol=1e-4).float().mean()
            for a, b in zip(spikes(network, x), spikes(back, x), strict=True)
        ]
        assert min(same) > 0.99
    else:
        assert all(torch.equal(a, b) for a, b in zip(spikes(network, x), spikes(back, x), strict=True))


@settings(max_examples=12, deadline=None)
@given(
    widths=st.lists(st.integers(1, 4), min_size=1, max_size=2),
    kernel=st.sampled_from([1, 3, 5]),
    pool=st.sampled_from(["average", "none"]),
    size=st.integers(4, 9),
    channels=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_convolutional_networks_of_any_size_come_back(widths, kernel, pool, size, channels, seed):
    network = awake(
        models.create(
            "cnn", image_size=size, channels=channels, classes=3, widths=widths, kernel=kernel, pool=pool, norm=False,
            seed=seed,
        )
    )  # fmt: skip
    back = exchange.read_nir(exchange.to_nir(network))
    x = images(channels, size, size, seed=seed)
    assert all(torch.equal(a, b) for a, b in zip(spikes(network, x), spikes(back, x), strict=True))


def test_a_norm_is_folded_and_the_node_says_so():
    network = awake(models.create("cnn", image_size=8, seed=0, widths=(4,)))
    node = exchange.to_nir(network).nodes["layers_0_conv"]
    assert node.metadata["folded"] == "layers.0.norm"
    norm, conv = network.layers[0].norm, network.layers[0].conv
    x = torch.rand(2, 1, 8, 8)
    folded = nn.functional.conv2d(x, torch.from_numpy(node.weight), torch.from_numpy(node.bias), padding=1)
    with torch.no_grad():
        torch.testing.assert_close(folded, norm(conv(x)), rtol=1e-5, atol=1e-5)


def test_exporting_leaves_the_network_alone():
    network = models.create("cnn", image_size=8, widths=(4,)).train().to(memory_format=torch.channels_last)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    exchange.to_nir(network)
    assert network.training
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


def test_a_read_network_is_used_like_any_other(tmp_path):
    network = awake(models.create("mlp", image_size=8, seed=0, norm=False, readout_tau=2.0, **SIZES["mlp"]))
    back, x = exchange.read_nir(exchange.to_nir(network)), images()
    with torch.no_grad():
        whole = back(x)
        first, state = back.run(x[:7])
        second, _ = back.run(x[7:], state)
    torch.testing.assert_close(torch.cat([first, second]), whole)
    mine, its = energy.measure(network, x), energy.measure(back, x)
    assert mine.summary() == its.summary()
    twin = back.twin("relu")
    assert not any(isinstance(m, neurons.LeakyIntegrator) for m in twin.modules())
    assert twin(x[:1]).shape == (1, B, 10)
    table = energy.compare(back, x, ["op-count"])
    assert set(table["network"]) == {"network", "relu", twin_name(twin_bits(len(x)), len(x))}
    back.train()(x).sum().backward()
    assert all(p.grad is not None for p in back.parameters())
    with pytest.raises(ShapeError, match=r"takes \[T, B, 1, 8, 8\]"):
        back(images(1, 4, 4))


def test_a_plain_sequence_is_exported_with_the_shape_of_its_samples():
    network = nn.Sequential(nn.Linear(6, 5), neurons.LIF(), nn.Dropout(0.5), nn.Linear(5, 2, bias=False))
    graph = exchange.to_nir(network, (6,))
    assert list(graph.nodes) == ["input", "affine_0", "lif_1", "linear_3", "output"]
    assert list(exchange.to_nir(neurons.LIF(), (6,)).nodes) == ["input", "lif", "output"]
    with pytest.raises(StepError, match="give shape"):
        exchange.to_nir(network)
    with pytest.raises(NIRError, match="does not take"):
        exchange.to_nir(network, (7,))


@pytest.mark.parametrize(
    ("layers", "shape", "kind"),
    [
        ([nn.Conv1d(2, 3, 3, stride=2, padding=1, dilation=2)], (2, 9), "Conv1d"),
        ([nn.Conv2d(2, 3, 3, padding="same", bias=False)], (2, 6, 5), "Conv2d"),
        ([nn.AvgPool2d(2, divisor_override=1)], (2, 6, 4), "SumPool2d"),
        ([nn.AvgPool2d((2, 3), stride=1, padding=1)], (2, 6, 6), "AvgPool2d"),
    ],
)
def test_other_layers_come_back(layers, shape, kind, tmp_path):
    network = nn.Sequential(*map(Folded, layers), neurons.IF())
    exchange.write_nir(network, tmp_path / "net.nir", shape)
    graph = nir.read(tmp_path / "net.nir", type_check=False)
    assert kind in {type(node).__name__ for node in graph.nodes.values()}
    x = 2 * images(*shape)
    want = spikes(network, x)[-1]
    assert want.any()
    assert torch.equal(spikes(exchange.read_nir(tmp_path / "net.nir"), x)[-1], want)


class Flattening(nn.Module):
    """Flattens between its layers and not as one of them; with ``after``, reshapes its result."""

    def __init__(self, after=False):
        super().__init__()
        self.first, self.last, self.after = nn.Linear(6, 4), nn.Linear(4, 2), after

    def forward(self, x):
        y = self.last(self.first(x.flatten(2)))
        return y.unsqueeze(2) if self.after else y


def test_flattening_outside_the_layers_is_seen():
    network = Flattening()
    graph = exchange.to_nir(network, (2, 3))
    assert [type(node).__name__ for node in graph.nodes.values()] == ["Input", "Flatten", "Affine", "Affine", "Output"]
    x = images(2, 3)
    assert torch.equal(exchange.read_nir(graph)(x), network(x))


class Skip(nn.Module):
    """x + neuron(linear(x))."""

    def __init__(self):
        super().__init__()
        self.linear, self.neuron, self.last = nn.Linear(6, 6), neurons.LIF(), nn.Linear(6, 2)

    def forward(self, x):
        return self.last(x + self.neuron(self.linear(x)))


SPIKFORMER = {"image_size": 8, "channels": 1, "dim": 32, "depth": 1, "heads": 4}


@pytest.mark.parametrize(
    ("make", "shape", "words"),
    [
        (lambda: models.create("cnn", image_size=8, pool="max"), None, "layers.2.layer'.* no maximum pooling"),
        (lambda: models.create("spikformer", **SPIKFORMER), None, "embedding.stages.3.1'.* no maximum pooling"),
        (
            lambda: models.create("spikformer", **SPIKFORMER, pools=0), None,
            "'blocks.0.attention.query.layer.linear' .*computed after 'embedding.position.neuron' outside any layer",
        ),
        (lambda: models.create("mlp", neuron="relu"), None, "layers.2': NIR has no node for the neuron 'relu'"),
        (lambda: models.create("mlp", neuron={"name": "lif", "reset": "soft"}), None, "--soft-reset-in-metadata"),
        (Skip, (6,), "'last' .*a sum of branches"),
        (lambda: Flattening(after=True), (6,), "something is computed after it"),
        (lambda: nn.Sequential(Folded(nn.Conv2d(2, 4, 3, groups=2))), (2, 5, 5), "groups"),
        (lambda: nn.Sequential(nn.Linear(6, 5), nn.GELU()), (6,), "no node for GELU"),
        (lambda: nn.Sequential(nn.Linear(6, 5), neurons.LIF()), (4, 6), "positions of .4, 6. alike"),
        (lambda: nn.Sequential(neurons.LIF(), Folded(nn.BatchNorm1d(6))), (6,), "a norm that follows no convolution"),
        (lambda: nn.Sequential(Folded(nn.AvgPool2d(2, ceil_mode=True))), (2, 5, 5), "ceil_mode"),
        (lambda: nn.Sequential(Folded(nn.Conv2d(2, 3, 3, padding_mode="circular"))), (2, 5, 5), "zeros only"),
    ],
)  # fmt: skip
def test_what_cannot_be_said_names_the_first_layer(make, shape, words, tmp_path):
    with pytest.raises(NIRError, match=words) as caught:
        exchange.write_nir(make(), tmp_path / "net.nir", shape)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def graph_of(*nodes, edges=None, **more):
    named = {"input": nir.Input(np.array([3])), **dict(nodes), "output": nir.Output(np.array([3]))}
    names = list(named)
    return nir.NIRGraph(named, edges or list(pairwise(names)), type_check=False, **more)


def lif(n=3, **fields):
    numbers = {"tau": 2e-4, "r": 1.0, "v_leak": 0.0, "v_threshold": 1.0, "v_reset": 0.0}
    return nir.LIF(**{key: np.broadcast_to(fields.get(key, value), (n,)).copy() for key, value in numbers.items()})


LINEAR = ("a", nir.Linear(np.eye(3, dtype=np.float32)))


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        (
            lambda: graph_of(LINEAR, ("b", lif()), edges=[("input", "a"), ("a", "b"), ("b", "a"), ("b", "output")]),
            "node 'a' reads 'b' and 'input': graphs that branch or go round in a circle",
        ),
        (lambda: graph_of(LINEAR, ("b", lif()), edges=[("input", "a"), ("a", "output")]), "beside the way: 'b'"),
        (lambda: graph_of(LINEAR, edges=[("input", "a"), ("a", "z")]), "does not have: z"),
        (lambda: graph_of(LINEAR, ("b", nir.Delay(np.ones(3)))), "node 'b': nodes Delay are not read"),
        (lambda: graph_of(LINEAR, ("b", lif(4))), r"node 'b': its parameters are of the shape \[4\]"),
        (lambda: graph_of(("a", nir.Linear(np.ones((3, 4))))), r"node 'a': it takes a vector of 4"),
        (lambda: graph_of(("a", lif(tau=1e-5))), "node 'a': tau = 1e-05 s is shorter"),
        (lambda: graph_of(("a", graph_of(LINEAR))), "graphs inside graphs"),
        (lambda: nir.Linear(np.eye(3)), "a Linear is no NIR graph"),
        (lambda: "nowhere.nir", "nowhere.nir does not exist"),
        (lambda: __file__, "is not a NIR file"),
    ],
)
def test_graphs_that_cannot_be_read_are_refused_in_one_line(graph, words):
    with pytest.raises(NIRError, match=words) as caught:
        exchange.read_nir(graph())
    assert "\n" not in str(caught.value)


def test_a_value_for_each_neuron_is_kept():
    tau, threshold = np.array([2e-4, 3e-4, 4e-4]), np.array([0.5, 1.0, 2.0])
    network = exchange.read_nir(graph_of(LINEAR, ("b", lif(tau=tau, v_threshold=threshold, v_leak=0.1, v_reset=-0.2))))
    neuron = network.layers.b
    assert isinstance(neuron, GeneralLIF)
    torch.testing.assert_close(neuron.tau, torch.tensor([2.0, 3.0, 4.0]))
    assert (neuron.v_leak, neuron.v_reset) == (0.1, -0.2)
    node = exchange.to_nir(network).nodes["b"]
    np.testing.assert_allclose(node.tau, tau, rtol=1e-6)
    np.testing.assert_allclose(node.v_reset, -0.2)
    record = energy.measure(network, images(3))
    assert record.layers.set_index("layer").loc["layers.b", "updates"] == T * 3


def test_the_time_step_comes_from_the_file_or_is_said():
    network = models.create("mlp", image_size=4, neuron={"name": "lif", "tau": 2.0})
    graph = exchange.to_nir(network, dt=1e-3)
    assert exchange.read_nir(graph).config.dt == 1e-3
    finer = exchange.read_nir(graph, dt=5e-4)
    assert finer.layers.layers_2.tau == 4.0
    assert "made for 0.001 s" in finer.notes[0]
    assert "does not say its time step" in exchange.read_nir(graph_of(LINEAR)).notes[0]


# Other libraries ------------------------------------------------------------------------------------------------------


def sequence(kind, neuron):
    """A spiking output, so that what is compared are spikes."""
    make = neurons.factory(neuron)
    if kind == "linear":
        layers = [nn.Linear(12, 30), make(), nn.Linear(30, 20, bias=False), make()]
        return awake(nn.Sequential(*layers), 6.0), (12,)
    layers = [
        Folded(nn.Conv2d(2, 5, 3, padding=1)), make(), Folded(nn.AvgPool2d(2)), Folded(nn.Conv2d(5, 6, 3, stride=2)),
        make(), nn.Flatten(2), nn.Linear(6, 7), make(),
    ]  # fmt: skip
    return awake(nn.Sequential(*layers), 12.0), (2, 8, 8)


def stepped(module, x):
    """Run a module of nirtorch, (x, state) -> (y, state), over time."""
    state, out = None, []
    with torch.no_grad():
        for x_t in x:
            y, state = module(x_t, state)
            out.append(y)
    return torch.stack(out)


def by_sample(load, x):
    """The same without a batch axis: a fresh module for every sample, since some of them keep hidden states."""
    return torch.stack([stepped(load(), x[:, b]) for b in range(x.shape[1])], 1)


@pytest.mark.parametrize("kind", ["linear", "convolutional"])
@pytest.mark.parametrize("neuron", NEURONS, ids=str)
def test_spikingjelly_reads_equal_spikes(kind, neuron):
    """All nodes, with a batch; it has no LI."""
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    network, shape = sequence(kind, neuron)
    x = images(*shape)
    want = spikes(network, x)[-1]
    assert want.any()
    for dt in (1e-4, 1e-3):
        theirs = import_from_nir(exchange.to_nir(network, shape, dt=dt), dt=dt)
        assert torch.equal(stepped(theirs, x), want)


@pytest.mark.parametrize("kind", ["linear", "convolutional"])
@pytest.mark.parametrize("neuron", NEURONS, ids=str)
def test_snntorch_reads_equal_spikes(kind, neuron):
    """Time steps of 0.1 ms only; without a batch, since it flattens the batch too; no LI.

    It reads an IF only with r = 1, which in NIR means that a step of 0.1 ms adds a ten-thousandth of the input, and
    then makes it a leaky neuron: refused by its own assertion here.
    """
    from snntorch.import_nir import import_from_nir

    network, shape = sequence(kind, neuron)
    x = images(*shape)
    want = spikes(network, x)[-1]
    assert want.any()
    graph = exchange.to_nir(network, shape)
    if neuron == "if":
        with pytest.raises(AssertionError, match="r != 1"):
            import_from_nir(graph)
        return
    assert torch.equal(by_sample(lambda: import_from_nir(exchange.to_nir(network, shape)), x), want)
    if kind == "linear":
        assert torch.equal(stepped(import_from_nir(graph), x), want)


@pytest.mark.parametrize("neuron", NEURONS, ids=str)
def test_norse_reads_equal_spikes(neuron):
    """Linear networks only: it has no average pooling and no LI, and it reads no r of an IF or LIF."""
    import norse.torch as norse

    network, shape = sequence("linear", neuron)
    x = images(*shape)
    want = spikes(network, x)[-1]
    graph = exchange.to_nir(network, shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = norse.from_nir(graph, dt=1e-4, ignore_warnings=True)
    assert torch.equal(stepped(theirs, x), want)


SPIKINGJELLY = {
    "if": lambda n: n.IFNode(),
    "if, v_reset": lambda n: n.IFNode(v_reset=-0.3),
    "lif": lambda n: n.LIFNode(tau=3.0),
    "lif, input not decayed": lambda n: n.LIFNode(tau=3.0, decay_input=False),
    "lif, v_reset": lambda n: n.LIFNode(tau=3.0, v_reset=-0.2, v_threshold=0.8),
    "plif": lambda n: n.ParametricLIFNode(init_tau=2.7),
    "cuba": lambda n: n.CUBALIFNode(c_decay=0.4, v_decay=0.7),
}


@pytest.mark.parametrize("kind", ["linear", "convolutional"])
@pytest.mark.parametrize("node", SPIKINGJELLY)
def test_graphs_of_spikingjelly_are_read_with_equal_spikes(kind, node):
    from spikingjelly.activation_based import functional, layer, neuron
    from spikingjelly.activation_based.nir_exchange import export_to_nir

    def make():
        return SPIKINGJELLY[node](neuron)

    layers = [layer.Linear(12, 30), make(), layer.Linear(30, 20, bias=False), make()]
    shape = (12,)
    if kind == "convolutional":
        layers = [
            layer.Conv2d(2, 5, 3, padding=1), make(), layer.AvgPool2d(2), layer.Conv2d(5, 6, 3, stride=2, bias=False),
            make(), layer.Flatten(), layer.Linear(6, 7), make(),
        ]  # fmt: skip
        shape = (2, 8, 8)
    theirs = nn.Sequential(*layers)
    generator = torch.Generator().manual_seed(2)
    for parameter in theirs.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0.2, 4 / parameter[0].numel() ** 0.5, generator=generator)
    x = images(*shape)
    graph = export_to_nir(theirs, x[0])  # it takes samples with a batch only
    functional.set_step_mode(theirs, "m")
    functional.reset_net(theirs)
    with torch.no_grad():
        want = theirs(x)
    assert want.any()
    ours = exchange.read_nir(graph)
    assert torch.equal(spikes(ours, x)[-1], want)


@pytest.mark.parametrize("kind", ["Leaky", "Synaptic"])
@pytest.mark.parametrize("alike", [True, False])
def test_graphs_of_snntorch_are_read_with_equal_spikes(kind, alike):
    """It exports from a sample without batch, with vectors of beta and threshold, and only as a neuron whose
    reset goes to zero at once: it writes its default, a soft reset one step late, as if it were that one."""
    import snntorch
    from snntorch.export_nir import export_to_nir

    generator = torch.Generator().manual_seed(3)

    def values(n, low, high):
        spread = torch.rand(n, generator=generator)
        return low + (high - low) * (torch.full((n,), 0.5) if alike else spread)

    def make(n):
        options = {"beta": values(n, 0.4, 0.9), "threshold": values(n, 0.5, 1.5)}
        options |= {"alpha": values(n, 0.1, 0.9)} if kind == "Synaptic" else {}
        made = getattr(snntorch, kind)
        return made(**options, reset_mechanism="zero", reset_delay=False, init_hidden=True)

    theirs = awake(nn.Sequential(nn.Linear(12, 30), make(30), nn.Linear(30, 20), make(20)), 2.0)
    x = images(12)
    graph = export_to_nir(theirs, x[0, 0])
    for neuron in (theirs[1], theirs[3]):
        neuron.reset_mem()
    with torch.no_grad():
        want = torch.stack([theirs(x_t) for x_t in x])
    assert want.any()
    ours = exchange.read_nir(graph)
    assert torch.equal(spikes(ours, x)[-1], want)
    if not alike:
        kinds = {type(m) for m in ours.modules() if is_neuron(m)}
        assert kinds == {GeneralLIF if kind == "Leaky" else GeneralCubaLIF}
    assert "does not say its time step" in ours.notes[0]


# Command line ---------------------------------------------------------------------------------------------------------

SUITE = """
title: Perceptrons on digits
base:
  dataset: digits
  encoder: {name: direct, T: 4}
  model: {name: mlp, hidden: [32]}
  learner: {name: surrogate-gradient, epochs: 3, batch: 64, lr: 1e-2}
  measure: {samples: 16, batch: 8}
grid:
  neuron: [{name: lif, tau: 1.5}, {name: lif, reset: soft}, relu]
"""


@pytest.fixture
def command(capsys):
    """The command line within this process, which spares the imports."""
    from step.cli import main

    def run(*arguments):
        with mock.patch.object(sys, "argv", ["step", *map(str, arguments)]), pytest.raises(SystemExit) as ended:
            main()
        return subprocess.CompletedProcess(arguments, ended.value.code, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    import step

    folder = tmp_path_factory.mktemp("trained")
    (folder / "digits-mlp.yaml").write_text(SUITE)
    step.run(folder / "digits-mlp.yaml", folder=folder / "step-results")
    return folder


def runs(folder):
    from step.api import place_of
    from step.results import Results
    from step.suite import load_suite

    return Results(load_suite(folder / "digits-mlp.yaml"), place_of(folder / "step-results"))


def test_export_and_import_on_the_command_line(trained, tmp_path, command):
    results = runs(trained)
    table = results.runs.set_index("network")
    run = table.loc["lif tau=1.5", "run"]
    place = ["--folder", trained / "step-results"]
    out = tmp_path / "net.nir"
    done = command("export", "nir", trained / "digits-mlp.yaml", "-o", out, "--run", run[:8], *place)
    assert done.returncode == 0, done.stderr
    assert f"run {run} (lif tau=1.5, seed 0)" in done.stdout
    assert "1 norm is folded" in done.stdout
    assert "the same outputs for 100.0% of 64 test samples" in done.stdout
    assert f"written to {out}" in done.stdout.replace("\n", "")
    seen = command("import", "nir", out)
    assert seen.returncode == 0, seen.stderr
    for words in ("LIF(tau=1.5", "1 x 8 x 8", "2,080", "2,410 parameters", "time steps of 0.0001 s"):
        assert words in seen.stdout
    judged = command("import", "nir", out, "--dataset", "digits", "--encoder", "direct", "--T", 4)
    assert judged.returncode == 0, judged.stderr
    assert f"{table.loc['lif tau=1.5', 'test_accuracy']:.2%}" in judged.stdout
    assert "accumulates" in judged.stdout


def test_the_best_spiking_run_on_validation_samples_is_taken(trained):
    from step.exchange.runs import choose

    results = runs(trained)
    curves = results.curves[results.curves["name"] == "validation_accuracy"]
    spiking = curves[curves["network"] != "relu"]
    best = spiking.groupby("run")["value"].max()
    assert best[choose(results)] == best.max()


@pytest.mark.parametrize(
    ("protocol", "curve", "best"),
    [
        ({"protocol": "classification"}, "validation_accuracy", 1),
        ({"dataset": "adding-problem", "encoder": "sequence", "protocol": "regression"}, "validation_mse", 0),
        ({"dataset": "permuted-tasks", "learner": "continual", "protocol": "continual"}, "train_loss", None),
    ],
    ids=["high", "low", "none"],
)
def test_runs_are_compared_by_what_their_protocol_chooses_epochs_by(protocol, curve, best):
    from step.exchange.runs import choose
    from step.spec import Spec

    specs = [Spec.parse({"dataset": "digits", "model": "mlp", "seed": seed, **protocol}) for seed in (0, 1, 2)]
    ids = [spec.id for spec in specs]
    values = pd.DataFrame({"run": ids * 2, "name": curve, "value": [0.4, 0.1, 0.9, 0.05, 0.6, 0.0]})
    suite = SimpleNamespace(name="mine", labels=dict(zip(ids, ["snn", "snn", "twin"], strict=True)))
    of = SimpleNamespace(suite=suite, specs=dict(zip(ids, specs, strict=True)), curves=values)
    of.networks = {"snn": "spiking", "twin": "twin"}
    if best is None:
        with pytest.raises(StepError, match="name one with --run") as error:
            choose(of)
        assert all((run in str(error.value)) == (run != ids[2]) for run in ids)
        of.specs = {ids[0]: specs[0], ids[2]: specs[2]}
    assert choose(of) == ids[best or 0]


def test_the_time_step_and_a_soft_reset_on_the_command_line(trained, tmp_path, command):
    place = ["--folder", trained / "step-results", "--set", "neuron=[{name: lif, reset: soft}]"]
    refused = command("export", "nir", trained / "digits-mlp.yaml", "-o", tmp_path / "net.nir", *place)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "--soft-reset-in-metadata" in refused.stderr
    assert list(tmp_path.iterdir()) == []
    options = ["--soft-reset-in-metadata", "--dt", "1e-3"]
    done = command("export", "nir", trained / "digits-mlp.yaml", "-o", tmp_path / "net.nir", *place, *options)
    assert done.returncode == 0, done.stderr
    metadata = nir.read(tmp_path / "net.nir").nodes["layers_2"].metadata
    assert (metadata["reset"], metadata["dt"]) == ("subtract", 1e-3)
    assert json.loads(metadata["options"])["reset"] == "soft"
    assert "note:" in command("import", "nir", tmp_path / "net.nir").stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["export", "nir", "SUITE", "-o", "x.nir", "--set", "neuron=relu"], "no finished run of a spiking network"),
        (["export", "nir", "SUITE", "-o", "x.nir", "--run", "zz"], "no finished runs of digits-mlp begin like this"),
        (["export", "nir", "SUITE", "-o", "no/where/x.nir"], "cannot be written"),
        (["export", "nir", "SUITE", "-o", "x.nir", "--dt", "0"], "dt is the length of a time step"),
        (["export", "nir", "SUITE", "-o", "x.nir", "--folder", "none"], "run: step run digits-mlp"),
        (["export", "nir", "quik", "-o", "x.nir"], "did you mean 'quick'"),
        (["import", "nir", "none.nir"], "none.nir does not exist"),
        (["import", "nir", "SUITE"], "is not a NIR file"),
    ],
)
def test_wrong_input_gets_one_line_and_nothing_is_written(trained, tmp_path, command, monkeypatch, arguments, words):
    arguments = [trained / "digits-mlp.yaml" if word == "SUITE" else word for word in arguments]
    here = arguments[0] == "export" and "--folder" not in arguments
    place = ["--folder", trained / "step-results"] if here else []
    monkeypatch.chdir(tmp_path)
    done = command(*arguments, *place)
    assert done.returncode == 2, done.stdout + done.stderr
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
