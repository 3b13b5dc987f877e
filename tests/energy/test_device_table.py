"""Device tables: KerasSpiking's equations, its devices, and chips with one price."""

import math

import pytest
import torch
from torch import nn

import energy
import neurons
from energy import Record
from neurons.errors import OptionError

T = 4


@pytest.fixture(scope="module")
def golden() -> Record:
    """784 to 128, 313.6 spikes in 4 steps, IF."""
    torch.manual_seed(0)
    x = torch.zeros(T * 5 * 784)
    x[torch.randperm(x.numel())[:1568]] = 1.0
    return energy.measure(nn.Sequential(nn.Linear(784, 128), neurons.IF()), x.view(T, 5, 784))


def dense(rate: float, steps: int) -> Record:
    """The worked example: a dense layer 784 to 128."""
    macs, updates = 784 * 128 * steps, 128 * steps
    return Record.from_layers(
        [
            {"layer": "dense", "operand": "binary", "dense": macs, "effective": rate * macs},
            {"layer": "neurons", "kind": "neuron", "updates": updates},
        ],
        T=steps,
    )


def joules(table: object) -> float:
    return float(table["total"].sum()) * 1e-12


@pytest.mark.parametrize(
    ("hardware", "nanojoules"),
    [("loihi", 1_129), ("spinnaker2", 19_185), ("truenorth", 1_044), ("seneca", 112.4)],
)
def test_rows_of_the_fixture(golden: Record, hardware: str, nanojoules: float) -> None:
    assert joules(energy.price(golden, "device-table", hardware)) * 1e9 == pytest.approx(nanojoules, rel=5e-4)


def test_worked_examples_of_kerasspiking() -> None:
    # A cpu runs the layer once, whatever the steps and rates.
    assert joules(energy.price(dense(1.0, 1), "device-table", "cpu")) == pytest.approx(8.64e-4, rel=1e-3)
    assert joules(energy.price(dense(0.1, 10), "device-table", "cpu")) == pytest.approx(8.64e-4, rel=1e-3)
    custom = energy.price(dense(1.0, 1), "device-table", "cpu", synop=100.0, neuron=2000.0)
    assert joules(custom) == pytest.approx(1.03e-5, rel=2e-3)
    assert joules(energy.price(dense(0.1, 10), "device-table")) == pytest.approx(2.823e-6, rel=2e-4)


@pytest.mark.parametrize(
    ("hardware", "synop", "update"),
    [("gpu-titan-black", 300, 300), ("arm", 900, 900), ("spinnaker", 13_300 * 0.4, 26_000 * 4)],
)
def test_the_other_devices_of_kerasspiking(golden: Record, hardware: str, synop: float, update: float) -> None:
    expected = 100_352 * synop + 128 * update
    assert energy.price(golden, "device-table", hardware)["total"].sum() == pytest.approx(expected)


@pytest.mark.parametrize("hardware", ["odin", "reckon", "tianjic", "seneca", "truenorth", "ubrain", "darwin"])
def test_a_chip_with_one_price_has_no_neuron_part(golden: Record, hardware: str) -> None:
    table = energy.price(golden, "device-table", hardware)
    assert table.loc[0, "compute"] > 0
    assert math.isnan(table.loc[1, "neuron"])
    assert not table.loc[1, "applicable"]
    assert any("neuron" in warning for warning in table.attrs["warnings"])


def test_events_of_snntorch() -> None:
    # Its test of a device at 8.6 nJ: two synaptic and two neuron events are 3.44e-8 J; with two bias events 5.16e-8 J.
    record = energy.measure(nn.Sequential(nn.Linear(1, 2), neurons.IF()), torch.ones(1, 1, 1))
    options = {"synop": 8600.0, "neuron": 8600.0, "event_driven": True}
    assert joules(energy.price(record, "device-table", **options)) == pytest.approx(3.44e-8)
    assert joules(energy.price(record, "device-table", bias=True, **options)) == pytest.approx(5.16e-8)


def test_no_spikes_arrive_from_real_inputs() -> None:
    x = torch.tensor([0.5, 0.0, 0.25]).expand(2, 1, 3)
    record = energy.measure(nn.Sequential(nn.Linear(3, 4), neurons.IF()), x)
    table = energy.price(record, "device-table")
    assert math.isnan(table.loc[0, "total"])
    assert table.attrs["unpriced"] == ["0"]
    counted = energy.price(record, "device-table", inputs="nonzero")
    assert counted.loc[0, "compute"] == pytest.approx(2 * 2 * 4 * 27.1)


def test_sums_of_spikes_are_so_many_events() -> None:
    record = energy.measure(nn.Linear(2, 3, bias=False), torch.tensor([2.0, 1.0]).expand(1, 1, 2))
    assert energy.price(record, "device-table", synop=1.0).loc[0, "compute"] == pytest.approx(9.0)


def test_attention_has_no_synapses_on_a_chip() -> None:
    class Attention(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ x.transpose(-1, -2)

    record = energy.measure(Attention(), torch.ones(2, 1, 3, 5))
    chip, cpu = (energy.price(record, "device-table", hardware).iloc[-1] for hardware in ("loihi", "cpu"))
    assert chip["note"].startswith("no price")
    assert cpu["compute"] == pytest.approx(8600 * 45)


def test_a_relu_twin_has_no_price_on_a_spiking_chip() -> None:
    record = energy.measure(nn.Sequential(nn.Linear(3, 4), neurons.ReLU(), nn.Linear(4, 2)), torch.rand(1, 2, 3) + 0.1)
    table = energy.price(record, "device-table")
    assert table["total"].isna().all()
    assert len(table.attrs["unpriced"]) == 3
    assert joules(energy.price(record, "device-table", "cpu")) == pytest.approx(8.6e-9 * (12 + 8 + 4))


def test_a_chip_without_a_price_of_an_operation(golden: Record) -> None:
    with pytest.raises(OptionError, match="hardware 'speck' has no constant 'synop'"):
        energy.price(golden, "device-table", "speck")


def test_a_process_is_no_device(golden: Record) -> None:
    with pytest.raises(OptionError, match="'45nm' does not say whether it is event-driven"):
        energy.price(golden, "device-table", "45nm", synop=1.0)


@pytest.mark.parametrize(
    "options", [{"synop": -1.0}, {"neuron": -1.0}, {"inputs": "all"}, {"convention": "x"}, {"event_driven": "yes"}]
)
def test_wrong_options(golden: Record, options: dict) -> None:
    with pytest.raises(OptionError):
        energy.price(golden, "device-table", **options)


def test_static_power_is_charged_when_the_time_is_stated(golden: Record) -> None:
    table = energy.price(golden, "device-table", seconds=1e-3)
    assert table.set_index("layer").loc["static power", "static"] == pytest.approx(0.03 * 1e-3 * 1e12)
    assert not table.attrs["constants"]["static_power"]["confirmed"]
