"""SpikingJelly's simple energy: its golden row, its rules, and its own estimator on the same networks."""

import importlib
import math
from collections.abc import Callable

import pandas as pd
import pytest
import torch
from torch import nn

import energy
import neurons
from energy import Record
from neurons.errors import OptionError

op_counter = importlib.import_module("spikingjelly.activation_based.op_counter")
sj_functional = importlib.import_module("spikingjelly.activation_based.functional")
sj_layer = importlib.import_module("spikingjelly.activation_based.layer")
sj_neuron = importlib.import_module("spikingjelly.activation_based.neuron")

T = 4


def spiking(bias: int = 0, ops: dict[str, int] | None = None) -> Record:
    """784 to 128 at a rate of 0.1 over 4 steps."""
    return Record.from_layers(
        [
            {"layer": "fc", "operand": "binary", "dense": T * 100_352, "effective": 313.6 * 128, "inputs": T * 784,
             "outputs": T * 128, "bias": bias},
            {"layer": "if", "kind": "neuron", "updates": T * 128, "nonzero_outputs": 25.6, "ops": ops or {}},
        ],
        T=T,
    )  # fmt: skip


def test_golden_row() -> None:
    table = energy.price(spiking(), "spikingjelly")
    assert table["compute"].sum() / 1000 == pytest.approx(36.13, abs=0.005)
    assert table["memory_weight"].sum() / 1000 == pytest.approx(4_008, abs=0.5)
    assert table["memory_state"].sum() / 1000 == pytest.approx(102, abs=0.5)
    assert table["total"].sum() / 1000 == pytest.approx(4_146, abs=0.5)
    twin = Record.from_layers([{"operand": "real", "dense": 100_352}], T=1)
    assert energy.price(twin, "spikingjelly")["total"].sum() / 1000 == pytest.approx(10_481, abs=0.5)


def test_a_bias_is_read_for_every_output_and_its_addition_is_free() -> None:
    # The golden row has no bias; with one it rises by 51 nJ.
    plain, biased = (energy.price(spiking(bias), "spikingjelly") for bias in (0, 128))
    assert biased["memory_weight"].sum() - plain["memory_weight"].sum() == pytest.approx(T * 128 * 4 * 24.96)
    assert biased["compute"].sum() == plain["compute"].sum()


@pytest.mark.parametrize(("precision", "mac", "ac"), [("fp32", 4.6, 0.9), ("fp16", 1.5, 0.4), ("int8", 0.23, 0.03)])
def test_presets_change_operations_only(precision: str, mac: float, ac: float) -> None:
    spikes = energy.price(spiking(), "spikingjelly", precision=precision)
    real = energy.price(Record.from_layers([{"operand": "real", "dense": 10.0}], T=1), "spikingjelly",
                        precision=precision)  # fmt: skip
    preset = getattr(op_counter.SimpleEnergyCostConfig, precision)()
    assert (preset.e_mac_pj, preset.e_ac_pj) == (mac, ac)
    assert spikes["compute"].sum() == pytest.approx(313.6 * 128 * preset.e_ac_pj)
    assert real["compute"].sum() == pytest.approx(10 * preset.e_mac_pj)
    assert real["memory_weight"].sum() == pytest.approx(10 * 4 * preset.e_memory_pj_per_byte)


def test_width_of_the_weights() -> None:
    wide, narrow = (energy.price(spiking(), "spikingjelly", weight_bits=bits) for bits in (32, 8))
    assert wide["memory_weight"].sum() == pytest.approx(4 * narrow["memory_weight"].sum())
    assert wide["memory_state"].sum() == narrow["memory_state"].sum()


@pytest.mark.parametrize("operand", ["ternary", "integer", "quantised", "real"])
def test_only_zeros_and_ones_make_accumulates(operand: str) -> None:
    record = Record.from_layers([{"operand": operand, "dense": 100.0, "effective": 10.0}], T=1)
    assert energy.price(record, "spikingjelly")["compute"].sum() == pytest.approx(4.6 * 100)


def test_neuron_arithmetic_costs_its_additions() -> None:
    table = energy.price(spiking(ops={"add": 3, "mul": 2, "cmp": 1}), "spikingjelly").set_index("layer")
    assert table.loc["if", "neuron"] == pytest.approx(0.9 * 3 * T * 128)
    assert math.isnan(energy.price(spiking(), "spikingjelly").set_index("layer").loc["if", "neuron"])  # not known


def test_what_it_does_not_count_has_no_price() -> None:
    network = nn.Sequential(nn.Linear(8, 8), neurons.ReLU(), nn.LayerNorm(8), nn.Softmax(-1))
    table = energy.price(energy.measure(network, torch.rand(1, 2, 8)), "spikingjelly").set_index("layer")
    assert table["applicable"].to_dict() == {"0": True, "1": False, "2": False, "3": False}


