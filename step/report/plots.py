"""The plots that a suite asks for: a line for each kind of network, and the numbers behind them as a table."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pandas as pd

from step.report import pieces
from step.report.html import Markup, join
from step.report.style import Figure, Look, axis, label, layout, lines_of, log_axis
from step.report.units import MISSING

if TYPE_CHECKING:
    from step.plots import Plot
    from step.report.pieces import Plates


def section(plates: Plates, plots: list[tuple[Plot, pd.DataFrame]], metric: str) -> Markup:
    """Return the section of the page: each plot with its table."""
    return join(*(_one(plates, plot, points, metric) for plot, points in plots))


def table(plot: Plot, points: pd.DataFrame) -> pd.DataFrame:
    """Return means ± s.d. over seeds, in percent: one row for each x, one column for each line."""
    rows = []
    for x, here in points.groupby("x"):
        row: dict[str, Any] = {plot.x: f"{x:g}"}
        for line in dict.fromkeys(points["line"]):
            values = 100 * here.loc[here["line"] == line, "y"]
            spread = f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else ""
            row[line or "all"] = f"{values.mean():.1f}{spread}" if len(values) else MISSING
        rows.append(row)
    return pd.DataFrame(rows)


def figure(plot: Plot, points: pd.DataFrame, metric: str, looks: list[Look]) -> Figure:
    """Return the figure: the mean of every line at every x with its s.d., and the seeds as light points."""
    data: list[dict[str, Any]] = []
    for look in looks:
        line = points[points["line"] == look.name].sort_values("x")
        stats = line.groupby("x")["y"].agg(["mean", "std", "count"]) * 100
        marker = {"symbol": look.symbol, "color": look.colour, "line": {"color": look.colour, "width": 2}}
        hover = f"{label(look.name) or 'all'}, %{{x:g}}: %{{y:.1f}} %<extra></extra>"
        if line["seed"].nunique() > 1:
            data.append(
                {
                    "type": "scatter", "mode": "markers", "x": list(line["x"]), "y": list(100 * line["y"]),
                    "marker": {**marker, "size": 5}, "opacity": 0.35, "hovertemplate": hover, "cliponaxis": False,
                }
            )  # fmt: skip
        spread = [0.0 if math.isnan(value) else value for value in stats["std"]]
        data.append(
            {
                "type": "scatter", "mode": "lines+markers", "x": list(stats.index), "y": list(stats["mean"]),
                "marker": {**marker, "size": 9}, "line": {"color": look.colour, "width": 2, "dash": look.dash},
                "error_y": {"type": "data", "array": spread, "color": look.colour, "thickness": 1.2, "width": 3},
                "hovertemplate": hover, "cliponaxis": False,
            }
        )  # fmt: skip
    xs = points["x"]
    logarithmic = plot.log and bool((xs > 0).all())
    x = log_axis(plot.x, max(math.log10(xs.max() / xs.min()), 0.1)) if logarithmic else axis(plot.x, nticks=9)
    return {"data": data, "layout": layout(340, xaxis=x, yaxis=axis(f"{metric[0].upper()}{metric[1:]} (%)", nticks=7))}


def _one(plates: Plates, plot: Plot, points: pd.DataFrame, metric: str) -> Markup:
    if points.empty:
        return pieces.panel(plot.title, pieces.missing("No finished run has a number to plot here."))
    looks = lines_of(dict.fromkeys(points["line"]))
    drawn = plates.place(figure(plot, points, metric, looks), plot.title)
    many = points["seed"].nunique() > 1
    caption = plates.caption(
        f"{plot.title}.",
        "Mean over seeds with one s.d.; light points are single seeds." if many else "One seed.",
    )
    keyed = pieces.key(looks) if len(looks) > 1 else Markup("")
    return join(
        pieces.figure(keyed, pieces.panel(plot.title, drawn), caption), pieces.frame(table(plot, points), "small")
    )
