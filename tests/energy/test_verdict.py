"""Who wins under which model, what moves the answer, and what turns it round."""

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pytest

import energy
from energy import EnergyModel, Record, hardware, judge
from energy.models import Choice, Price
from energy.models.op_count import OpCount
from energy.models.step_memory import StepMemory
from energy.verdict import FIRING_RATE, HEADLINE, TABLE
from neurons.errors import OptionError

T, WEIGHTS = 4, 784 * 128


def spiking(events: float = 40_140.8, **changes: Any) -> Record:
    """One layer, 784 to 128, with 0.4 spikes per synapse: the fixture on which published models disagree."""
    product = {
        "layer": "fc", "operand": "binary", "dense": float(T * WEIGHTS), "effective": events, "inputs": 3136.0,
        "nonzero": events / 128, "magnitude": events / 128, "weights": WEIGHTS, **changes,
    }  # fmt: skip
    neuron = {"layer": "if", "kind": "neuron", "updates": 512.0, "ops": {"add": 2, "cmp": 1}, "output": "binary",
              "nonzero_outputs": 25.6}  # fmt: skip
    return Record.from_layers([product, neuron], T=T)


def conventional(operand: str = "real", **changes: Any) -> Record:
    product = {"layer": "fc", "operand": operand, "dense": float(WEIGHTS), "inputs": 784.0, "weights": WEIGHTS}
    neuron = {"layer": "relu", "kind": "neuron", "updates": 128.0, "states": 0, "conventional": True, "output": "real",
              "ops": {"cmp": 1}}  # fmt: skip
    return Record.from_layers([product | changes, neuron], T=1)


def one(model: EnergyModel | str, network: Record, twin: Record, **options: Any) -> pd.Series:
    choice = Choice("m", model) if isinstance(model, EnergyModel) else model
    table = judge({"network": network, "twin": twin}, [choice], **options).table
    assert list(table.columns) == list(TABLE)
    assert len(table) == 1
    return table.iloc[0]


@dataclass(frozen=True, kw_only=True)
class Squared(EnergyModel):
    """A model that is linear in nothing: its price grows with the square of a constant and the root of the rate."""

    source = "this test"
    scale: float = 1.0

    def price_layer(self, layer, hardware):
        if not layer.is_product:
            return None
        if layer.gets_events:
            return Price({"compute": math.sqrt(layer.nonzero) * hardware["fp32_add"] ** 2})
        return Price({"compute": self.scale * math.sqrt(313.6) * hardware["fp32_add"]})


@dataclass(frozen=True, kw_only=True)
class Unitless(EnergyModel):
    """Counts, not joules."""

    source = "this test"
    unit = "bits"

    def price_layer(self, layer, hardware):
        return Price({"compute": layer.macs[0].exact}) if layer.is_product else None


def test_the_usual_convention_has_the_spiking_network_far_ahead() -> None:
    row = one(OpCount(), spiking(), conventional())
    assert row["network_total"] == pytest.approx(36_126.72)
    assert row["twin_total"] == pytest.approx(461_619.2)
    assert row["ratio"] == pytest.approx(36.13 / 461.6, rel=1e-3)
    assert row["winner"] == "network"
    # 4.6 / 0.9 allows 5.11 spikes per synapse, more than four steps can hold.
    assert row["break_even"] == math.inf
    assert row["decides"] == ""
    assert math.isnan(row["flip_factor"])


def test_an_int8_rival_of_fp32_accumulates_wins_above_a_quarter_of_a_spike_per_synapse() -> None:
    row = one(OpCount(mac=0.23, ac=0.9), spiking(), conventional())
    assert row["ratio"] == pytest.approx(1 / 0.639, rel=1e-3)
    assert row["winner"] == "twin"
    assert row["break_even_sps"] == pytest.approx(0.23 / 0.9)
    assert row["break_even_rate"] == pytest.approx(0.23 / 0.9 / T)
    assert row["break_even"] == pytest.approx(0.23 / 0.9 / 0.4)
    assert (row["decides"], row["flip_factor"]) == (FIRING_RATE, row["break_even"])


def test_memory_at_other_prices_is_what_repricing_says() -> None:
    row = one("step", spiking(), conventional())
    profile = hardware.load("45nm")
    for column, factor in (("ratio_memory_low", 0.5), ("ratio_memory_high", 1.5)):
        changed = profile.scaled("memory_bit", factor)
        network, twin = (energy.price(r, "step", changed)["total"].sum() for r in (spiking(), conventional()))
        assert row[column] == pytest.approx(network / twin)
    assert math.isnan(one(OpCount(), spiking(), conventional())["ratio_memory_low"])


