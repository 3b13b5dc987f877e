"""syops-counter itself on the same networks, layer by layer; and where its counts mislead."""

import contextlib
import importlib
import io
import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import energy
from energy import Record

activation_based = pytest.importorskip("spikingjelly.activation_based")
neuron = importlib.import_module("spikingjelly.activation_based.neuron")
functional = importlib.import_module("spikingjelly.activation_based.functional")
T, B = 4, 2


@pytest.fixture(scope="module")
def tool() -> Iterator[Any]:
    """The engine of syops 0.0.5, with what it imports and its package does not bring.

    It draws a progress bar with a package that it does not require, and takes neurons from a version of SpikingJelly
    in which multi-step neurons were classes of their own.
    """

    class Bar:
        suffix = ""

        def __init__(self, *args: Any, **options: Any) -> None: ...
        def next(self) -> None: ...
        def finish(self) -> None: ...

    old = types.ModuleType("spikingjelly.clock_driven")
    names = ("IFNode", "LIFNode", "ParametricLIFNode")
    nodes = {name: getattr(neuron, name) for name in names}
    for name in names:
        nodes[f"MultiStep{name}"] = type(f"MultiStep{name}", (nn.Module,), {})
    old.neuron, old.functional = types.SimpleNamespace(**nodes), functional
    old.surrogate = importlib.import_module("spikingjelly.activation_based.surrogate")
    progress = types.ModuleType("progress.bar")
    progress.Bar = Bar
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "spikingjelly.clock_driven", old)
        patch.setitem(sys.modules, "spikingjelly.clock_driven.neuron", old.neuron)
        patch.setitem(sys.modules, "progress", types.ModuleType("progress"))
        patch.setitem(sys.modules, "progress.bar", progress)
        pytest.importorskip("syops")
        yield importlib.import_module("syops.engine")


class Steps(nn.Module):
    """One step after the other; time first for our record, samples first for the tool."""

    def __init__(self, network: nn.Module, time: int = 0) -> None:
        super().__init__()
        self.network, self.time = network, time

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.network(x_t) for x_t in x.unbind(self.time)])


