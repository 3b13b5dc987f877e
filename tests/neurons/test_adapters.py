"""Neurons of SpikingJelly and snnTorch as STEP neurons: every class of both."""

import copy
import gc
import re
import subprocess
import sys
import weakref

import pytest
import torch
from safetensors.torch import load, save

import energy
import neurons
import step
from neurons import adapters, compiler
from neurons.adapters import snntorch, spikingjelly
from neurons.errors import OptionError, ShapeError, StepError, UnknownNameError
from neurons.surrogate import surrogates
from step.spec import Spec, SpecError, normalise

SMALL = {
    "depth": 1, "dim": 16, "heads": 2, "mlp_ratio": 1.0, "image_size": 8, "channels": 1, "classes": 10,
    "pools": [True, True, False, False],
}  # fmt: skip


def current(T=20, B=4, N=50, dtype=torch.float64, seed=0):
    return 0.5 + 1.5 * torch.randn(T, B, N, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def assert_streams(neuron, x):
    whole, last = neuron.run(x)
    first, state = neuron.run(x[:3])
    assert {name: value.shape for name, value in state.items()} == dict.fromkeys(neuron.state, x[0].shape)
    second, state = neuron.run(x[3:], state)
    assert torch.equal(torch.cat([first, second]), whole)
    assert all(torch.equal(state[key], last[key]) for key in last)


# Neurons of the other libraries ---------------------------------------------------------------------------------------

FEATURES = 8


def core(x, v):
    s = neurons.surrogate.Arctan()(v + x - 1)
    return s, v + x - s


def table():
    from spikingjelly.activation_based.neuron import FewSpikeTable

    return FewSpikeTable(*[[0.5, 0.5, 0.25, 0.1, 0.1]] * 3)


# What classes need that have no defaults, for T = 5 and 8 features; a callable is called.
NEEDS = {
    "spikingjelly:DSRIFNode": {"T": 5, "v_threshold": 1}, "spikingjelly:DSRLIFNode": {"T": 5, "v_threshold": 0.1},
    "spikingjelly:FewSpikeNode": {"table": table},
    "spikingjelly:FlexSN": {"core": lambda: core, "num_states": 1},
    "spikingjelly:GatedLIFNode": {"T": 5},
    "spikingjelly:HGNode": {"tables": lambda: [table()] * 2, "gate_thresholds": [0.3]},
    "spikingjelly:ILCCUBALIFNode": {"act_dim": 2, "dec_pop_dim": 4},
    "spikingjelly:ILCIFNode": {"act_dim": 2, "dec_pop_dim": 4},
    "spikingjelly:ILCLIFNode": {"act_dim": 2, "dec_pop_dim": 4},
    "spikingjelly:LIAFNode": {"act": lambda: torch.relu, "threshold_related": True},
    "spikingjelly:MPBNLIFNode": {"out_features": FEATURES},
    "spikingjelly:MaskedPSN": {"k": 2, "T": 5, "lambda_init": 1},
    "spikingjelly:NoisyCUBALIFNode": {"num_node": FEATURES, "is_training": False},
    "spikingjelly:NoisyILCCUBALIFNode": {"act_dim": 2, "dec_pop_dim": 4, "is_training": False},
    "spikingjelly:NoisyNonSpikingIFNode": {"num_node": FEATURES, "is_training": False},
    "spikingjelly:OutlierAwareThresholdNode": {"table": table, "outlier_table": table, "split_threshold": 0.5},
    "spikingjelly:PSN": {"T": 5},
    "spikingjelly:STBIFNode": {"q_threshold": 1.0, "level": 8},
    "spikingjelly:SimpleLIFNode": {"tau": 2.0, "decay_input": True},
    "spikingjelly:SlidingPSN": {"k": 3},
    "snntorch:Alpha": {"alpha": 0.9, "beta": 0.8},
    "snntorch:AssociativeLeaky": {"in_dim": FEATURES, "d_value": 2, "d_key": 4, "num_spiking_neurons": 8,
                                  "use_q_projection": False},
    "snntorch:DeltaLeaky": {"beta": 0.9}, "snntorch:Lapicque": {"R": 5, "C": 1},
    "snntorch:Leaky": {"beta": 0.9, "learn_beta": True, "learn_threshold": True},
    "snntorch:LeakyParallel": {"input_size": FEATURES, "hidden_size": FEATURES},
    "snntorch:LinearLeaky": {"beta": 0.9, "in_features": FEATURES, "out_features": FEATURES},
    "snntorch:RLeaky": {"beta": 0.9, "linear_features": FEATURES},
    "snntorch:RSynaptic": {"alpha": 0.9, "beta": 0.9, "all_to_all": False},
    "snntorch:SConv2dLSTM": {"in_channels": FEATURES, "out_channels": FEATURES, "kernel_size": 3, "threshold": 0.1},
    "snntorch:SLSTM": {"input_size": FEATURES, "hidden_size": FEATURES, "threshold": 0.1},
    "snntorch:StateLeaky": {"beta": 0.9, "channels": FEATURES},
    "snntorch:Synaptic": {"alpha": 0.9, "beta": [0.9] * FEATURES},
}  # fmt: skip
REFUSED = {"spikingjelly:OTTTLIFNode": "trace"}
EVERY = [f"spikingjelly:{name}" for name in spikingjelly.names()] + [f"snntorch:{name}" for name in snntorch.names()]


def foreign(name):
    torch.manual_seed(0)
    needs = NEEDS.get(name, {})
    return neurons.create(name, **{key: value() if callable(value) else value for key, value in needs.items()})


@pytest.mark.parametrize("name", EVERY)
def test_every_class_keeps_the_promise_or_is_refused(name):
    """Twice is the same, nothing stays behind, samples are independent, halves equal the whole, parameters learn."""
    if name in REFUSED:
        with pytest.raises(StepError, match=REFUSED[name]):
            foreign(name)
        return
    for dtype in (torch.float32, torch.float64):
        neuron = foreign(name).to(dtype)
        x = current(5, 3, FEATURES, dtype)
        if name == "snntorch:SConv2dLSTM":
            x = x[..., None, None].expand(-1, -1, -1, 4, 4).contiguous()
        before, inside = x.clone(), set(vars(neuron.cell))
        if name != "spikingjelly:STBIFNode":
            leaf = x.clone().requires_grad_()
            y = neuron(leaf)
            (y * torch.linspace(-1, 1, y.numel(), dtype=dtype).view_as(y)).sum().backward()
            assert leaf.grad.abs().sum() > 0
            unused = {"cell.sigma"} if "Noisy" in name else set()  # the size of a noise that is switched off
            learned = {key: p for key, p in neuron.named_parameters() if p.requires_grad and key not in unused}
            assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in learned.values())
        neuron.eval()
        with torch.no_grad():
            y, state = neuron.run(x)
            assert torch.equal(neuron(x), y)
            assert (y.shape, y.dtype) == (x.shape, dtype)
            assert len(y.unique()) > 1
            if neuron.output == "binary":
                assert set(y.unique().tolist()) <= {0.0, 1.0}
            torch.testing.assert_close(neuron(x[:, :1]), y[:, :1], rtol=1e-5, atol=1e-5)
            assert torch.equal(x, before)
            assert set(vars(neuron.cell)) == inside
            assert {key for key, value in state.items() if value.dtype == dtype} == set(neuron.state)
            if neuron.streams:
                assert_streams(neuron, x)
            else:
                with pytest.raises(ShapeError, match="cannot go on from a state"):
                    neuron.run(x, {})
            twin = copy.deepcopy(neuron)
            twin.load_state_dict(load(save({k: v.contiguous() for k, v in neuron.state_dict().items()})))
            assert torch.equal(twin(x), y)
    cost = neurons.update_cost(neuron)
    assert sum(cost.values()) > 0
    assert not [kind for kind in cost if kind.startswith("other:") and kind != "other:bucketize"]
    assert compiler.why_not(neuron)
    cls = name.partition(":")[2]
    assert neuron.eager_reason.endswith(f"own {cls}")
    assert neurons.describe(name).startswith(cls)


