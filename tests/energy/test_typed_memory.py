"""Memory by level under the typed Horowitz model, reuse under STEP's, and the constants of other technologies."""

import math

import pytest
import torch
from torch import nn

import energy
import neurons
from energy import Record, hardware
from neurons.errors import OptionError

T = 4
FC = {"layer": "fc", "operand": "binary", "dense": 4000.0, "effective": 400.0, "inputs": 400.0, "weights": 1000}


def fully_connected(weights: int, **values: object) -> Record:
    return Record.from_layers([{**FC, "weights": weights, **values}], T=T)


@pytest.mark.parametrize(
    ("kilobytes", "access"), [(8, 10), (8.001, 20), (32, 20), (32.001, 100), (1024, 100), (1024.001, 1300)]
)
def test_a_buffer_lies_in_the_smallest_memory_that_holds_it(kilobytes: float, access: float) -> None:
    # Eight int8 weights share a 64-bit access.
    table = energy.price(fully_connected(math.ceil(kilobytes * 1024)), "typed-horowitz")
    assert table["memory_weight"].sum() == pytest.approx(400 * access / 8)


def test_wider_weights_fill_a_memory_earlier() -> None:
    prices = [
        energy.price(fully_connected(4096), "typed-horowitz", weights=kind)["memory_weight"].sum()
        for kind in ("int8", "int16", "int32")
    ]
    assert prices == [pytest.approx(400 * 10 / 8), pytest.approx(400 * 10 / 4), pytest.approx(400 * 20 / 2)]


def test_a_weight_may_be_fetched_once_for_each_step() -> None:
    table = energy.price(fully_connected(1000), "typed-horowitz", weight_fetch="layer")
    assert table["memory_weight"].sum() == pytest.approx(T * 1000 * 10 / 8)


def test_parts_of_a_measured_layer() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(100, 50), neurons.IF())
    x = (torch.rand(T, 2, 100) < 0.3).float()
    table = energy.price(energy.measure(network, x), "typed-horowitz").set_index("layer")
    spikes, sent = x.sum().item() / 2, energy.measure(network, x).spikes
    assert sent > 0
    # 5000 bytes of weights, 50 bytes of biases, 100 and 50 bits of spikes, 200 bytes of potentials: all in 8 KB.
    assert table.loc["0", "memory_weight"] == pytest.approx((spikes * 50 + T * 50) * 10 / 8)
    assert table.loc["0", "memory_activation"] == pytest.approx(spikes * 10 / 64)
    assert table.loc["1", "memory_activation"] == pytest.approx(sent * 10 / 64)
    assert table.loc["1", "memory_state"] == pytest.approx(2 * T * 50 * 10 / 2)


def test_without_a_neuron_the_sums_are_written() -> None:
    table = energy.price(energy.measure(nn.Linear(100, 50), torch.rand(1, 1, 100) + 0.1), "typed-horowitz")
    assert table["memory_activation"].sum() == pytest.approx((100 + 50) * 10 / 2)
    # Real weights take 32 bits whatever the type of those that meet spikes: 20,000 bytes.
    assert table["memory_weight"].sum() == pytest.approx(5000 * 20 / 2 + 50 * 10 / 2)


def test_arithmetic_alone() -> None:
    record = fully_connected(1000)
    alone, both = (energy.price(record, "typed-horowitz", memory=memory) for memory in (False, True))
    assert alone["total"].sum() == alone["compute"].sum() == both["compute"].sum()
    assert alone[[c for c in alone if c.startswith("memory")]].isna().all(axis=None)


def test_a_buffer_of_unknown_size_has_no_price() -> None:
    table = energy.price(fully_connected(0), "typed-horowitz")
    assert math.isnan(table.loc[0, "memory_weight"])
    assert table.attrs["unpriced"] == ["fc"]


def test_two_tables_disagree_on_a_32_kb_memory() -> None:
    # 20 pJ for 64 bits against 5 pJ for 32 bits: a factor of two for the same bit, which mixtures of both hide.
    constants = hardware.load("45nm").constants
    horowitz, eie = constants["sram_32kb"].value / 64, constants["eie_sram_32kb"].value / 32
    assert horowitz / eie == 2
    assert constants["sram_32kb"].confirmed
    assert not constants["eie_sram_32kb"].confirmed
    assert constants["eie_dram"].value / 32 == pytest.approx(constants["dram"].value / 64, rel=0.02)


@pytest.mark.parametrize("model", ["op-count", "typed-horowitz"])
def test_7_nm_prices_what_45_nm_does(model: str) -> None:
    rows = [FC, {**FC, "layer": "real", "operand": "real"}, {**FC, "layer": "codes", "operand": "quantised"}]
    record = Record.from_layers(rows, T=T)
    old, new = (energy.price(record, model, hardware=node) for node in ("45nm", "7nm"))
    assert (new["total"] < old["total"]).all()
    assert any("unconfirmed constants in 7nm" in warning for warning in new.attrs["warnings"])


def test_no_value_of_secondary_sources_is_called_confirmed() -> None:
    for node in ("7nm", "22nm"):
        assert not any(constant.confirmed for constant in hardware.load(node).constants.values())


def golden(operand: str) -> Record:
    common = {"layer": "fc", "dense": 100_352.0, "inputs": 784.0}
    if operand == "quantised":
        planes = 0.5 * 8 * 100_352
        return Record.from_layers(
            [{**common, "operand": operand, "planes_nominal": planes, "planes_exact": planes}], T=1
        )
    neuron = {"layer": "if", "kind": "neuron", "updates": 512.0}
    return Record.from_layers([{**common, "operand": "binary", "dense": T * 100_352, "effective": 313.6 * 128}, neuron],
                              T=T)  # fmt: skip


def test_step_with_memory() -> None:
    spiking, quantised = (energy.price(golden(operand), "step") for operand in ("binary", "quantised"))
    assert spiking["compute"].sum() / 1000 == pytest.approx(36.1, abs=0.05)
    assert quantised["compute"].sum() / 1000 == pytest.approx(361.3, abs=0.05)
    memory = spiking["memory_weight"].sum() + spiking["memory_state"].sum()
    assert memory / 1000 == pytest.approx(1_104, abs=0.5)
    assert quantised["memory_weight"].sum() / 1000 == pytest.approx(2_505, abs=0.5)


def test_reuse_of_weights_serves_dense_layers_only() -> None:
    for reuse in (2.0, 16.0):
        spiking, quantised = (energy.price(golden(o), "step", weight_reuse=reuse) for o in ("binary", "quantised"))
        assert quantised["memory_weight"].sum() / 1000 == pytest.approx(2_505 / reuse, rel=1e-3)
        assert spiking["memory_weight"].sum() / 1000 == pytest.approx(1_002, abs=0.5)
    # From a reuse of three the ranking of the two turns round.
    assert 2_505 / 2 > 1_104 > 2_505 / 3


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [("step", {"weight_reuse": 0.5}, "weight_reuse is at least 1"),
     ("step", {"weight_reuse": 2.0, "weight_fetch": "layer"}, "fetched by the operation"),
     ("typed-horowitz", {"weight_fetch": "never"}, "weight_fetch is")],
)  # fmt: skip
def test_wrong_options(model: str, options: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        energy.price(golden("binary"), model, **options)