def theirs(tool: Any, network: nn.Module, x: Tensor) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Their counts by layer and in total, for samples first: all, ACs, MACs, summed rates."""
    network = tool.add_syops_counting_methods(network.eval())
    with contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        network.start_syops_count(ost=sys.stdout, verbose=False, ignore_list=[])
        network(x)
        layers = {name: m.__syops__ / len(x) for name, m in network.named_modules() if hasattr(m, "__syops__")}
        total, _ = network.compute_average_syops_cost()
        network.stop_syops_count()
    functional.reset_net(network)
    return layers, total


def ours(record: Record) -> dict[str, np.ndarray]:
    counted = {layer.layer: energy.models.syops.count(layer) for layer in energy.models.layer.layers_of(record)}
    return {name: np.array([c.every, c.ac, c.mac]) for name, c in counted.items() if c is not None}


def totals(record: Record) -> list[float]:
    figures = energy.price(record, "syops").attrs["figures"]
    return [figures[name] for name in ("all_operations", "acs", "macs")]


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), neuron.IFNode(v_threshold=0.3), nn.MaxPool2d(2),
        nn.Conv2d(4, 8, 3, padding=1, groups=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 6),
        neuron.LIFNode(v_threshold=0.1), nn.Linear(6, 3, bias=False),
    ).eval()  # fmt: skip


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.rand(T, B, 1, 6, 6, generator=torch.Generator().manual_seed(1)) + 0.5


def test_every_layer_agrees(tool: Any, network: nn.Module, x: Tensor) -> None:
    record = energy.measure(Steps(network), x)
    counted = ours(record)
    layers, total = theirs(tool, Steps(network, time=1), x.transpose(0, 1))
    assert record.spikes > 0
    assert len(layers) == len(counted) == 10
    for name, found in layers.items():
        mine = counted[f"{name}.relu-1" if name == "network.5" else name]
        np.testing.assert_allclose(mine, found[:3], rtol=1e-6, err_msg=name)
    assert totals(record) == pytest.approx(list(total[:3]), rel=1e-6)
    # Real and spiking layers, a grouped convolution, an AC layer with a bias and one without are all among them.
    assert counted["network.0"][2] > 0 == counted["network.0"][1]
    assert counted["network.4"][1] > 0 == counted["network.4"][2]
    assert counted["network.10"][1] > 0


def test_bias_of_a_linear_layer_counts_once_for_each_call_whatever_the_batch(tool: Any) -> None:
    spikes = torch.ones(T, 5, 8)
    record = energy.measure(Steps(nn.Linear(8, 3)), spikes)
    layers, _ = theirs(tool, Steps(nn.Linear(8, 3), time=1), spikes.transpose(0, 1))
    assert layers["network"][0] == pytest.approx(T * 8 * 3 + T * 3 / 5)
    np.testing.assert_allclose(ours(record)["network"], layers["network"][:3])
    assert record.operations.set_index("op").loc["add", "dense"] == T * 3  # what a sample really takes


def test_price_is_the_documented_pair(network: nn.Module, x: Tensor) -> None:
    record = energy.measure(Steps(network), x)
    table = energy.price(record, "syops")
    _, ac, mac = totals(record)
    assert table["total"].sum() == pytest.approx(0.9 * ac + 4.6 * mac)
    given = energy.price(record, "syops", ac=1.0, mac=0.0)
    assert given["total"].sum() == pytest.approx(ac)


def test_rate_is_the_mean_value_so_half_spikes_are_half_as_many(tool: Any) -> None:
    # Values 0 and 0.5 pass its test for spikes, and count by their mean: half of those that are there.
    half = (torch.rand(3, 2, 8, generator=torch.Generator().manual_seed(0)) > 0.5).float() / 2
    layers, _ = theirs(tool, Steps(nn.Linear(8, 3, bias=False), time=1), half.transpose(0, 1))
    dense, rate = 3 * 8 * 3, half.count_nonzero().item() / half.numel()
    assert layers["network"][1] < 0.6 * rate * dense
    # Our record has values of one half as real numbers unless a neuron or a constant factor made them.
    assert ours(energy.measure(Steps(nn.Linear(8, 3, bias=False)), half))["network"][2] == dense


def test_constant_real_inputs_pass_for_spikes(tool: Any) -> None:
    grey = torch.full((T, B, 8), 0.3)
    layers, _ = theirs(tool, Steps(nn.Linear(8, 3, bias=False), time=1), grey.transpose(0, 1))
    assert layers["network"][1] == pytest.approx(0.3 * T * 24)
    assert layers["network"][2] == 0
    assert ours(energy.measure(Steps(nn.Linear(8, 3, bias=False)), grey))["network"][2] == T * 24


def test_sums_of_spikes_become_dense_multiply_accumulates(tool: Any) -> None:
    sums = torch.randint(0, 3, (T, B, 8), generator=torch.Generator().manual_seed(0)).float()
    layers, _ = theirs(tool, Steps(nn.Linear(8, 3, bias=False), time=1), sums.transpose(0, 1))
    record = energy.measure(Steps(nn.Linear(8, 3, bias=False)), sums)
    np.testing.assert_allclose(ours(record)["network"], layers["network"][:3])
    assert layers["network"][2] == T * 24


class Attention(nn.Module):
    """A projection of spikes, a residual sum, and a product of two activations."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(8, 8, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.relu(self.project(x)) + x
        return y @ y.transpose(-1, -2)