def test_a_node_gives_what_it_gives_in_its_own_library():
    import snntorch as snn
    from spikingjelly.activation_based import functional
    from spikingjelly.activation_based import neuron as nodes

    x = current(T=12, dtype=torch.float32)
    node = nodes.RAFNode(omega=2.0, step_mode="m")
    expected = node(x)
    functional.reset_net(node)
    assert torch.equal(neurons.create("spikingjelly:RAFNode", omega=2)(x), expected)
    cell = snn.Synaptic(alpha=0.9, beta=0.8)
    syn, mem = cell.reset_mem()
    for x_t, spikes in zip(x, neurons.create("snntorch:Synaptic", alpha=0.9, beta=0.8)(x), strict=True):
        expected, syn, mem = cell(x_t, syn, mem)
        assert torch.equal(spikes, expected)


def test_a_node_whose_multi_step_form_is_another_neuron_runs_step_by_step():
    """SpikingJelly 2.0.0 gives spikes for LIAFNode in multi-step mode, and time gradients for SLTTLIFNode."""
    neuron = neurons.create("spikingjelly:LIAFNode", act=torch.relu, threshold_related=True)
    assert not set(neuron(current()).unique().tolist()) <= {0.0, 1.0}
    neuron = neurons.create("spikingjelly:SLTTLIFNode", tau=2.0)
    x = current(T=4).requires_grad_()
    neuron(x)[-1].sum().backward()
    assert x.grad[:-1].abs().sum() == 0
    assert x.grad[-1].abs().sum() > 0


