"""A network beside the conventional networks that could take its place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from energy.count import measure
from energy.derive import twin, twin_bits
from energy.hardware import load
from energy.models import PARTS, Choice, EnergyModel, standard
from energy.record import Record
from neurons.errors import DataError, StepError

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["compare", "compare_records", "derived_twins", "twin_bits", "twin_name", "twin_records"]


def twin_name(bits: int | None, T: int) -> str:
    """Return the name of the ReLU twin (``bits`` None) or of a quantised twin of a network of T steps."""
    if bits is None:
        return "relu"
    return f"quantised {bits}-bit" + (" (matched)" if bits == twin_bits(T) else "")


def twin_records(
    network: nn.Module, x: Tensor, *, bits: Iterable[int] = (), data: str = "given tensor"
) -> dict[str, Record]:
    """Measure a network, and its twins: a ReLU one, and a quantised one of equal capacity.

    A network with a method ``twin`` makes networks with other neurons and its own weights, which are run on the first
    step of the input. Twins are derived from the record of any other network, and where the input itself changes
    over time: a network without time would have to be given its codes, not its first step.

    Parameters
    ----------
    network : nn.Module
    x : Tensor, shape [T, B, ...]
        Encoded input.
    bits : iterable of int
        Further quantised twins, by the bits of their activations.
    data : str
        Name of the data, for the provenance.

    Returns
    -------
    dict of str to Record
        ``network`` first, then ``relu``, ``quantised 3-bit (matched)`` and what ``bits`` asks for; the provenance of
        each twin says under ``made`` whether it was measured or derived. A network without spiking neurons, or whose
        record does not have what a twin is made of, has fewer.
    """
    record = measure(network, x, data=data)
    records = {"network": record}
    make = getattr(network, "twin", None)
    if not len(record.spiking):
        return records
    if make is None or not torch.equal(x, x[:1].expand_as(x)):
        return {**records, **derived_twins(record, bits=bits)}
    for width in _widths(record.T, bits):
        neuron: Any = "relu" if width is None else {"name": "quantised_relu", "bits": width}
        made = measure(make(neuron), x[:1], data=data)
        made.provenance["made"] = "measured: the weights of the network with other neurons, not trained as such"
        records[twin_name(width, record.T)] = made
    return records


def derived_twins(record: Record, *, bits: Iterable[int] = ()) -> dict[str, Record]:
    """Return twins made from a record alone; see :func:`energy.derive.twin`.

    Of the ReLU twin and the matched one, those that the record has the counts for; a twin of ``bits`` that it lacks
    them for is an error.

    Raises
    ------
    DataError
        When the record has no spike counts to make a quantised twin of ``bits`` from.
    """
    asked = set(bits)
    records: dict[str, Record] = {}
    for width in _widths(record.T, asked):
        try:
            records[twin_name(width, record.T)] = twin(record, width)
        except DataError:
            if width is None or width in asked:
                raise
    return records


def _widths(T: int, bits: Iterable[int]) -> list[int | None]:
    return list(dict.fromkeys([None, twin_bits(T), *bits]))


def compare(
    network: nn.Module,
    x: Tensor,
    models: Iterable[str | EnergyModel | Choice] | None = None,
    *,
    twins: Mapping[str, nn.Module] | None = None,
    hardware: str | Path | None = None,
) -> DataFrame:
    """Price a network and its twins under every model.

    Parameters
    ----------
    network : nn.Module
    x : Tensor, shape [T, B, ...]
        Encoded input.
    models : iterable of str, EnergyModel or Choice, optional
        All variants of all registered models when left out.
    twins : mapping of str to nn.Module, optional
        Trained twins by name; they see the first step of ``x``. When left out, those of :func:`twin_records`.
    hardware : str or path, optional
        Constants for all models whose variant does not name others; each model's own when left out.

    Returns
    -------
    DataFrame
        One row for each model and network: network, model, unit, the parts and the total of one inference (NaN for a
        part the model does not know), and ``ratio_to_<twin>``: the total over that of the twin, above 1 where the
        twin is cheaper. :func:`energy.judge` says who wins, and why.
    """
    if twins is None:
        return compare_records(twin_records(network, x), models, hardware=hardware)
    records = {"network": measure(network, x)}
    for name, each in twins.items():
        records[name] = measure(each, x[:1])
        records[name].provenance["made"] = "measured: a network of its own"
    return compare_records(records, models, hardware=hardware)


def compare_records(
    records: Mapping[str, Record],
    models: Iterable[str | EnergyModel | Choice] | None = None,
    *,
    hardware: str | Path | None = None,
) -> DataFrame:
    """Price measured records under every model; the first is the network, the others are its twins."""
    import pandas as pd

    given = None if hardware is None else load(hardware)
    twins = list(records)[1:]
    rows: list[dict[str, Any]] = []
    warnings: dict[str, list[str]] = {}
    for choice in standard(models, given):
        totals: dict[str, float] = {}
        for name, record in records.items():
            try:
                table = choice.model.price(record, choice.hardware or given)
            except StepError as error:
                warnings[f"{name}, {choice.label}"] = [f"not applicable: {error}"]
                continue
            warnings[f"{name}, {choice.label}"] = table.attrs["warnings"]
            parts = table[list(PARTS)].sum(min_count=1)
            totals[name] = float(table["total"].sum(min_count=1))
            unit = choice.model.unit
            rows.append({"network": name, "model": choice.label, "unit": unit, **parts, "total": totals[name]})
        for row in rows[len(rows) - len(totals) :]:
            for each in twins:
                row[f"ratio_to_{each}"] = row["total"] / totals[each] if totals.get(each) else float("nan")
    columns = ["network", "model", "unit", *PARTS, "total", *(f"ratio_to_{each}" for each in twins)]
    found = pd.DataFrame(rows, columns=columns)
    found.attrs["warnings"] = warnings
    return found
