"""Every energy model on a network and its conventional twins, side by side."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from energy.count import measure
from energy.models import PARTS, EnergyModel, energy_models, price
from energy.record import Record

if TYPE_CHECKING:
    from pandas import DataFrame

TWINS = ("relu", "quantised_relu")


def twin_bits(T: int) -> int:
    """Return the activation bits of the quantised twin of equal capacity: ceil(log2(T + 1)) (Yan et al. 2024).

    T binary steps can tell T + 1 spike counts apart.
    """
    return math.ceil(math.log2(T + 1))


def compare(
    network: nn.Module,
    x: Tensor,
    models: Iterable[str | EnergyModel] | None = None,
    *,
    twins: Mapping[str, nn.Module] | None = None,
    hardware: str = "45nm",
) -> DataFrame:
    """Price a network and its twins under every model.

    Parameters
    ----------
    network : nn.Module
    x : Tensor, shape [T, B, ...]
        Encoded input. Twins have no time and see its first step.
    models : iterable of str or EnergyModel, optional
        All registered models when left out.
    twins : mapping of str to nn.Module, optional
        Trained twins by name. When left out, ``network.twin`` makes a ReLU twin and a quantised one of
        ceil(log2(T + 1)) bits that carry the weights of the network; a network without ``twin`` stands alone.
    hardware : str

    Returns
    -------
    DataFrame
        One row for each network and model: network, model, the parts and the total in pJ per inference (NaN for
        a part the model does not know), and ``ratio_to_<twin>``: the total over that of the twin, above 1 where the
        twin is cheaper.
    """
    made = _twins(network, x.shape[0]) if twins is None else dict(twins)
    records = {"network": measure(network, x), **{name: measure(twin, x[:1]) for name, twin in made.items()}}
    return compare_records(records, models, hardware=hardware)


def compare_records(
    records: Mapping[str, Record], models: Iterable[str | EnergyModel] | None = None, *, hardware: str = "45nm"
) -> DataFrame:
    """Price measured records under every model; the first is the network, the others are its twins."""
    import pandas as pd

    twins = list(records)[1:]
    rows: list[dict[str, Any]] = []
    warnings: dict[str, list[str]] = {}
    for model in energy_models.names() if models is None else models:
        totals: dict[str, float] = {}
        for name, record in records.items():
            table = price(record, model, hardware)
            warnings[f"{name}, {table.attrs['model']}"] = table.attrs["warnings"]
            parts = table[list(PARTS)].sum(min_count=1)
            totals[name] = float(table["total"].sum(min_count=1))
            rows.append({"network": name, "model": table.attrs["model"], **parts, "total": totals[name]})
        for row in rows[-len(records) :]:
            for twin in twins:
                row[f"ratio_to_{twin}"] = row["total"] / totals[twin] if totals[twin] else float("nan")
    columns = ["network", "model", *PARTS, "total", *(f"ratio_to_{twin}" for twin in twins)]
    table = pd.DataFrame(rows, columns=columns)
    table.attrs["warnings"] = warnings
    return table


def _twins(network: nn.Module, T: int) -> dict[str, nn.Module]:
    make = getattr(network, "twin", None)
    if make is None:
        return {}
    return {"relu": make("relu"), "quantised_relu": make({"name": "quantised_relu", "bits": twin_bits(T)})}