def test_reuse_of_weights_is_bounded_by_one_fetch_for_an_inference_and_for_a_step() -> None:
    # 9 weights; the conventional layer uses each 100 times, the spiking one 200 times in its four steps.
    network = spiking(1800.0, dense=3600.0, weights=9)
    twin = conventional(dense=900.0, weights=9)
    row = one(StepMemory(), network, twin)
    bits = 8 * 3.12
    assert row["ratio_reuse"] == pytest.approx(
        (row["network_total"] - (1800 - 4 * 9) * bits) / (row["twin_total"] - (900 - 9) * bits)
    )
    # A weight that is fetched less than once a step stays as it is.
    sparse = one(StepMemory(), spiking(), conventional())
    assert sparse["ratio_reuse"] == pytest.approx(sparse["ratio"])


def test_a_model_that_takes_account_of_reuse_gets_none_on_top() -> None:
    class Reusing(StepMemory):
        reuses_weights = True

    assert math.isnan(one(Reusing(), spiking(), conventional())["ratio_reuse"])


def test_other_firing_rates_scale_what_depends_on_spikes() -> None:
    row = one(OpCount(), spiking(), conventional())
    assert row["ratio_rate_low"] == pytest.approx(row["ratio"] / 2)
    assert row["ratio_rate_high"] == pytest.approx(row["ratio"] * 1.5)
    busy = one(OpCount(), spiking(T * WEIGHTS * 0.8), conventional())
    assert math.isnan(busy["ratio_rate_high"])  # a neuron fires at most once a step


def test_the_constant_that_decides_makes_both_equal() -> None:
    # Two steps in which everything fires: the rate cannot grow, so that a constant must decide.
    fc = {"layer": "fc", "operand": "binary", "dense": 2.0 * WEIGHTS, "inputs": 1568.0, "nonzero": 1568.0}
    records = Record.from_layers([fc], T=2), conventional("quantised", bits=8)
    row = one("typed-horowitz", *records)
    assert row["winner"] == "network"
    assert row["break_even"] == math.inf
    assert row["decides"] not in ("", FIRING_RATE)
    changed = hardware.load("45nm").scaled(row["decides"], row["flip_factor"])
    network, twin = (energy.price(r, "typed-horowitz", changed)["total"].sum() for r in records)
    assert network == pytest.approx(twin)
    for constant in ("int8_mul", "int8_add", "int32_add"):  # nothing smaller turns it round
        nearer = hardware.load("45nm").scaled(constant, math.exp(0.99 * math.log(row["flip_factor"])))
        network, twin = (energy.price(r, "typed-horowitz", nearer)["total"].sum() for r in records)
        assert network < twin


def test_prices_that_are_not_linear_are_searched() -> None:
    row = one(Squared(scale=2.7), spiking(), conventional())
    # sqrt(f) 0.81 against 2.7 x 0.9: the constant would have to triple, the rate to grow ninefold.
    assert (row["decides"], row["flip_factor"]) == ("fp32_add", pytest.approx(3.0, rel=1e-6))
    assert row["break_even"] == pytest.approx(9.0, rel=1e-6)


def test_coincidences_of_two_spikes_grow_with_the_square_of_the_rate() -> None:
    both = {"second_operand": "binary", "second_inputs": 3136.0, "second_nonzero": 313.6, "kind": "matmul"}
    row = one(OpCount(mac=0.9, ac=0.9), spiking(**both), conventional())
    assert row["ratio"] == pytest.approx(0.4)
    assert row["break_even"] == pytest.approx(math.sqrt(1 / 0.4))
    assert row["break_even_sps"] == pytest.approx(1.0)


def test_a_network_whose_state_alone_is_dearer_never_breaks_even() -> None:
    twin = conventional()
    heavy = Record.from_layers(
        [{"layer": "fc", "operand": "binary", "dense": 4e5, "effective": 4e4, "inputs": 3136.0, "nonzero": 313.6},
         {"layer": "if", "kind": "neuron", "updates": 1e7, "output": "binary", "nonzero_outputs": 1.0}],
        T=T,
    )  # fmt: skip
    row = one("step", heavy, twin)
    assert (row["break_even"], row["break_even_sps"]) == (0.0, 0.0)
    assert row["winner"] == "twin"


def test_without_spikes_nothing_is_said_about_rates() -> None:
    row = one("step", conventional(), conventional("quantised", bits=8, planes_exact=1.0, planes_nominal=1.0))
    assert row[["ratio_rate_low", "ratio_rate_high", "break_even", "break_even_rate"]].isna().all()
    assert not math.isnan(row["ratio"])


@pytest.mark.parametrize(("events", "winner"), [(95_000, "network"), (98_000, "even"), (104_000, "even"),
                                                (106_000, "twin")])  # fmt: skip
def test_within_five_percent_nobody_wins(events: float, winner: str) -> None:
    assert one(OpCount(mac=0.9, ac=0.9), spiking(events), conventional())["winner"] == winner


