"""What every energy model must do, checked on any record: the same for ours, an installed one, and one begun now.

>>> import energy
>>> from energy import conformance
>>> [result.name for result in conformance.check(energy.create("op-count")) if not result.ok]
[]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from energy.derive import largest_activity, twin, with_activity
from energy.hardware import Hardware, load
from energy.models import PARTS, EnergyModel
from energy.record import PRODUCTS, Record
from neurons.errors import DataError, StepError

if TYPE_CHECKING:
    from pandas import DataFrame

_CLOSE = 1e-9


@dataclass(frozen=True)
class Result:
    """What one check found.

    Attributes
    ----------
    name : str
    ok : bool
    message : str
        What is wrong and what would be right, or what was seen.
    """

    name: str
    ok: bool
    message: str = ""


@dataclass(frozen=True)
class Subject:
    """A model on its hardware, and the record that it is tried on."""

    model: EnergyModel
    hardware: Hardware
    record: Record

    def price(self, record: Record | None = None) -> DataFrame:
        """Price a record; the one of the subject when left out."""
        return self.model.price(self.record if record is None else record, self.hardware)

    def total(self, record: Record) -> float:
        """Return the total of a record; NaN where no layer has a price."""
        return float(self.price(record)["total"].sum(min_count=1))


def check(
    model: EnergyModel, hardware: str | Path | Hardware | None = None, record: Record | None = None
) -> Iterator[Result]:
    """Yield what every check finds about a model.

    Parameters
    ----------
    model : EnergyModel
    hardware : str, path or Hardware, optional
        The model's own profile when left out.
    record : Record, optional
        A spiking network to try it on; a small one with convolutions, linear layers and a product of two activations
        when left out.
    """
    try:
        profile = load(model.profile if hardware is None else hardware)
        subject = Subject(model, profile, record or example())
        subject.price()
    except Exception as error:  # whatever a price_layer that is being written may raise
        yield Result("prices a network", False, _one_line(error))
        return
    for name, look in CHECKS.items():
        try:
            wrong = look(subject)
        except Exception as error:
            wrong = _one_line(error)
        yield Result(name, not wrong, wrong)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, StepError) else f"{type(error).__name__}: {text}"


@cache
def example() -> Record:
    """Return the record of a small spiking network with convolutions, linear layers, norms and a Q K^T product."""
    import torch
    from torch import Tensor, nn

    import neurons
    from energy.count import measure

    class Example(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.one = nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), neurons.LIF()
            self.deep, self.two = nn.Conv2d(6, 8, 3, stride=2, padding=1), neurons.LIF(threshold=0.3)
            self.query, self.three = nn.Linear(8, 8), neurons.LIF(threshold=0.3)
            self.head = nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            s = self.one(self.norm(self.conv(x.flatten(0, 1))).unflatten(0, x.shape[:2]))
            s = self.two(self.deep(s.flatten(0, 1)).unflatten(0, x.shape[:2])).flatten(3).transpose(2, 3)
            q = self.three(self.query(s))
            return self.head((q + s).sum(2)) + (q @ s.transpose(2, 3)).mean()

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network, x = Example(), torch.rand(4, 4, 2, 8, 8) * 3
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(2)
        return measure(network, x, data="random input", steps=True)


def _described(subject: Subject) -> str:
    model = type(subject.model)
    if not getattr(model, "source", ""):
        return "it has no source: say where the model was published, or that it is your own"
    if model.confidence not in ("published", "reconstruction"):
        return f"its confidence is 'published' or 'reconstruction', not {model.confidence!r}"
    if not model.ignores:
        return "ignores is empty: name what the model leaves out, since every model leaves something out"
    if not (model.__doc__ or "").strip() or (model.__doc__ or "").startswith(f"{model.__name__}("):
        return "it has no docstring: say in one line what it prices"
    return ""


def _used(subject: Subject) -> str:
    """Every constant must come from the profile with its source."""
    table = subject.price()
    lacking = [name for name, constant in table.attrs["constants"].items() if not constant["source"]]
    return f"constants without a source: {', '.join(lacking)}" if lacking else ""


def _whole(subject: Subject) -> str:
    table = subject.price()
    row: Any
    for row in table.itertuples():
        parts = [getattr(row, part) for part in PARTS]
        known = [part for part in parts if not math.isnan(part)]
        if any(part < 0 or math.isinf(part) for part in known):
            return f"layer {row.layer}: a part is negative or infinite"
        if known and not math.isclose(sum(known), row.total, rel_tol=_CLOSE, abs_tol=_CLOSE):
            return f"layer {row.layer}: the total is not the sum of its parts"
    return ""


def _said(subject: Subject) -> str:
    """A layer without a price says so; a layer that worked is never priced at nothing."""
    table = subject.price()
    if not table["applicable"].any():
        return "no layer of the network has a price; return a Price for the layers in its scope"
    worked = subject.record.operations.query("op == 'mac' and exact > 0")["layer"].unique()
    for row in table.itertuples():
        if not row.applicable and not row.note:
            return f"layer {row.layer} has no price and no note; return None, or Price(note='no price for ...')"
        silent = row.applicable and row.kind in PRODUCTS and row.layer in worked and row.total == 0
        if silent:
            return f"layer {row.layer} worked and costs 0; return None where the model does not apply"
    return ""


def _monotone(subject: Subject) -> str:
    top = largest_activity(subject.record)
    if math.isinf(top):
        return ""
    totals = [subject.total(with_activity(subject.record, share * top)) for share in (0.0, 0.3, 0.6, 1.0)]
    falls = any(after < before * (1 - _CLOSE) for before, after in pairwise(totals))
    return f"more spikes cost less: {', '.join(f'{t:.6g}' for t in totals)} at 0, 30, 60, 100 % activity" * falls


def _events(subject: Subject) -> list[str]:
    """Return the layers that single spikes reach; what a sum of spikes costs is for each model to say."""
    rows = subject.record.layers
    plain = rows["operand"].isin(("binary", "ternary")) & rows["kind"].isin(PRODUCTS)
    return list(rows.loc[plain & (rows["nonzero"] > 0), "layer"])


def _by_layer(subject: Subject, record: Record) -> dict[str, dict[str, float]]:
    """Return the parts by name and layer."""
    table = subject.price(record)
    return {part: dict(zip(table["layer"], table[part].tolist(), strict=True)) for part in PARTS}


def _silence(subject: Subject) -> str:
    """Without spikes the layers behind them compute less, and state does not grow."""
    silent, busy = (_by_layer(subject, record) for record in (with_activity(subject.record, 0.0), subject.record))
    for name in _events(subject) if subject.model.skips_silence(subject.hardware) else ():
        if silent["compute"][name] >= busy["compute"][name] > 0:
            return f"layer {name} computes as much without a spike; where zeros save nothing, skips_silence says False"
    for name in subject.record.spiking["layer"]:
        if silent["memory_state"][name] > busy["memory_state"][name] * (1 + _CLOSE):
            return f"the state of neuron {name} costs more when the network falls silent"
    return ""


def _in_time(subject: Subject) -> str:
    """Twice the steps with the same activity cost twice the work on spikes, and nothing costs more than twice."""
    doubled = _doubled(subject.record)
    once, twice = (_by_layer(subject, record) for record in (subject.record, doubled))
    for name in _events(subject) if subject.model.skips_silence(subject.hardware) else ():
        before, after = (table["compute"][name] for table in (once, twice))
        if not math.isnan(before) and not math.isclose(after, 2 * before, rel_tol=1e-6, abs_tol=_CLOSE):
            return f"layer {name} computes {before:.6g} in T steps and {after:.6g} in 2 T with the same activity"
    total = subject.total(subject.record)
    ratio = subject.total(doubled) / total if total else 0.0  # a silent network may cost nothing
    return f"twice the time steps cost {ratio:.6g} times as much, more than 2" if ratio > 2 + 1e-6 else ""


def _doubled(record: Record) -> Record:
    """The same network running twice as many steps, with the same activity in the second half."""
    frames = {name: frame.copy() for name, frame in record.to_frames().items()}
    layers = frames["layers"]
    layers["T"] *= 2
    for column in ("calls", "inputs", "nonzero", "magnitude", "popcount", "second_inputs", "second_nonzero",
                   "second_magnitude", "second_popcount", "outputs", "nonzero_outputs", "updates", "weight_uses",
                   "effective_updates"):  # fmt: skip
        layers[column] *= 2
    operations = frames["operations"]
    counts = [c for c in operations.columns if c not in ("layer", "op", "operand", "bits", "second_operand",
                                                         "second_bits")]  # fmt: skip
    operations[counts] *= 2
    frames["memory"]["elements"] *= 2
    frames["counts"]["spikes"] *= 2
    return Record(frames, {**record.provenance, "T": 2 * record.T})


def _bits(subject: Subject) -> str:
    """Wider activations of the quantised twin cost at least as much."""
    try:
        totals = [subject.total(twin(subject.record, bits)) for bits in (2, 4, 8)]
    except DataError:  # a record from given counts has no spike counts
        return ""
    known = [total for total in totals if not math.isnan(total)]
    falls = any(after < before * (1 - _CLOSE) for before, after in pairwise(known))
    return f"wider activations cost less: {', '.join(f'{t:.6g}' for t in totals)} at 2, 4, 8 bits" * falls


def _again(subject: Subject) -> str:
    """The price of a record depends on nothing else, and leaves the record alone."""
    before = subject.record.to_frames()
    copies = {name: frame.copy() for name, frame in before.items()}
    first, second = subject.total(subject.record), subject.total(subject.record)
    if any(not copies[name].equals(frame) for name, frame in subject.record.to_frames().items()):
        return "it changes the record"
    return "" if first == second or (math.isnan(first) and math.isnan(second)) else "two prices of one record differ"


def _dearer(subject: Subject) -> str:
    """A dearer constant never makes anything cheaper."""
    total = subject.total(subject.record)
    for name, constant in subject.price().attrs["constants"].items():
        if not constant["unit"].startswith("pJ"):
            continue
        dearer = replace(subject, hardware=subject.hardware.scaled(name, 2.0)).total(subject.record)
        if dearer < total * (1 - _CLOSE):
            return f"twice {name} makes the network cheaper"
    return ""


CHECKS: dict[str, Callable[[Subject], str]] = {
    "describes itself": _described,
    "constants have a source": _used,
    "total is the sum of parts": _whole,
    "no silent zero": _said,
    "more spikes cost no less": _monotone,
    "silence saves work, not state": _silence,
    "linear in time": _in_time,
    "more bits cost no less": _bits,
    "dearer constants cost no less": _dearer,
    "same price again": _again,
}
"""Every check by name: a function that returns what is wrong, or an empty text."""
