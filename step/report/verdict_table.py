"""A verdict as tables for people: energies and who wins, what the answer rests on, spikes against thresholds."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import pandas as pd

from energy.models import PARTS
from energy.verdict import Verdict
from step.report.units import MISSING, TIMES, energy_unit, format_count, format_energy, format_ratio, three_digits

RECONSTRUCTED = "~"
UNCONFIRMED = "*"
MORE = ">"
SIGNS = {
    RECONSTRUCTED: f"{RECONSTRUCTED} equations put together from descriptions, not the paper's own",
    UNCONFIRMED: f"{UNCONFIRMED} rests on a constant that was not found in its source itself",
    MORE: f"{MORE} some layer has no price and is missing in the total",
}


def marks(verdict: Verdict) -> dict[str, str]:
    """Return the name of every model with the signs that must stand beside it, by label."""
    return {
        str(row.label): str(row.label)
        + (f" {RECONSTRUCTED}" if row.confidence == "reconstruction" else "")
        + (f" {UNCONFIRMED}" if row.unconfirmed else "")
        for row in verdict.notes.itertuples()
    }


def model_signs(confidence: str, constants: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the signs that stand behind the name of a model, from what its prices say of it."""
    sure = all(constant["confirmed"] for constant in constants.values())
    return (f" {RECONSTRUCTED}" if confidence == "reconstruction" else "") + ("" if sure else f" {UNCONFIRMED}")


def legend(frames: Iterable[pd.DataFrame]) -> list[str]:
    """Return what the signs mean that stand in these tables."""
    cells = [str(cell) for frame in frames for cell in frame.to_numpy().ravel()]
    return [
        meaning for sign, meaning in SIGNS.items()
        if any(cell.startswith(sign) if sign == MORE else sign in cell.split(" ")[1:] for cell in cells)
    ]  # fmt: skip


def energies(
    verdict: Verdict, twins: Collection[str] | None = None, *, in_pJ: bool | None = None
) -> pd.DataFrame:  # fmt: skip
    """Return energies of the network and of twins, their ratios and who is cheaper: one row for each model.

    Parameters
    ----------
    verdict : Verdict
    twins : collection of str, optional
        All when left out.
    in_pJ : bool, optional
        Only models that give energies, or only those that give something else.
    """
    names = marks(verdict)
    rows = []
    table = verdict.table if in_pJ is None else verdict.table[(verdict.table["unit"] == "pJ") == in_pJ]
    for label, found in table.groupby("label", sort=False):
        unit = _unit(found)
        first = found.iloc[0]
        row = {"model": names[str(label)], verdict.network: _amount(first["network_total"], first, unit)}
        for each in found[found["twin"].isin(verdict.twins if twins is None else twins)].to_dict("records"):
            twin = _head(each["twin"])
            row[twin] = _amount(each["twin_total"], each, unit)
            row[f"/ {twin}"] = _with_winner(each, verdict.network)
        rows.append(row)
    return pd.DataFrame(rows)


def sensitivities(verdict: Verdict, twin: str) -> pd.DataFrame:
    """Return how the ratio to one twin moves with memory, reuse and rate, where it breaks even, and what decides."""
    names = marks(verdict)
    rows = []
    for each in verdict.table[verdict.table["twin"] == twin].to_dict("records"):
        if each["winner"] == "not applicable":
            continue
        flip = each["flip_factor"]
        rows.append(
            {
                "model": names[each["label"]],
                "memory\n±50 %": _span(each["ratio_memory_low"], each["ratio_memory_high"]),
                "weights\nreused": format_ratio(each["ratio_reuse"]),
                "rate\n±50 %": _span(each["ratio_rate_low"], each["ratio_rate_high"]),
                "even at\nrate": _limit(each["break_even_rate"]),
                "spikes per\nsynapse": _limit(each["break_even_sps"]),
                "turned round by": f"{each['decides']} {TIMES} {three_digits(flip)}" if each["decides"] else MISSING,
            }
        )
    return pd.DataFrame(rows)


def synapses(verdict: Verdict, thresholds: pd.DataFrame, most: int = 12) -> pd.DataFrame:
    """Return spikes per synapse and inference of the busiest layers and the network, among published thresholds.

    Parameters
    ----------
    verdict : Verdict
    thresholds : DataFrame
        See :func:`energy.thresholds.thresholds`.
    most : int
        Layers to show.
    """
    frame = verdict.synapses
    layers = frame[frame["layer"] != "network"].nlargest(most, "spikes_per_synapse")
    whole = frame[frame["layer"] == "network"]
    rows = [(float(v), f"  layer {n}", "") for n, v in layers.itertuples(index=False)]
    rows += [(float(v), f"{verdict.network}, all layers", "") for _, v in whole.itertuples(index=False) if v == v]
    for each in thresholds.to_dict("records"):
        name = f"limit: {each['name']}" + ("" if each["confirmed"] else f" {UNCONFIRMED}")
        band = "" if math.isnan(each["lower"]) else f"from {three_digits(each['lower'])}; "
        rows.append((float(each["limit"]), name, f"{band}{each['note']}"))
    rows.sort(key=lambda row: row[0])
    table = pd.DataFrame(rows, columns=["value", "of", "about"])
    table.insert(0, "spikes per synapse", [three_digits(value) for value in table.pop("value")])
    return table