def test_layers_without_a_price_make_the_verdict_partial() -> None:
    odd = Record.from_layers(
        [{"layer": "fc", "operand": "binary", "dense": 10.0},
         {"layer": "eif", "kind": "neuron", "updates": 10.0, "ops": {"exp": 1}}],
        T=1,
    )  # fmt: skip
    assert one("typed-horowitz", odd, conventional())["partial"]
    assert not one(OpCount(), odd, conventional())["partial"]


def test_a_model_that_applies_to_nothing_has_no_winner() -> None:
    neurons_only = Record.from_layers([{"layer": "if", "kind": "neuron", "updates": 8.0}], T=2)
    row = one(OpCount(), neurons_only, conventional())
    assert row["winner"] == "not applicable"
    assert math.isnan(row["ratio"])


def test_hardware_that_lacks_a_constant_makes_a_model_not_applicable_and_says_so(tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "title: mine\nconstants:\n  fp32_add: {value: 1.0, source: mine}\n  fp32_mul: {value: 3.0, source: mine}\n"
    )
    verdict = judge(
        {"network": spiking(), "twin": conventional()},
        [Choice("a", OpCount()), Choice("b", StepMemory())], hardware=path,
    )  # fmt: skip
    assert list(verdict.table["winner"]) == ["network", "not applicable"]
    assert "memory_bit" in verdict.notes.set_index("label").loc["b", "warnings"]
    with pytest.raises(OptionError, match="memory_bit"):
        judge({"network": spiking(), "twin": conventional()}, [StepMemory()], hardware=path)


def test_static_power_is_charged_to_both_where_the_hardware_knows_it(tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "title: mine\nconstants:\n  fp32_add: {value: 0.9, source: mine}\n  fp32_mul: {value: 3.7, source: mine}\n"
        "  static_power: {value: 1.0e-6, source: mine, unit: W}\n"
    )
    row = one(OpCount(), spiking(), conventional(), hardware=path, seconds=1e-3)
    plain = one(OpCount(), spiking(), conventional())
    assert row["network_total"] - plain["network_total"] == pytest.approx(1000.0)
    assert row["twin_total"] - plain["twin_total"] == pytest.approx(1000.0)
    assert row["decides"] == ""
    with pytest.raises(OptionError, match="seconds"):
        one(OpCount(), spiking(), conventional(), seconds=-1.0)


def test_other_units_are_named_beside_their_values() -> None:
    verdict = judge({"network": spiking(), "twin": conventional()}, [Choice("n", Unitless()), "op-count"])
    assert set(zip(verdict.parts["label"], verdict.parts["unit"], strict=True)) >= {("n", "bits"), ("op-count", "pJ")}
    row = verdict.table.set_index("label").loc["n"]
    assert (row["unit"], row["winner"]) == ("bits", "network")
    assert row["ratio"] == pytest.approx(0.4)


def test_the_tables_around_the_verdict_add_up() -> None:
    records = {"lif": spiking(), "relu": conventional(), "8-bit": conventional("quantised", bits=8,
               planes_exact=1.0, planes_nominal=1.0)}  # fmt: skip
    verdict = judge(records)
    assert verdict.network == "lif"
    assert verdict.twins == ["relu", "8-bit"]
    totals = verdict.table[verdict.table["twin"] == "relu"].set_index("label")["network_total"]
    own = verdict.parts[verdict.parts["network"] == "lif"].groupby("label")["pJ"].sum()
    by_layer = verdict.layers[verdict.layers["network"] == "lif"].groupby("label")["pJ"].sum(min_count=1)
    for label in totals.dropna().index:
        assert own[label] == pytest.approx(totals[label])
        assert by_layer[label] == pytest.approx(totals[label])
    here = verdict.curves[(verdict.curves["factor"] == 1) & (verdict.curves["twin"] == "relu")].set_index("label")
    ratios = verdict.table[verdict.table["twin"] == "relu"].set_index("label")["ratio"]
    assert here["ratio"].to_dict() == pytest.approx(ratios[here.index].to_dict())
    assert here["rate"].unique() == pytest.approx([0.1])
    assert verdict.synapses.set_index("layer")["spikes_per_synapse"].to_dict() == pytest.approx(
        {"fc": 0.4, "network": 0.4}
    )
    assert set(verdict.notes["label"]) == set(verdict.table["label"])
    assert (verdict.notes["source"] != "").all()


def test_the_summary_counts_the_models() -> None:
    choices = [Choice("a", OpCount()), Choice("b", OpCount(mac=0.23, ac=0.9)), Choice("c", StepMemory())]
    verdict = judge({"network": spiking(), "twin": conventional()}, choices)
    assert verdict.summary("twin") == "cheaper than twin under 2 of 3 readings"


def test_nothing_to_judge() -> None:
    with pytest.raises(OptionError, match="no record"):
        judge({})
    alone = judge({"network": spiking()}, ["op-count"])
    assert alone.table.empty
    assert alone.twins == []
    assert not alone.parts.empty


def test_the_models_of_short_tables_are_there() -> None:
    assert {choice.label for choice in energy.headline()} >= set(HEADLINE)