def test_nothing_is_imported_before_it_is_used():
    code = (
        "import sys, neurons; neurons.create('lif', backend='native'); neurons.names(); neurons.describe('lif');"
        "neurons.neurons.options('lif'); assert not {'spikingjelly', 'snntorch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_library_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "snntorch", None)
    with pytest.raises(StepError, match=re.escape("pip install 'snntorch>=1.0'")):
        snntorch.library.__wrapped__()
    monkeypatch.setitem(sys.modules, "spikingjelly.activation_based.neuron", None)
    with pytest.raises(StepError, match=re.escape("pip install 'spikingjelly>=2.0'")):
        spikingjelly.library.__wrapped__()


def test_snntorch_neurons_are_freed():
    import snntorch as snn

    neuron = neurons.create("snntorch:Leaky", beta=0.9)
    known = weakref.ref(neuron.cell)
    assert not any(cell is neuron.cell for cell in snn.SpikingNeuron.instances)
    del neuron
    gc.collect()
    assert known() is None


@pytest.mark.parametrize(
    ("name", "options", "error", "words"),
    [
        ("spikingjelly:LIFNod", {}, UnknownNameError, "did you mean 'LIFNode'"),
        ("snntorch:Leak", {}, UnknownNameError, "did you mean 'Leaky'"),
        ("norse:LIF", {}, UnknownNameError, "spikingjelly or snntorch"),
        ("spikingjelly:BaseNode", {}, UnknownNameError, "no neuron 'BaseNode'"),
        ("spikingjelly:LIFNode", {"tua": 2.0}, OptionError, "did you mean 'tau'"),
        ("spikingjelly:LIFNode", {"surrogate_function": "x"}, OptionError, "did you mean 'surrogate'"),
        ("spikingjelly:LIFNode", {"step_mode": "m"}, OptionError, "no option 'step_mode'"),
        ("spikingjelly:LIFNode", {"tau": 1}, OptionError, "it needs .*tau > 1.0"),
        ("spikingjelly:LIFNode", {"surrogate": "atan"}, UnknownNameError, "did you mean 'arctan'"),
        ("spikingjelly:ILIFNode", {"surrogate": "arctan"}, OptionError, "MultiLevelSpikeCount"),
        ("spikingjelly:NoisyCUBALIFNode", {"num_node": 8}, OptionError, "set is_training to False"),
        ("snntorch:Leaky", {}, OptionError, "needs 'beta'"),
        ("snntorch:Leaky", {"beta": 0.9, "init_hidden": True}, OptionError, "no option 'init_hidden'"),
        ("snntorch:Leaky", {"beta": 0.9, "reset_mechanism": "soft"}, OptionError, "'subtract', 'zero', or 'none'"),
        ("snntorch:RLeaky", {"beta": 0.9}, OptionError, "requires either"),
        ("snntorch:RSynaptic", {"alpha": 0.9, "beta": 0.9, "all_to_all": False, "reset_delay": False}, OptionError,
         "never resets"),
        ("snntorch:SLSTM", {"input_size": 8, "hidden_size": 9}, OptionError, "equal input_size and hidden_size"),
    ],
)  # fmt: skip
def test_what_cannot_be_made_is_refused_in_one_line(name, options, error, words):
    with pytest.raises(error, match=words) as caught:
        neurons.create(name, **options)
    assert "\n" not in str(caught.value)
    with pytest.raises(SpecError):
        normalise("neuron", {"name": name, **options})


def test_what_does_not_fit_is_refused_in_one_line():
    x = current(T=4, N=8, dtype=torch.float32)
    with pytest.raises(ShapeError, match="made for T = 5 time steps, not 4"):
        neurons.create("spikingjelly:PSN", T=5)(x)
    with pytest.raises(ShapeError, match=r"fails on the input \[4, 4, 8\]"):
        neurons.create("snntorch:SLSTM", input_size=9, hidden_size=9)(x)
    with pytest.raises(ShapeError, match="keeps the shape"):
        neurons.create("snntorch:LinearLeaky", beta=0.9, in_features=8, out_features=9)(x)
    with pytest.raises(ShapeError, match="has the state"):
        neurons.create("snntorch:Leaky", beta=0.9).run(x, {"v": x[0]})
    with pytest.raises(StepError, match="no gradient"):
        neurons.create("spikingjelly:STBIFNode", q_threshold=1.0, level=8)(x.requires_grad_())


def test_surrogates_of_ours_in_spikingjelly_and_its_own():
    u = torch.linspace(-2, 2, 81, dtype=torch.float64)
    kinds = set()
    for name in surrogates.names():
        ours = surrogates.create(name)
        leaf = u.clone().requires_grad_()
        theirs = spikingjelly.translated(ours)
        kinds.add(type(theirs).__module__.split(".")[0])
        theirs(leaf).sum().backward()
        torch.testing.assert_close(leaf.grad, ours.derivative(u))
    assert kinds == {"spikingjelly", "neurons"}  # where SpikingJelly has kernels for it, its own class
    assert type(neurons.create("spikingjelly:LIFNode").cell.surrogate_function).__name__ == "Sigmoid"
    made = neurons.create("spikingjelly:LIFNode", surrogate={"name": "arctan", "alpha": 3.0})
    assert made.cell.surrogate_function.alpha == 3.0
    own = lambda u: (u >= 0).to(u.dtype)  # noqa: E731
    assert neurons.create("snntorch:Leaky", beta=0.9, surrogate=own).cell.spike_grad is own


def test_factories_scale_the_threshold_under_its_own_name():
    scaled = neurons.factory("spikingjelly:LIFNode", v_threshold=2)(threshold_scale=0.5)
    assert scaled.cell.v_threshold == 1.0
    assert neurons.factory("spikingjelly:GatedLIFNode", T=2)(threshold_scale=0.5).cell.v_threshold.sigmoid() == 0.25
    assert neurons.factory("snntorch:Leaky", beta=0.9)(threshold_scale=0.5).cell.threshold == 0.5
    assert neurons.factory("lif", backend="snntorch")(threshold_scale=0.5).cell.threshold == 0.5
    assert not neurons.factory("spikingjelly:PSN", T=4)(threshold_scale=0.5).conventional


def test_graded_spikes_are_real():
    assert neurons.create("snntorch:Leaky", beta=0.9).output == "binary"
    assert neurons.create("snntorch:Leaky", beta=0.9, graded_spikes_factor=2).output == "real"


# In networks and suites -----------------------------------------------------------------------------------------------

IN_NETWORKS = [
    {"name": "spikingjelly:LIFNode", "surrogate": "arctan"},
    {"name": "spikingjelly:PSN", "T": 3},
    {"name": "spikingjelly:GatedLIFNode", "T": 3},
    {"name": "snntorch:Leaky", "beta": 0.5, "learn_beta": True},
    {"name": "snntorch:StateLeaky", "beta": 0.5, "channels": 1},
    {"name": "lif", "backend": "snntorch"},
    {"name": "plif", "backend": "spikingjelly"},
]


@pytest.mark.parametrize("neuron", IN_NETWORKS, ids=lambda neuron: "-".join(map(str, neuron.values())))
def test_in_a_network(neuron):
    """Trains a step, streams, is built without memory, and is counted under its name with the cost of its updates."""
    network = step.models.create("spikformer", **SMALL, neuron=neuron, seed=0)
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)).expand(3, -1, -1, -1, -1)
    network(x).square().sum().backward()
    network.eval()
    y, state = network.run(x)
    first = next(module for module in network.modules() if isinstance(module, neurons.Neuron))
    if first.streams:
        one, between = network.run(x[:1])
        two, last = network.run(x[1:], between)
        torch.testing.assert_close(torch.cat([one, two]), y)
        assert all(torch.equal(last[path][key], state[path][key]) for path in state for key in state[path])
    with torch.device("meta"):
        step.models.create("spikformer", **SMALL, neuron=neuron)
    record = energy.measure(network, x)
    layers = record.layers[record.layers["kind"] == "neuron"].set_index("layer")
    assert len(layers) == sum(isinstance(module, neurons.Neuron) for module in network.modules())
    assert set(layers["neuron"]) == {neuron["name"]}
    cost = neurons.update_cost(first)
    operations = record.operations.set_index(["layer", "op"])["dense"]
    for layer, row in layers.iterrows():
        assert dict(operations[layer]) == pytest.approx({op: count * row["updates"] for op, count in cost.items()})