@pytest.mark.parametrize(
    ("options", "message"),
    [({"precision": "fp64"}, "precision is"), ({"weight_bits": -1}, "weight_bits must not"),
     ({"norms": "no"}, "norms is")],
)  # fmt: skip
def test_wrong_options(options: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        energy.price(spiking(), "spikingjelly", **options)


# The estimator itself ------------------------------------------------------------------------------------------------


class EveryStep(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([self.network(step) for step in x])


def both(network: nn.Module, x: torch.Tensor) -> tuple[object, pd.DataFrame]:
    network.eval()
    sj_functional.reset_net(network)
    report = op_counter.estimate_simple_energy(network, x)
    return report, energy.price(energy.measure(network, x), "spikingjelly")


def compute(table: pd.DataFrame) -> float:
    return float(table["compute"].sum() + table["neuron"].sum())


@pytest.fixture(scope="module")
def spikes() -> torch.Tensor:
    return (torch.rand(3, 1, 2, 5, 5, generator=torch.Generator().manual_seed(0)) < 0.4).float()


@pytest.mark.parametrize("neuron", ["IFNode", "LIFNode"])
@pytest.mark.parametrize("scale", [1.0, 0.7])
def test_the_estimator_agrees_on_a_convolutional_network(neuron: str, scale: float, spikes: torch.Tensor) -> None:
    torch.manual_seed(1)
    make = getattr(sj_neuron, neuron)
    network = nn.Sequential(
        sj_layer.Conv2d(2, 4, 3, stride=2, padding=1), sj_layer.BatchNorm2d(4), make(v_threshold=0.1),
        nn.Flatten(), sj_layer.Linear(36, 5), make(v_threshold=0.1),
    )  # fmt: skip
    report, table = both(EveryStep(network), spikes * scale)
    # Spikes meet a counted sum of the estimator's own: of a map of 3 x 3 outputs at each of 3 steps. A batch norm
    # is counted there, and here, although most hardware folds it.
    own = 3 * (3 * 3 - 1) if scale == 1 else 0
    assert report.counts["ac"] > 0
    assert report.energy_compute_pj == pytest.approx(compute(table) + 0.9 * own)
    assert table["memory_weight"].sum() == pytest.approx(report.breakdown_pj["parameter_memory_pj"])
    assert table["memory_state"].sum() == pytest.approx(report.breakdown_pj["neuron_state_memory_pj"])
    assert report.counts["neuron_state_read_bytes"] == 4 * 3 * (36 + 5)
    folded = energy.price(energy.measure(EveryStep(network), spikes * scale), "spikingjelly", norms="folded")
    assert compute(table) - compute(folded) == pytest.approx(4.6 * 108 + 0.9 * (108 + 3 * 4))


def test_pooled_spikes_are_spikes_here_and_real_there() -> None:
    # One spike in four: averages are 0 or 1/4, a spike of another weight, but no 0 or 1. The pool itself is alike.
    x = torch.zeros(2, 1, 1, 4, 4)
    x[..., 0, ::2] = 1
    network = nn.Sequential(sj_neuron.IFNode(v_threshold=0.5), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4, 5))
    report, table = both(EveryStep(network), x)
    rows = table.set_index("kind")["compute"]
    assert report.counts["mac"] == 2 * 4 * 5
    assert rows["linear"] == pytest.approx(0.9 * 2 * 2 * 5)
    assert rows["pool"] == pytest.approx(0.9 * 2 * 4 * 3)


class Residual(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + x.flip(-1)


def test_the_estimator_agrees_on_sums_of_spikes(spikes: torch.Tensor) -> None:
    # Each spike of the two operands is an accumulate; their sum is no longer of spikes, and makes the linear layer
    # behind it dense multiply-accumulates.
    torch.manual_seed(0)
    network = nn.Sequential(Residual(), nn.Flatten(1), nn.Linear(50, 3))
    report, table = both(EveryStep(network), spikes)
    assert report.counts["ac"] == 2 * spikes.sum()
    assert report.counts["mac"] == 3 * 50 * 3
    assert table["total"].sum() == pytest.approx(report.energy_total_pj)


class Attention(nn.Module):
    def __init__(self, values: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.values = values

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q = x.flatten(0, 1).flatten(2)
        return (q @ q.transpose(1, 2)) @ self.values(q)


def test_the_estimator_agrees_on_products_of_activations(spikes: torch.Tensor) -> None:
    # Coincidences in Q K^T; in the second product every spike of V meets every score; a real V makes it dense.
    for values in (lambda q: q, lambda q: q * 0.3):
        report, table = both(Attention(values), spikes)
        assert report.counts["ac"] > 0
        assert compute(table) == pytest.approx(report.energy_compute_pj)
        assert table["memory_weight"].sum() == report.energy_memory_pj == 0


def test_additions_at_rest_are_fewer_there() -> None:
    # Potentials at rest are zeros, which pass their test of spikes: a first step of spikes into v = 0 costs its
    # spikes there, and an addition for every neuron here.
    x = (torch.rand(1, 1, 40, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    report, table = both(EveryStep(sj_neuron.IFNode(v_threshold=0.5)), x)
    assert 0 < report.counts["ac"] < compute(table) / 0.9


def test_means_are_sums_in_both() -> None:
    class Mean(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean(0)

    report, table = both(Mean(), torch.rand(3, 1, 7))
    assert report.counts["ac"] == 14
    assert compute(table) == pytest.approx(report.energy_compute_pj)


def test_a_sigmoid_is_no_accumulate() -> None:
    # The estimator counts the in-place form only (one each); the record does not tell the forms apart.
    class Sigmoid(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.clone().sigmoid_()

    report, table = both(Sigmoid(), torch.rand(1, 1, 7))
    assert report.counts["ac"] == 7
    assert not table["applicable"].any()
