"""The figures over whole runs: accuracy against energy, firing rates, learning curves.

Every function takes frames and looks and returns plain figures (``{"data": [...], "layout": {...}}``), one for each
panel; the page lays the panels out and writes what they show beneath them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from step.report.aggregate import over_seeds
from step.report.style import Figure, Look, axis, label, layout, log_axis, rows_axis, words
from step.report.units import EnergyUnit

if TYPE_CHECKING:
    import pandas as pd

_DECADE = 12.0  # beyond this ratio of largest to smallest a linear axis hides the small ones


def needs_log(values: Iterable[float]) -> bool:
    """Whether positive values lie so far apart that only a logarithmic axis shows them all."""
    positive = [value for value in values if value > 0]
    return len(positive) > 1 and max(positive) > _DECADE * min(positive)


def accuracy_against_energy(
    runs: pd.DataFrame, total: pd.DataFrame, looks: list[Look], unit: EnergyUnit, metric: str = "test accuracy"
) -> Figure:
    """Return one energy model's panel.

    Parameters
    ----------
    runs : pandas.DataFrame
        With run and accuracy.
    total : pandas.DataFrame
        Totals under this model: run, network, seed, pJ.
    looks : list of Look
        Networks to show.
    unit : EnergyUnit
        Unit of the energy axis.
    metric : str
        What the accuracy is, in words.
    """
    both = total.merge(runs[["run", "accuracy"]], on="run").dropna(subset=["pJ", "accuracy"])
    both = both.assign(energy=both["pJ"] / unit.pJ, percent=both["accuracy"] * 100)
    data: list[dict[str, Any]] = []
    for look in looks:
        of_network = both[both["network"] == look.name]
        if of_network.empty:
            continue
        hover = f"{label(look.name)}, seed %{{text}}<br>%{{y:.2f}} %, %{{x:.4g}} {unit.name}<extra></extra>"
        if len(of_network) > 1:
            data.append(_dots(of_network["energy"], of_network["percent"], look, of_network["seed"], hover))
        mean, sd = of_network[["energy", "percent"]].mean(), of_network[["energy", "percent"]].std()
        hover = f"<b>{label(look.name)}</b><br>%{{y:.2f}} %, %{{x:.4g}} {unit.name}<extra></extra>"
        data.append(
            {
                "type": "scatter", "mode": "markers", "x": [mean["energy"]], "y": [mean["percent"]],
                "error_x": _error([sd["energy"]], look), "error_y": _error([sd["percent"]], look),
                "marker": _marker(look, 12), "hovertemplate": hover, "cliponaxis": False,
            }
        )  # fmt: skip
    if needs_log(both["energy"]):
        positive = both["energy"][both["energy"] > 0]
        decades = math.log10(positive.max() / positive.min())
        x = log_axis(f"Energy per inference ({unit.name}, log scale)", decades)
    else:
        x = axis(f"Energy per inference ({unit.name})", nticks=6, rangemode="tozero")
    return {"data": data, "layout": layout(320, xaxis=x, yaxis=axis(f"{metric[0].upper()}{metric[1:]} (%)", nticks=7))}


def firing_rates(layers: pd.DataFrame, looks: list[Look]) -> Figure:
    """Return the share of non-zero outputs of every layer, layers from input (top) to output."""
    order = layers.groupby("layer", sort=False)["order"].mean().sort_values(kind="stable")
    names = list(order.index)
    rows = [label(str(name), 40) for name in names]
    stats = over_seeds(layers, ["network", "layer"], "rate").set_index(["network", "layer"])
    data: list[dict[str, Any]] = []
    for place, look in enumerate(looks):
        shift = (place - (len(looks) - 1) / 2) * 0.5 / max(len(looks), 1)
        height = {name: position + shift for position, name in enumerate(names)}
        seeds = layers[(layers["network"] == look.name) & layers["rate"].notna()]
        if seeds["seed"].nunique() > 1:
            heights = [height[name] for name in seeds["layer"]]
            hover = f"{label(look.name)}, seed %{{text}}<br>%{{x:.2f}} %<extra></extra>"
            data.append(_dots(seeds["rate"] * 100, heights, look, seeds["seed"], hover, size=5))
        here = [name for name in names if (look.name, name) in stats.index]
        data.append(
            {
                "type": "scatter", "mode": "markers", "x": [stats.loc[(look.name, n), "mean"] * 100 for n in here],
                "y": [height[n] for n in here], "marker": _marker(look, 8),
                "error_x": _error([stats.loc[(look.name, n), "sd"] * 100 for n in here], look),
                "customdata": [label(str(n), 40) for n in here],
                "hovertemplate": f"{label(look.name)}<br>%{{customdata}}: %{{x:.2f}} %<extra></extra>",
                "cliponaxis": False,
            }
        )  # fmt: skip
    x = axis("Firing rate: non-zero share of outputs (%)", rangemode="tozero", nticks=9)
    y = rows_axis(tickvals=list(range(len(names))), ticktext=rows, range=[len(names) - 0.5, -0.5])
    return {"data": data, "layout": layout(70 + 26 * len(names), xaxis=x, yaxis=y)}


def learning_curve(of_name: pd.DataFrame, name: str, looks: list[Look]) -> Figure:
    """Return one quantity over the epochs: a line for each network, a band of one s.d. where there are two seeds."""
    scale = 100.0 if name.endswith(("accuracy", "auc")) and of_name["value"].max() <= 1 else 1.0
    unit = " (%)" if scale == 100.0 else ""
    stats = over_seeds(of_name, ["network", "epoch"], "value").sort_values("epoch")
    data: list[dict[str, Any]] = []
    for look in looks:
        line = stats[stats["network"] == look.name]
        if line.empty:
            continue
        spread = line[line["sd"].notna()]
        if len(spread) > 1:
            upper, lower = spread["mean"] + spread["sd"], spread["mean"] - spread["sd"]
            data.append(
                {
                    "type": "scatter", "mode": "lines", "x": [*spread["epoch"], *reversed(list(spread["epoch"]))],
                    "y": [*(upper * scale), *reversed(list(lower * scale))], "fill": "toself",
                    "fillcolor": look.colour, "opacity": 0.16, "line": {"width": 0}, "hoverinfo": "skip",
                }
            )  # fmt: skip
        data.append(
            {
                "type": "scatter", "mode": "lines" if len(line) > 1 else "markers", "x": list(line["epoch"]),
                "y": list(line["mean"] * scale), "marker": _marker(look, 8),
                "line": {"color": look.colour, "width": 2, "dash": look.dash},
                "hovertemplate": f"{label(look.name)}, epoch %{{x}}: %{{y:.4g}}<extra></extra>",
            }
        )  # fmt: skip
    title = words(name).capitalize() + unit
    return {"data": data, "layout": layout(300, xaxis=axis("Epoch", nticks=8), yaxis=axis(title, nticks=7))}


def _dots(x: Any, y: Any, look: Look, seeds: Any, hover: str, size: int = 6) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "markers", "x": list(x), "y": list(y), "text": [str(seed) for seed in seeds],
        "marker": _marker(look, size), "opacity": 0.35, "hovertemplate": hover, "cliponaxis": False,
    }  # fmt: skip


def _marker(look: Look, size: int) -> dict[str, Any]:
    return {"symbol": look.symbol, "size": size, "color": look.colour, "line": {"color": look.colour, "width": 2}}


def _error(deviations: list[float], look: Look) -> dict[str, Any]:
    known = [deviation for deviation in deviations if not math.isnan(deviation)]
    bars = {"type": "data", "array": deviations, "color": look.colour, "thickness": 1.5, "width": 4}
    return bars if known else {"visible": False}
