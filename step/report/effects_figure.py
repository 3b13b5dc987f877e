"""The forest plot of the effects of a factor: differences with their intervals, over a band of seed-to-seed noise."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from step.effects import YES
from step.report.style import HUES, Figure, axis, label, layout, rows_axis

if TYPE_CHECKING:
    from step.effects import Effects

_REACH = 3.0  # an interval this much wider than all differences and noise is cut at the edge of the figure


def forest(effects: Effects) -> tuple[Figure, bool]:
    """Return the figure of a factor, and whether an interval is cut at its edge.

    One row for each level and what is held fixed, the levels of one setting together.
    """
    rows = effects.table.to_dict("records")
    many = effects.table["within"].nunique() > 1
    heights = _heights([row["within"] for row in rows])
    levels = list(dict.fromkeys(row["level"] for row in rows))
    hues = [f"var(--{HUES[levels.index(row['level']) % len(HUES)][0]})" for row in rows]
    names = [row["level"] + (f", {row['within']}" if many else "") for row in rows]
    unit = {"points": " (points)", "%": " (% of the baseline)", "": ""}[effects.metric.unit]
    data: list[dict[str, Any]] = [_band([row["noise"] for row in rows], heights)]
    for row, height, hue, name in zip(rows, heights, hues, names, strict=True):
        if math.isnan(row["mean"]):
            continue
        sure = row["exceeds"] == YES
        data.append(
            {
                "type": "scatter", "mode": "lines", "x": [row["low"], row["high"]], "y": [height, height],
                "line": {"color": hue, "width": 1.8}, "hoverinfo": "skip",
            }
        )  # fmt: skip
        data.append(
            {
                "type": "scatter", "mode": "markers", "x": [row["mean"]], "y": [height],
                "marker": {"symbol": "circle" if sure else "circle-open", "size": 10, "color": hue,
                           "line": {"color": hue, "width": 2}},
                "hovertemplate": f"{label(name, 60)}: %{{x:+.3g}}<br>{label(row['exceeds'])}<extra></extra>",
                "cliponaxis": False,
            }
        )  # fmt: skip
    limit, cut = _limit(rows)
    ticks = [name if not math.isnan(row["mean"]) else f"{name}: {row['exceeds']}"
             for name, row in zip(names, rows, strict=True)]  # fmt: skip
    x = axis(f"Difference in {effects.metric.name}{unit}", nticks=9, range=[-limit, limit])
    y = rows_axis(
        tickvals=heights, ticktext=[label(tick, 44) for tick in ticks], range=[max(heights) + 0.6, -0.6]
    )  # fmt: skip
    zero = {"type": "line", "x0": 0, "x1": 0, "yref": "paper", "y0": 0, "y1": 1, "layer": "below",
            "line": {"color": "var(--ink)", "width": 1.2}}  # fmt: skip
    return {"data": data, "layout": layout(90 + round(24 * max(heights)), xaxis=x, yaxis=y, shapes=[zero])}, cut


def _heights(within: list[str]) -> list[float]:
    """Return where rows stand: one below the other, a gap where what is held fixed changes."""
    heights, height = [], 0.0
    for place, setting in enumerate(within):
        if place:
            height += 1.0 if setting == within[place - 1] else 1.6
        heights.append(height)
    return heights


def _band(noise: list[float], heights: list[float]) -> dict[str, Any]:
    x: list[float | None] = []
    y: list[float | None] = []
    for sd, height in zip(noise, heights, strict=True):
        if sd > 0:
            x += [-sd, sd, None]
            y += [height, height, None]
    return {
        "type": "scatter", "mode": "lines", "x": x, "y": y, "opacity": 0.35, "hoverinfo": "skip",
        "line": {"color": "var(--slate)", "width": 12},
    }  # fmt: skip


def _limit(rows: list[dict[Any, Any]]) -> tuple[float, bool]:
    inner = max((abs(v) for row in rows for v in (row["mean"], row["noise"]) if v == v), default=1.0) or 1.0
    outer = max((abs(v) for row in rows for v in (row["low"], row["high"]) if v == v), default=inner)
    return 1.08 * min(max(inner, outer), _REACH * inner), outer > _REACH * inner
