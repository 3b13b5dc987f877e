"""What must hold for every energy model, and the options of each."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import energy
from energy import EnergyModel, Record, hardware
from neurons.errors import DataError, OptionError, UnknownNameError

MODELS = energy.names()


def layers(scale: float, rate: float, operand: str = "binary") -> Record:
    dense, updates = 1000.0 * scale, 100.0 * scale
    return Record.from_layers(
        [
            {"layer": "fc", "operand": operand, "dense": dense, "effective": dense * rate, "inputs": 10.0 * scale,
             "weights": 250 * int(scale)},
            {"layer": "lif", "kind": "neuron", "updates": updates, "ops": {"add": 3, "mul": 2, "cmp": 1}},
        ],
        T=4,
    )  # fmt: skip


def test_the_models_of_this_package() -> None:
    assert {"op-count", "typed-horowitz", "step"} <= set(MODELS)
    assert all(energy.describe(name) for name in MODELS)


def test_unconfirmed_constants_are_named_where_a_price_rests_on_them() -> None:
    wide = Record.from_layers([{"dense": 10.0, "operand": "quantised", "bits": 12}], T=1)
    assert any(
        "unconfirmed constants in 45nm: int16_mul" in w for w in energy.price(wide, "typed-horowitz").attrs["warnings"]
    )


@given(inputs=st.integers(1, 12), outputs=st.integers(1, 12), batch=st.integers(1, 3))
@settings(max_examples=15, deadline=None)
def test_full_rate_in_one_step_makes_as_many_accumulates_as_the_twin_has_macs(
    inputs: int, outputs: int, batch: int
) -> None:
    layer = nn.Linear(inputs, outputs)
    spiking = energy.measure(layer, torch.ones(1, batch, inputs))
    twin = energy.measure(layer, torch.rand(1, batch, inputs) * 0.5 + 0.25)
    assert energy.price(spiking, ac=1.0)["total"].sum() == energy.price(twin, mac=1.0)["total"].sum()


@pytest.mark.parametrize("convention", ["exact", "nominal"])
def test_full_rate_holds_for_convolutions_too(convention: str) -> None:
    layer = nn.Conv2d(2, 3, 3, stride=2, padding=1)
    spiking = energy.measure(layer, torch.ones(1, 2, 7, 7))
    twin = energy.measure(layer, torch.rand(1, 2, 7, 7) * 0.5 + 0.25)
    a = energy.price(spiking, ac=1.0, convention=convention)["total"].sum()
    assert a == pytest.approx(energy.price(twin, mac=1.0, convention=convention)["total"].sum())


INTEGER = {"layer": "fc", "operand": "integer", "dense": 1000.0, "effective": 100.0, "bits": 3,
           "events_exact": 250.0, "events_nominal": 250.0, "planes_exact": 150.0, "planes_nominal": 150.0}  # fmt: skip


@pytest.mark.parametrize(("rule", "expected"), [("unrolled", 0.9 * 250), ("mac", 4.6 * 100), ("ac", 0.9 * 100)])
def test_rule_for_integers(rule: str, expected: float) -> None:
    record = Record.from_layers([INTEGER], T=4)
    assert energy.price(record, integers=rule)["total"].sum() == pytest.approx(expected)
    assert energy.price(record, "step", integers=rule)["compute"].sum() == pytest.approx(expected)


def test_unrolling_under_the_fan_out_convention() -> None:
    record = Record.from_layers([{**INTEGER, "fan_out": 80.0}], T=4)
    assert energy.price(record, convention="fan_out", ac=1.0)["total"].sum() == pytest.approx(80 * 2.5)


def test_an_integer_met_by_a_spike_is_one_addition() -> None:
    record = Record.from_layers([{**INTEGER, "kind": "matmul", "second_operand": "binary", "second_bits": 1}], T=4)
    assert energy.price(record)["total"].sum() == pytest.approx(0.9 * 100)
    assert energy.price(record, "typed-horowitz")["compute"].sum() == pytest.approx(0.1 * 100)


@pytest.mark.parametrize(("bits", "expected"), [(4, 0.2 + 0.1), (8, 0.2 + 0.1), (12, 1.0 + 0.1), (20, 3.1 + 0.1)])
def test_typed_multiplier_follows_the_bits(bits: int, expected: float) -> None:
    record = Record.from_layers([{"layer": "fc", "operand": "quantised", "dense": 10.0, "bits": bits}], T=1)
    table = energy.price(record, "typed-horowitz")
    assert table["compute"].sum() == pytest.approx(10 * expected)
    assert any("weakly supported" in w for w in table.attrs["warnings"]) == (bits == 12)


def test_typed_real_operands_take_their_own_type() -> None:
    double = [{"layer": "fc", "operand": "real", "dense": 10.0, "bits": bits} for bits in (32, 16)]
    single, half = (energy.price(Record.from_layers([row], T=1), "typed-horowitz")["compute"].sum() for row in double)
    assert (single, half) == (pytest.approx(46), pytest.approx(15))


def test_typed_bias() -> None:
    record = energy.measure(nn.Linear(8, 4), torch.ones(2, 3, 8))
    without, with_bias = (energy.price(record, "typed-horowitz", bias=bias)["compute"].sum() for bias in (False, True))
    assert with_bias - without == pytest.approx(0.1 * 2 * 4)


def test_event_frames_may_count_their_non_zero_pixels_only() -> None:
    x = torch.zeros(1, 2, 8)
    x[..., 0] = 0.5
    record = energy.measure(nn.Linear(8, 4), x)
    assert energy.price(record, first_layer="nonzero")["total"].sum() == pytest.approx(4.6 * 4)
    assert energy.price(record)["total"].sum() == pytest.approx(4.6 * 32)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [("op-count", {"mac": -1.0}, "mac must not be negative"), ("op-count", {"integers": "x"}, "integers is"),
     ("op-count", {"convention": "exactly"}, "convention is"), ("op-count", {"wieght": 1}, "no option 'wieght'"),
     ("typed-horowitz", {"weights": "int4"}, "weights is"), ("step", {"weight_fetch": "never"}, "weight_fetch is"),
     ("step", {"weight_bits": -8}, "weight_bits must not be negative")],
)  # fmt: skip
def test_wrong_options(model: str, options: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        energy.price(layers(1.0, 0.1), model, **options)


def test_unknown_names() -> None:
    with pytest.raises(UnknownNameError, match="op-count"):
        energy.price(layers(1.0, 0.1), "opcount")
    with pytest.raises(UnknownNameError, match="45nm"):
        energy.price(layers(1.0, 0.1), hardware="45")


PROFILE = "title: mine\nconstants:\n  fp32_add: {value: %s, source: here}\n  fp32_mul: {value: 3, source: here}\n"


def test_a_profile_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(PROFILE % 2)
    assert energy.price(layers(1.0, 0.5), hardware=path)["total"].sum() == 2 * 500
    with pytest.raises(OptionError, match="no constant 'memory_bit'"):
        energy.price(layers(1.0, 0.5), "step", hardware=path)


@pytest.mark.parametrize("value", ["-1", "nan", "abc", "null"])
def test_a_profile_with_a_wrong_constant(tmp_path: Path, value: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(PROFILE % value)
    with pytest.raises(DataError, match="'fp32_add' of hardware profile 'mine'"):
        energy.price(layers(1.0, 0.5), hardware=path)


def test_a_profile_that_is_not_yaml(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("constants: [")
    with pytest.raises(DataError, match="not YAML"):
        hardware.load(path)


def test_every_constant_has_a_source() -> None:
    for name in hardware.names():
        assert all(constant.source for constant in hardware.load(name).constants.values())


def test_a_model_of_ones_own() -> None:
    from dataclasses import dataclass

    @dataclass(frozen=True, kw_only=True)
    class PerUpdate(EnergyModel):
        """One price for each neuron update."""

        source = "this test"
        pj: float = 2.0

        def price_layer(self, layer, hardware):
            from energy.models import Price

            return Price({"neuron": self.pj * layer.updates}) if layer.is_neuron else None

    table = energy.price(layers(1.0, 0.1), PerUpdate(pj=3.0))
    assert table["total"].sum() == 300
    assert list(table["applicable"]) == [False, True]


def test_silent_layers_are_named_in_the_warnings():
    from neurons import LIF

    network = nn.Sequential(nn.Linear(4, 3, bias=False), LIF())
    nn.init.zeros_(network[0].weight)
    silent = energy.price(energy.measure(network, torch.ones(2, 1, 4))).attrs["warnings"]
    assert any("1 of 1 spiking layers sent no spike" in warning for warning in silent)
    nn.init.constant_(network[0].weight, 5.0)
    awake = energy.price(energy.measure(network, torch.ones(2, 1, 4))).attrs["warnings"]
    assert not any("no spike" in warning for warning in awake)