def by_part(verdict: Verdict) -> pd.DataFrame:
    """Return one row for each model and part, one column for each network."""
    return _broken_down(verdict, verdict.parts, "part", list(PARTS))


def by_layer(verdict: Verdict) -> pd.DataFrame:
    """Return one row for each model and layer, one column for each network."""
    order = verdict.layers.sort_values("order")["layer"].drop_duplicates().tolist()
    return _broken_down(verdict, verdict.layers.dropna(subset="pJ"), "layer", order)


def by_model(verdict: Verdict) -> pd.DataFrame:
    """Return one row for each model, one column for each network."""
    whole = verdict.parts.groupby(["label", "network", "unit"], sort=False)["pJ"].sum().reset_index()
    return _broken_down(verdict, whole.assign(whole=""), "whole", [""]).drop(columns="whole")


def sources(verdict: Verdict) -> list[tuple[str, str, str]]:
    """Return (models, source, what they leave out): models that share both stand in one line."""
    names = marks(verdict)
    found: dict[tuple[str, str], list[str]] = {}
    for row in verdict.notes.itertuples():
        found.setdefault((str(row.source), str(row.ignores)), []).append(names[str(row.label)])
    return [(", ".join(labels), source, ignores) for (source, ignores), labels in found.items()]


def warnings(verdict: Verdict) -> list[tuple[str, str]]:
    """Return (models, warning): what many models warn of stands once."""
    found: dict[str, list[str]] = {}
    for row in verdict.notes.itertuples():
        for text in filter(None, str(row.warnings).split("\n")):
            found.setdefault(text, []).append(str(row.label))
    everyone = len(verdict.notes)
    return [("all models" if len(who) == everyone > 1 else ", ".join(who), text) for text, who in found.items()]


def _broken_down(verdict: Verdict, frame: pd.DataFrame, by: str, order: list[str]) -> pd.DataFrame:
    names = marks(verdict)
    networks = [verdict.network, *verdict.twins]
    rows = []
    for label, found in frame.groupby("label", sort=False):
        table = found.pivot_table(index=by, columns="network", values="pJ", aggfunc="sum", sort=False)
        table = table.reindex(index=[key for key in order if key in table.index], columns=networks)
        table = table[(table.fillna(0) != 0).any(axis=1)]
        unit = str(found["unit"].iloc[0])
        scale = energy_unit(table.to_numpy().ravel()) if unit == "pJ" else None
        for key, values in table.iterrows():
            cells = {
                _head(n): format_energy(values[n], scale) if scale else _counted(values[n], unit) for n in networks
            }
            rows.append({"model": names[str(label)], by: key, **cells})
    return pd.DataFrame(rows, columns=["model", by, *map(_head, networks)])


def _unit(found: pd.DataFrame) -> Any:
    if found["unit"].iloc[0] != "pJ":
        return None
    return energy_unit([found["network_total"].iloc[0], *found["twin_total"]])


def _amount(value: float, row: Any, unit: Any) -> str:
    text = format_energy(value, unit) if unit else _counted(value, str(row["unit"]))
    return f"{MORE}{text}" if row["partial"] and text != MISSING else text


def _counted(value: float, unit: str) -> str:
    text = format_count(value)
    return text if text == MISSING else f"{text} {unit}"


def _with_winner(row: dict[Any, Any], network: str) -> str:
    if row["winner"] == "not applicable":
        return MISSING
    winner = {"network": network if len(network) <= 10 else "network", "even": "even"}.get(row["winner"], "twin")
    return f"{format_ratio(row['ratio'])} {winner}"


def _head(name: str) -> str:
    """Return a name of a column in lines that are not wider than its figures need."""
    return name.replace(" (", "\n(")


def _span(low: float, high: float) -> str:
    if low != low and high != high:
        return MISSING
    low, high = sorted((low, high))
    return f"{format_ratio(low).removesuffix(TIMES)} to {format_ratio(high)}"


def _limit(value: float) -> str:
    if value != value:
        return MISSING
    return "never" if value == 0 else "always" if math.isinf(value) else three_digits(value)