def test_functional_calls_products_of_activations_and_residuals_are_invisible(tool: Any) -> None:
    spikes = (torch.rand(T, B, 5, 8, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    record = energy.measure(Steps(Attention()), spikes)
    layers, total = theirs(tool, Steps(Attention(), time=1), spikes.transpose(0, 1))
    assert list(layers) == ["network.project"]
    assert totals(record) == pytest.approx(list(total[:3]))
    table = energy.price(record, "syops").set_index("layer")
    unseen = table.index[~table["applicable"]]
    assert {name.rpartition(".")[2] for name in unseen} == {"relu-1", "add-1", "matmul-1"}
    assert table.loc[unseen, "total"].isna().all()
    assert record.products.set_index("layer").loc["network.matmul-1", "dense"] == T * 5 * 5 * 8


def test_operations_of_a_grouped_convolution_are_right(tool: Any) -> None:
    # K C_in (C_out / groups) is the same number as K (C_in / groups) C_out.
    grouped = nn.Conv2d(4, 8, 3, groups=4, bias=False)
    x = torch.rand(1, 1, 4, 5, 5)
    layers, _ = theirs(tool, Steps(grouped, time=1), x)
    assert layers["network"][0] == 9 * 9 * 8
    assert energy.measure(Steps(grouped), x).products.loc[0, "dense_nominal"] == layers["network"][0]


def test_taps_on_padding_are_counted(tool: Any) -> None:
    ones = torch.ones(1, 1, 1, 4, 4)
    record = energy.measure(Steps(nn.Conv2d(1, 1, 3, padding=1, bias=False)), ones)
    layers, _ = theirs(tool, Steps(nn.Conv2d(1, 1, 3, padding=1, bias=False), time=1), ones)
    assert layers["network"][1] == ours(record)["network"][1] == 144
    assert record.products.loc[0, "exact"] == 100


def test_neurons_cost_the_same_whether_they_fire_or_not(tool: Any) -> None:
    silent = torch.zeros(T, B, 8)
    layers, _ = theirs(tool, Steps(neuron.IFNode(), time=1), silent.transpose(0, 1))
    np.testing.assert_allclose(ours(energy.measure(Steps(neuron.IFNode()), silent))["network"], layers["network"][:3])
    assert layers["network"][1] == T * 8


def test_inputs_with_time_first_are_divided_by_time(tool: Any, network: nn.Module, x: Tensor) -> None:
    # The tool takes the first size of the network's input for the number of samples.
    _, right = theirs(tool, Steps(network, time=1), x.transpose(0, 1))
    _, wrong = theirs(tool, Steps(network, time=0), x)
    assert wrong[0] == pytest.approx(right[0] * B / T)
    assert totals(energy.measure(Steps(network), x))[0] == pytest.approx(right[0])


def test_a_rectifier_is_judged_by_its_first_sample(tool: Any) -> None:
    # Activations are tested for spikes on output[0]; a first sample of zeros turns a whole batch into accumulates of
    # rate zero.
    x = torch.rand(1, 2, 8) + 0.1
    x[:, 0] = -1
    layers, _ = theirs(tool, Steps(nn.ReLU(), time=1), x.transpose(0, 1))
    assert list(layers["network"][:3]) == [8, 0, 0]
    assert ours(energy.measure(Steps(nn.ReLU()), x))["network.relu-1"][2] == 8


def test_layers_of_spikingjelly_are_invisible_to_it(tool: Any) -> None:
    # It looks modules up by their exact class, and SpikingJelly's linear layer is a subclass of torch's.
    layer = importlib.import_module("spikingjelly.activation_based.layer")
    layers, _ = theirs(tool, Steps(layer.Linear(8, 3), time=1), torch.ones(B, T, 8))
    assert layers == {}
    # A record knows the name of a class only: here the count is what the tool should have given.
    assert ours(energy.measure(Steps(layer.Linear(8, 3, bias=False)), torch.ones(T, B, 8)))["network"][1] == T * 24


# Published by the tool's documentation: G ACs, G MACs, mJ.
README = [("spiking_resnet18", 0.10, 0.14, 0.734), ("sew_resnet18", 0.50, 2.75, 13.10), ("DSNN18", 1.69, 0.20, 2.44),
          ("resnet18", 0.0, 1.82, 8.372)]  # fmt: skip


@pytest.mark.parametrize(("acs", "macs", "published"), [row[1:] for row in README], ids=[row[0] for row in README])
def test_published_rows(acs: float, macs: float, published: float) -> None:
    record = Record.from_layers(
        [
            {"layer": "real", "operand": "real", "dense": macs * 1e9},
            {"layer": "spikes", "operand": "binary", "dense": 1e10, "effective": acs * 1e9},
        ],
        T=4,
    )
    table = energy.price(record, "syops")
    assert table["total"].sum() / 1e9 == pytest.approx(published, rel=1e-3)
    assert table.attrs["figures"]["acs"] == pytest.approx(acs * 1e9)
    assert table.attrs["figures"]["macs"] == pytest.approx(macs * 1e9)
