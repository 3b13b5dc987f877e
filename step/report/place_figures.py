"""The figures of place recognition: similarity, precision and recall, hits along the route, neurons, growing maps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from step.report.aggregate import over_seeds
from step.report.figures import needs_log
from step.report.style import Figure, Look, axis, label, layout, log_axis

if TYPE_CHECKING:
    import pandas as pd

RIGHT, WRONG = "blue", "vermillion"
_SHADES = 100  # of a similarity: more are not told apart and would make the page heavy
_BARS = 40


def similarity(matrix: pd.DataFrame) -> Figure:
    """Return the similarity of places (top to bottom) to queries, from the smallest value (light) to the largest.

    Parameters
    ----------
    matrix : pandas.DataFrame
        place_first, query_first (of each block), similarity.
    """
    cells = matrix.pivot(index="place_first", columns="query_first", values="similarity")
    values = cells.to_numpy(dtype=float)
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    shades = np.round(_SHADES * np.clip((values - low) / (high - low or 1.0), 0.0, 1.0))
    rows = [[None if math.isnan(shade) else int(shade) for shade in row] for row in shades.tolist()]
    heat = {
        "type": "heatmap", "z": rows, "x": [int(q) for q in cells.columns], "y": [int(p) for p in cells.index],
        "zmin": 0, "zmax": _SHADES, "showscale": False,
        "colorscale": [[0.0, "var(--empty)"], [1.0, "var(--blue)"]],
        "hovertemplate": "query %{x}, place %{y}: %{z} %<extra></extra>",
    }  # fmt: skip
    x = axis("Query", nticks=6, showgrid=False)
    y = axis("Place", nticks=6, showgrid=False, autorange="reversed")
    return {"data": [heat], "layout": layout(340, xaxis=x, yaxis=y)}


def precision_recall(curves: pd.DataFrame, looks: list[Look]) -> Figure:
    """Return precision against recall, a line for each network.

    Parameters
    ----------
    curves : pandas.DataFrame
        network, threshold, precision, recall at one length and tolerance.
    looks : list of Look
        Networks to show.
    """
    data: list[dict[str, Any]] = []
    for look in looks:
        line = curves[curves["network"] == look.name].sort_values("threshold", ascending=False)
        if line.empty:
            continue
        data.append(
            {
                # a step holds the precision at its end, as the average precision does
                "type": "scatter", "mode": "lines", "x": list(100 * line["recall"]), "y": list(100 * line["precision"]),
                "line": {"color": look.colour, "width": 2, "dash": look.dash, "shape": "vh"},
                "hovertemplate": f"{label(look.name)}: precision %{{y:.1f}} % at recall %{{x:.1f}} %<extra></extra>",
                "cliponaxis": False,
            }
        )  # fmt: skip
    x = axis("Recall (%)", range=[0, 100], nticks=6)
    return {"data": data, "layout": layout(320, xaxis=x, yaxis=axis("Precision (%)", range=[0, 102], nticks=6))}


def route(matches: pd.DataFrame, correct: str) -> Figure:
    """Return the place that every query was matched with: right ones filled, wrong ones as crosses.

    Parameters
    ----------
    matches : pandas.DataFrame
        query, place, true_place (negative where a query shows none), and the column ``correct``.
    correct : str
        Column with the probability that a match counts, a fraction where places are tied.
    """
    seen = matches[matches["true_place"] >= 0]
    data: list[dict[str, Any]] = [
        {
            "type": "scatter", "mode": "markers", "x": _whole(seen["query"]), "y": _whole(seen["true_place"]),
            "marker": {"size": 3, "color": "var(--axis)"}, "opacity": 0.6, "hoverinfo": "skip", "cliponaxis": False,
        }
    ]  # fmt: skip
    answered = matches[matches["place"] >= 0]
    right = answered[correct] >= 0.5
    marks = ((right, "circle", RIGHT, "right"), (~right, "x", WRONG, "wrong"))
    for chosen, symbol, hue, said in marks:
        part = answered[chosen]
        data.append(
            {
                "type": "scatter", "mode": "markers", "x": _whole(part["query"]), "y": _whole(part["place"]),
                "marker": {"symbol": symbol, "size": 6, "color": f"var(--{hue})"},
                "customdata": [place if place >= 0 else "none" for place in _whole(part["true_place"])],
                "hovertemplate": f"query %{{x}}: place %{{y}}, {said} (true: %{{customdata}})<extra></extra>",
                "cliponaxis": False,
            }
        )  # fmt: skip
    x, y = axis("Query", nticks=6), axis("Place", nticks=6, autorange="reversed")
    return {"data": data, "layout": layout(340, xaxis=x, yaxis=y)}


def hyperactive(neurons: pd.DataFrame) -> Figure:
    """Return how many neurons fired on how many images of the record pass; those found hyperactive in another colour.

    Parameters
    ----------
    neurons : pandas.DataFrame
        images (of the record pass on which a neuron fired), hyperactive.
    """
    fired = neurons["images"].to_numpy(dtype=float)
    width = max(1, math.ceil((fired.max() + 1) / _BARS))
    edges = np.arange(0, fired.max() + width + 1, width) - 0.5
    removed = neurons["hyperactive"].to_numpy(dtype=bool)
    data = []
    for chosen, hue, said in ((~removed, RIGHT, "neurons"), (removed, WRONG, "hyperactive")):
        counts, _ = np.histogram(fired[chosen], edges)
        data.append(
            {
                "type": "bar", "x": list((edges[:-1] + edges[1:]) / 2), "y": [int(count) for count in counts],
                "width": float(width), "marker": {"color": f"var(--{hue})", "line": {"width": 0}},
                "customdata": [_span(low, width) for low in edges[:-1]],
                "hovertemplate": f"%{{customdata}} images: %{{y}} {said}<extra></extra>",
            }
        )  # fmt: skip
    x = axis("Images on which the neuron fired", nticks=8)
    y = axis("Neurons", type="log", dtick=1, tickformat="~g")
    return {"data": data, "layout": layout(280, xaxis=x, yaxis=y, barmode="stack", bargap=0.05)}


def over_places(points: pd.DataFrame, title: str, looks: list[Look], *, percent: bool = False) -> Figure:
    """Return a quantity against the number of places: mean over runs with one s.d., a line for each kind of network.

    Parameters
    ----------
    points : pandas.DataFrame
        line, places, value.
    title : str
        What the value is, with its unit.
    looks : list of Look
        Lines to show.
    percent : bool
        Whether values are shares and shown in percent, on a linear axis.
    """
    stats = over_seeds(points, ["line", "places"], "value").sort_values("places")
    scale = 100.0 if percent else 1.0
    data: list[dict[str, Any]] = []
    for look in looks:
        line = stats[stats["line"] == look.name]
        if line.empty:
            continue
        spread = [0.0 if math.isnan(sd) else scale * sd for sd in line["sd"]]
        data.append(
            {
                "type": "scatter", "mode": "lines+markers", "x": list(line["places"]), "y": list(scale * line["mean"]),
                "marker": {"symbol": look.symbol, "size": 8, "color": look.colour,
                           "line": {"color": look.colour, "width": 2}},
                "line": {"color": look.colour, "width": 2, "dash": look.dash},
                "error_y": {"type": "data", "array": spread, "color": look.colour, "thickness": 1.2, "width": 3},
                "hovertemplate": f"{label(look.name)}, %{{x:,}} places: %{{y:.4~g}}<extra></extra>",
                "cliponaxis": False,
            }
        )  # fmt: skip
    x = _size_axis("Places", stats["places"])
    y = axis(title, nticks=7, rangemode="tozero") if percent else _size_axis(title, stats["mean"])
    return {"data": data, "layout": layout(300, xaxis=x, yaxis=y)}


def _size_axis(title: str, values: pd.Series) -> dict[str, Any]:
    known = values[values > 0]
    if len(known) == len(values) and needs_log(known):
        return log_axis(title, math.log10(known.max() / known.min()))
    return axis(title, nticks=7, rangemode="tozero")


def _whole(values: pd.Series) -> list[int]:
    return [int(value) for value in values]


def _span(low: float, width: int) -> str:
    first = math.ceil(low)
    return str(first) if width == 1 else f"{first} to {first + width - 1}"
