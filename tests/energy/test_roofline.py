"""Dense processors: published peaks, both sides of the roof, and no reward for silence."""

import pytest
import torch
from torch import nn

import energy
import neurons
from energy import Record
from neurons.errors import OptionError


def fc(macs: float, weights: int, rate: float = 1.0, T: int = 1) -> Record:
    return Record.from_layers(
        [{"layer": "fc", "operand": "binary", "dense": macs, "effective": rate * macs, "weights": weights}], T=T
    )


@pytest.mark.parametrize(
    ("hardware", "precision", "published"),
    [("h100", "bf16", 0.71), ("a100", "bf16", 1.28), ("a100", "int8", 0.64), ("tpuv4", "bf16", 0.70)],
)
def test_published_peaks(hardware: str, precision: str, published: float) -> None:
    table = energy.price(fc(1e12, 0), "roofline", hardware, precision=precision)
    assert table["total"].sum() / 2e12 == pytest.approx(published, abs=0.005)
    assert table.attrs["figures"]["pJ_per_flop"] == pytest.approx(published, abs=0.005)


def test_a_multiply_accumulate_of_an_h100() -> None:
    assert energy.price(fc(1e12, 0), "roofline", "h100")["total"].sum() / 1e12 == pytest.approx(1.4, abs=0.02)


def test_utilisation_divides() -> None:
    full, low = (energy.price(fc(1e12, 0), "roofline", utilisation=u)["total"].sum() for u in (1.0, 0.05))
    assert low == pytest.approx(20 * full)
    warnings = [energy.price(fc(1e12, 0), "roofline", utilisation=u).attrs["warnings"] for u in (1.0, 0.05)]
    assert [any("lower bound" in warning for warning in found) for found in warnings] == [True, False]


def test_memory_bound_layers_wait_for_weights() -> None:
    # One sample: 2 FLOPs for each weight of two bytes.
    table = energy.price(fc(1e9, 10**9), "roofline")
    seconds = 2e9 / 1555e9
    assert table["total"].sum() == pytest.approx(400 * seconds * 1e12)
    assert table.loc[0, "compute"] == pytest.approx(400 * 2e9 / 312e12 * 1e12)
    assert table.loc[0, "memory_weight"] == pytest.approx(table["total"].sum() - table.loc[0, "compute"])
    figures = table.attrs["figures"]
    assert figures["bound"] == "memory"
    assert figures["seconds"] == pytest.approx(seconds)


def test_a_batch_shares_the_weights() -> None:
    batch = [energy.price(fc(1e9, 10**9), "roofline", batch=b)["total"].sum() for b in (1, 10, 10_000)]
    assert batch[0] == pytest.approx(10 * batch[1])
    assert batch[2] == pytest.approx(400 * 2e9 / 312e12 * 1e12)


def test_the_roof_is_the_higher_side_for_each_layer() -> None:
    rows = [
        {"layer": "compute", "operand": "real", "dense": 1e12},
        {"layer": "memory", "operand": "real", "dense": 1.0, "weights": 10**9},
    ]
    seconds = 2e12 / 312e12 + 2e9 / 1555e9
    table = energy.price(Record.from_layers(rows, T=1), "roofline")
    assert table["total"].sum() == pytest.approx(400 * seconds * 1e12)
    assert table.attrs["figures"]["seconds"] == pytest.approx(seconds)


def test_silence_saves_nothing_and_every_step_costs() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(64, 64), neurons.LIF())
    silent, busy = (energy.measure(network, torch.full((8, 2, 64), value)) for value in (0.0, 1.0))
    assert energy.price(silent, "roofline")["total"].sum() == energy.price(busy, "roofline")["total"].sum()
    once = energy.measure(network, torch.ones(1, 2, 64))
    one, eight = (energy.price(record, "roofline").set_index("layer") for record in (once, busy))
    assert eight.loc["0", "compute"] == pytest.approx(8 * one.loc["0", "compute"])
    assert any("save nothing" in warning for warning in eight.attrs["warnings"])


def test_states_that_leave_the_registers() -> None:
    record = energy.measure(neurons.LIF(), torch.ones(4, 1, 100))
    fused, apart = (energy.price(record, "roofline", fused=f).iloc[0] for f in (True, False))
    assert apart["total"] / fused["total"] == pytest.approx(2)
    assert apart["memory_state"] > 0


def test_prices_of_operations_and_bytes() -> None:
    row = energy.price(fc(1e6, 1000), "roofline", flop=0.5, byte=10.0).iloc[0]
    assert row["compute"] == pytest.approx(0.5 * 2e6)
    assert row["memory_weight"] == pytest.approx(10 * 2 * 1000)


def test_a_cpu_in_single_precision() -> None:
    table = energy.price(fc(1e9, 0), "roofline", "cpu", precision="fp32")
    assert table["total"].sum() == pytest.approx(130 * 2e9 / 0.3456e12 * 1e12)


@pytest.mark.parametrize(("hardware", "missing"), [("edge-tpu", "peak_bf16"), ("speck", "power"), ("45nm", "power")])
def test_hardware_without_what_it_takes(hardware: str, missing: str) -> None:
    with pytest.raises(OptionError, match=f"hardware '{hardware}' has no constant '{missing}'"):
        energy.price(fc(1.0, 1), "roofline", hardware)


@pytest.mark.parametrize(
    "options",
    [{"precision": "fp64"}, {"batch": 0}, {"utilisation": 0.0}, {"utilisation": 1.5}, {"flop": 1.0}, {"byte": -1.0}],
)
def test_wrong_options(options: dict) -> None:
    with pytest.raises(OptionError):
        energy.price(fc(1.0, 1), "roofline", **options)
