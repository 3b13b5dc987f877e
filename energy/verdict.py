"""Who is cheaper, the spiking network or its twin: under every model, by how much, and what would turn it round."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from energy.hardware import Hardware, load
from energy.models import PARTS, Choice, EnergyModel, energy_models, standard
from energy.record import Record
from energy.sensitivity import (
    RANGE,
    Pricer,
    Rates,
    break_even,
    check_seconds,
    flip_by_constant,
    grid,
)
from energy.thresholds import spikes_per_synapse
from neurons.errors import OptionError, StepError

if TYPE_CHECKING:
    from pandas import DataFrame

HEADLINE = ("op-count", "typed-horowitz", "lemaire b", "step")
"""The models of short tables: the usual convention, honest types, memory access by access, memory bit by bit."""
EVEN = 0.05
"""Ratios this close to 1 are called even: no model is that exact."""
FIRING_RATE = "firing rate"
# What these units measure is built, not priced: a bus has no 1.3 bits more.
_SIZES = ("count", "bit", "byte")

TABLE = (
    "label", "model", "hardware", "unit", "confidence", "twin", "network_total", "twin_total", "ratio", "winner",
    "ratio_memory_low", "ratio_memory_high", "ratio_reuse", "ratio_rate_low", "ratio_rate_high", "break_even",
    "break_even_rate", "break_even_sps", "decides", "flip_factor", "partial",
)  # fmt: skip
_EMPTY: dict[str, Any] = {"unit": "", "confidence": "", "winner": "not applicable", "decides": "", "partial": False}


@dataclass(frozen=True)
class Verdict:
    """A spiking network against its twins, under every energy model, as tidy tables.

    Ratios are the network over the twin: below 1 the spiking network is cheaper.

    Attributes
    ----------
    network : str
        Name of the spiking network.
    table : DataFrame
        One row for each model (``label``) and twin: model, hardware, unit, confidence, the totals of one inference,
        ratio, winner (``network``, the twin's name, ``even`` within 5 %, or ``not applicable``); the ratio with all
        memory at 0.5 and 1.5 times its price, with weights reused as far as a dataflow can (at most one fetch for an
        inference by conventional layers, and for a time step by spiking ones; NaN where a model takes account of
        reuse itself), and at 0.5 and 1.5 times the firing rates (NaN beyond one spike a step).
        ``break_even``: the factor on all firing rates at which both cost the same (0: dearer without any spike,
        inf: cheaper as far as rates can grow); the same as spikes per input and step (``break_even_rate``) and as
        spikes per synapse and inference (``break_even_sps``). ``decides``: the constant, or ``firing rate``, whose
        smallest change turns the winner round, and ``flip_factor``, that change; empty where none from a thousandth
        to a thousandfold does. ``partial``: some layer had no price and is missing in a total.
    parts, layers : DataFrame
        label, network, part or layer (with its order), pJ, unit: a value in another unit says so there.
    curves : DataFrame
        label, twin, factor on the firing rates, rate (spikes per input and step), ratio.
    synapses : DataFrame
        layer, spikes_per_synapse; the last row is the whole ``network``.
    notes : DataFrame
        label, source, confidence, ignores, warnings, unconfirmed (constants), figures (of the spiking network).
    """

    network: str
    table: DataFrame
    parts: DataFrame
    layers: DataFrame
    curves: DataFrame
    synapses: DataFrame
    notes: DataFrame

    @property
    def twins(self) -> list[str]:
        """Names of the twins."""
        return list(dict.fromkeys(self.table["twin"]))

    def summary(self, twin: str) -> str:
        """Return how many models find the network cheaper than a twin, in words."""
        rows = self.table[self.table["twin"] == twin]
        judged = rows[rows["winner"] != "not applicable"]
        wins, even = (int((judged["winner"] == winner).sum()) for winner in ("network", "even"))
        text = f"cheaper than {twin} under {wins} of {len(judged)} readings"
        if even:
            text += f", even under {even}"
        if len(rows) > len(judged):
            text += f"; {len(rows) - len(judged)} do not apply"
        return text


def headline() -> list[Choice]:
    """Return the models of short tables: those of ``HEADLINE``, and all that were registered from outside."""
    own = [
        name for name in energy_models.names()
        if not energy_models.get(name).__module__.startswith("energy.models.")
    ]  # fmt: skip
    return [choice for choice in standard() if choice.label in HEADLINE or choice.label in own]


def judge(
    records: Mapping[str, Record],
    choices: Iterable[str | EnergyModel | Choice] | None = None,
    *,
    hardware: str | Path | Hardware | None = None,
    seconds: float | None = None,
) -> Verdict:
    """Compare a spiking network with its twins under every energy model.

    Parameters
    ----------
    records : mapping of str to Record
        The first is the spiking network, the others are its twins.
    choices : iterable of str, EnergyModel or Choice, optional
        Names of models (all variants) or of single variants; everything registered when left out.
    hardware : str or path, optional
        Constants for all choices that do not name hardware of their own; a model with a variant for each of several
        chips stands once, for this one. A model that needs a constant which it
        lacks does not apply.
    seconds : float, optional
        Time of one inference, over which static power is charged where the hardware knows it.

    Raises
    ------
    OptionError
        Without a record, for a wrong time, and when no model at all can price the network.
    """
    import pandas as pd

    check_seconds(seconds)
    hardware = None if hardware is None else load(hardware)
    if not records:
        raise OptionError("there is no record to judge")
    name, *twins = records
    rates = {network: Rates(record) for network, record in records.items()}
    factors = grid(rates[name])
    found: dict[str, list[dict[str, Any]]] = {key: [] for key in ("table", "parts", "layers", "curves", "notes")}
    refused: list[StepError] = []
    chosen = standard(choices, hardware)
    for choice in chosen:
        try:
            priced = _Priced(choice, records, rates, hardware, seconds)
        except StepError as error:
            refused.append(error)
            found["notes"].append(_refusal(choice, error))
            found["table"] += [_row(choice.label, choice, twin) for twin in twins]
            continue
        for network in records:
            found["parts"] += priced.parts(network)
            found["layers"] += priced.layers(network)
        found["notes"].append(priced.note(name))
        for twin in twins:
            found["table"].append(priced.row(name, twin, factors))
            found["curves"] += priced.curve(name, twin, factors)
    if chosen and len(refused) == len(chosen):
        raise refused[0]
    met = spikes_per_synapse(records[name])
    synapses = [*zip(met["layer"], met["spikes_per_synapse"], strict=True), ("network", met.attrs["network"])]
    return Verdict(
        name,
        pd.DataFrame(found["table"], columns=list(TABLE)),
        pd.DataFrame(found["parts"], columns=["label", "network", "part", "pJ", "unit"]),
        pd.DataFrame(found["layers"], columns=["label", "network", "layer", "order", "pJ", "unit"]),
        pd.DataFrame(found["curves"], columns=["label", "twin", "factor", "rate", "ratio"]),
        pd.DataFrame(synapses, columns=["layer", "spikes_per_synapse"]),
        pd.DataFrame(
            found["notes"],
            columns=["label", "source", "confidence", "ignores", "warnings", "unconfirmed", "figures"],
        ),
    )


class _Priced:
    """All networks of a comparison under one choice."""

    def __init__(
        self,
        choice: Choice,
        records: Mapping[str, Record],
        rates: Mapping[str, Rates],
        hardware: Hardware | None,
        seconds: float | None,
    ) -> None:
        self.choice = choice
        self.hardware = load(choice.hardware or hardware or choice.model.profile)
        seconds = seconds if "static_power" in self.hardware else None
        self.tables = {n: choice.model.price(r, self.hardware, seconds=seconds) for n, r in records.items()}
        self.prices = {n: Pricer(choice, self.hardware, rates[n], seconds) for n in records}
        self.unit = choice.model.unit

    def parts(self, network: str) -> list[dict[str, Any]]:
        sums = self.tables[network][list(PARTS)].sum(min_count=1).dropna()
        who = {"label": self.choice.label, "network": network, "unit": self.unit}
        return [{**who, "part": part, "pJ": float(value)} for part, value in sums.items()]

    def layers(self, network: str) -> list[dict[str, Any]]:
        rows = self.tables[network]
        who = {"label": self.choice.label, "network": network, "unit": self.unit}
        priced = enumerate(zip(rows["layer"], rows["total"], strict=True))
        return [{**who, "layer": layer, "order": order, "pJ": total} for order, (layer, total) in priced]

    def note(self, name: str) -> dict[str, Any]:
        told = [table.attrs for table in self.tables.values()]
        weak = {c: None for attrs in told for c, entry in attrs["constants"].items() if not entry["confirmed"]}
        return {
            "label": self.choice.label,
            "source": told[0]["source"],
            "confidence": told[0]["confidence"],
            "ignores": ", ".join(told[0]["ignores"]),
            "warnings": "\n".join(dict.fromkeys(text for attrs in told for text in attrs["warnings"])),
            "unconfirmed": ", ".join(weak),
            "figures": "; ".join(f"{key}: {_text(v)}" for key, v in self.tables[name].attrs["figures"].items()),
        }

    def row(self, name: str, other: str, factors: list[float]) -> dict[str, Any]:
        """Return the verdict on one twin."""
        network, twin = self.prices[name], self.prices[other]
        row = _row(self.choice.label, self.choice, other)
        row |= {
            "hardware": self.hardware.name,
            "network_total": network.total,
            "twin_total": twin.total,
            "partial": any(bool(self.tables[n].attrs["unpriced"]) for n in (name, other)),
        }
        if math.isnan(network.total + twin.total) or network.total == twin.total == 0:
            return row
        rates = network.rates
        even = break_even(network, twin, factors)
        decides, factor = self._decides(network, twin, even)
        memory = network.has_memory or twin.has_memory
        reuse = network.has_weights or twin.has_weights
        return row | {
            "ratio": _ratio(network.total, twin.total),
            "winner": _winner(network.total, twin.total, other),
            "ratio_memory_low": _ratio(network.with_memory(0.5), twin.with_memory(0.5)) if memory else math.nan,
            "ratio_memory_high": _ratio(network.with_memory(1.5), twin.with_memory(1.5)) if memory else math.nan,
            "ratio_reuse": _ratio(network.with_reuse(), twin.with_reuse()) if reuse else math.nan,
            "ratio_rate_low": _at_rate(network, twin, 0.5),
            "ratio_rate_high": _at_rate(network, twin, 1.5),
            "break_even": even,
            "break_even_rate": even if math.isinf(even) else rates.rate(even),
            "break_even_sps": even if math.isinf(even) else rates.spikes_per_synapse(even),
            "decides": decides,
            "flip_factor": factor,
        }

    def curve(self, name: str, other: str, factors: list[float]) -> list[dict[str, Any]]:
        network, twin = self.prices[name], self.prices[other]
        if math.isnan(network.total + twin.total) or not twin.total or not network.rates.changes:
            return []
        return [
            {"label": self.choice.label, "twin": other, "factor": factor, "rate": network.rates.rate(factor),
             "ratio": _ratio(float(total), twin.total)}
            for factor, total in zip(factors, network.over(factors), strict=True)
        ]  # fmt: skip

    def _decides(self, network: Pricer, twin: Pricer, even: float) -> tuple[str, float]:
        """Return what turns the winner round with the smallest change, and the factor on it."""
        prices = [n for n in sorted(network.used | twin.used) if self.hardware.constants[n].unit not in _SIZES]
        flips = {name: flip_by_constant(network, twin, name) for name in prices}
        flips[FIRING_RATE] = even
        found = {name: f for name, f in flips.items() if 1 / RANGE <= f <= RANGE}
        if not found:
            return "", math.nan
        name = min(found, key=lambda each: abs(math.log(found[each])))
        return name, found[name]


def _row(label: str, choice: Choice, twin: str) -> dict[str, Any]:
    model = choice.model
    return {
        **dict.fromkeys(TABLE, math.nan), **_EMPTY, "label": label,
        "model": getattr(type(model), "registered_name", type(model).__name__),
        "hardware": str(choice.hardware or model.profile), "unit": model.unit, "confidence": model.confidence,
        "twin": twin,
    }  # fmt: skip


def _refusal(choice: Choice, error: StepError) -> dict[str, Any]:
    model = choice.model
    return {
        "label": choice.label, "source": model.source, "confidence": model.confidence,
        "ignores": ", ".join(model.ignores), "warnings": f"not applicable: {error}", "unconfirmed": "", "figures": "",
    }  # fmt: skip


def _ratio(network: float, twin: float) -> float:
    if twin:
        return network / twin
    return math.inf if network > 0 else math.nan


def _winner(network: float, twin: float, name: str) -> str:
    if network == twin or (twin and abs(network / twin - 1) <= EVEN):
        return "even"
    return "network" if network < twin else name


def _at_rate(network: Pricer, twin: Pricer, factor: float) -> float:
    rates = network.rates
    if not rates.changes or factor > rates.largest:
        return math.nan
    return _ratio(network.at(activity=factor), twin.total)


def _text(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"