SUITE = """
title: Neurons of other libraries on digits
base:
  dataset: digits
  encoder: {name: direct, T: 2}
  model: {name: spikformer, depth: 1, dim: 16, heads: 2, mlp_ratio: 1.0, pools: [true, true, false, false]}
  learner: {name: surrogate-gradient, epochs: 1, batch: 16, lr: 1e-2}
  protocol: {name: classification, train_samples: 160}
  measure: {samples: 16, batch: 8}
grid:
  neuron:
    - {name: "spikingjelly:LIFNode", tau: 2}
    - {name: "snntorch:Leaky", beta: 0.9, surrogate: {name: arctan, alpha: 2}}
    - {name: lif, backend: snntorch}
    - lif
"""


def test_a_suite_runs_them(tmp_path):
    """End to end, with two neurons that are the same one on two backends."""
    suite = tmp_path / "foreign.yaml"
    suite.write_text(SUITE)
    runs = step.run(suite, folder=tmp_path).set_index("network")
    assert len(runs) == 4
    assert (runs["kind"] == "spiking").all()
    assert (runs["energy_pJ.typed-horowitz"] > 0).all()
    ported, native = runs.loc["lif backend=snntorch"], runs.loc["lif"]
    for column in ("parameters", "operations.ac", "spikes"):
        assert ported[column] == pytest.approx(native[column], rel=0.1)


def test_the_spec_says_library_and_options():
    def spec(neuron):
        return Spec.parse({"dataset": "digits", "model": {"name": "spikformer", **SMALL}, "neuron": neuron})

    made = spec({"name": "spikingjelly:LIFNode", "tau": 3, "surrogate": "arctan"})
    assert made.neuron["tau"] == 3.0
    assert made.neuron["v_threshold"] == 1.0
    assert made.neuron["surrogate"] == {"name": "arctan", "alpha": 2.0}
    assert spec("spikingjelly:LIFNode").neuron["surrogate"] == "library"
    assert len({spec(n).id for n in ("lif", "spikingjelly:LIFNode", {"name": "lif", "backend": "snntorch"})}) == 3
    with pytest.raises(SpecError, match=r"neuron.tua: .*did you mean 'tau'"):
        spec({"name": "spikingjelly:LIFNode", "tua": 3})


def test_the_list_of_neurons_ends_with_the_libraries():
    from step.catalogue import rows

    assert [name for name, _ in rows("neurons")][-2:] == [f"{library}:CLASS" for library in adapters.LIBRARIES]
