"""The figures of continual learning: accuracy matrices, accuracy over tasks, dimensions taken by earlier tasks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from step.report.aggregate import over_seeds
from step.report.style import Figure, Look, axis, label, layout, rows_axis

if TYPE_CHECKING:
    import pandas as pd

_WRITTEN = 12  # with more tasks the numbers no longer fit into the cells


def accuracy_matrix(matrix: pd.DataFrame) -> Figure:
    """Return the accuracies of one run as a heat map: tasks learned (top to bottom) against the task that is asked.

    Parameters
    ----------
    matrix : pandas.DataFrame
        learned, task, accuracy.
    """
    cells = 100 * matrix[matrix["learned"] > 0].pivot(index="learned", columns="task", values="accuracy")
    tasks, rows = [int(task) for task in cells.columns], [int(row) for row in cells.index]
    heat: dict[str, Any] = {
        "type": "heatmap", "z": cells.to_numpy(dtype=float).tolist(), "x": tasks, "y": rows, "zmin": 0, "zmax": 100,
        "xgap": 1, "ygap": 1, "showscale": len(tasks) > _WRITTEN,
        "colorscale": [[0.0, "var(--empty)"], [1.0, "var(--blue)"]],
        "colorbar": {"title": {"text": "%"}, "thickness": 10, "outlinewidth": 0},
        "hovertemplate": "task %{x} after %{y}: %{z:.2f} %<extra></extra>",
    }  # fmt: skip
    if len(tasks) <= _WRITTEN:
        heat |= {"texttemplate": "%{z:.0f}", "textfont": {"size": 10}}
    ticks = {"tickformat": "d", "showgrid": False, "dtick": 1 if len(tasks) <= 20 else 5}
    y = axis("Tasks learned", range=[rows[-1] + 0.5, rows[0] - 0.5], **ticks)
    height = 110 + max(20 * len(rows), 60)
    return {"data": [heat], "layout": layout(min(height, 420), xaxis=axis("Task asked", **ticks), yaxis=y)}


def over_tasks(values: pd.DataFrame, title: str, looks: list[Look]) -> Figure:
    """Return an accuracy against the number of tasks learned: mean over seeds with one s.d., a line for each network.

    Parameters
    ----------
    values : pandas.DataFrame
        network, seed, learned, accuracy.
    title : str
        What the accuracy is.
    looks : list of Look
        Networks to show.
    """
    stats = over_seeds(values, ["network", "learned"], "accuracy").sort_values("learned")
    data: list[dict[str, Any]] = []
    for look in looks:
        line = stats[stats["network"] == look.name]
        if line.empty:
            continue
        spread = [0.0 if math.isnan(sd) else 100 * sd for sd in line["sd"]]
        data.append(
            {
                "type": "scatter", "mode": "lines+markers", "x": list(line["learned"]), "y": list(100 * line["mean"]),
                "marker": {"symbol": look.symbol, "size": 8, "color": look.colour,
                           "line": {"color": look.colour, "width": 2}},
                "line": {"color": look.colour, "width": 2, "dash": look.dash},
                "error_y": {"type": "data", "array": spread, "color": look.colour, "thickness": 1.2, "width": 3},
                "hovertemplate": f"{label(look.name)}, after %{{x}}: %{{y:.2f}} %<extra></extra>",
                "cliponaxis": False,
            }
        )  # fmt: skip
    x = axis("Tasks learned", tickformat="d", dtick=1 if stats["learned"].nunique() <= 20 else 5)
    return {"data": data, "layout": layout(300, xaxis=x, yaxis=axis(f"{title} (%)", nticks=7))}


def ranks(of_run: pd.DataFrame) -> Figure:
    """Return the share of the dimensions of each layer that is frozen: a bar for each layer, a piece for each task.

    Parameters
    ----------
    of_run : pandas.DataFrame
        task, layer, rank (after the task), capacity.
    """
    # a read-out is dropped as soon as tasks turn out to have heads of their own
    layers = list(of_run.loc[of_run["task"] == of_run["task"].max(), "layer"])
    tasks = sorted(int(task) for task in of_run["task"].unique())
    table = of_run.pivot(index="task", columns="layer", values="rank").reindex(columns=layers)
    capacity = of_run.groupby("layer")["capacity"].first()
    grown = table - table.shift(fill_value=0)
    data = []
    for place, task in enumerate(tasks):
        new, held = grown.loc[task], table.loc[task]
        data.append(
            {
                "type": "bar", "orientation": "h", "y": list(range(len(layers))),
                "x": [100 * float(new[name]) / float(capacity[name]) for name in layers],
                "marker": {"color": "var(--blue)", "line": {"color": "var(--paper)", "width": 1}},
                "opacity": 1 - 0.6 * place / max(len(tasks) - 1, 1),
                "customdata": [
                    [label(name, 40), task, int(new[name]), int(held[name]), int(capacity[name])] for name in layers
                ],
                "hovertemplate": "%{customdata[0]}, task %{customdata[1]}: +%{customdata[2]}, %{customdata[3]} of "
                                 "%{customdata[4]}<extra></extra>",
            }
        )  # fmt: skip
    ticks = {"tickvals": list(range(len(layers))), "ticktext": [label(name, 40) for name in layers]}
    y = rows_axis(range=[len(layers) - 0.5, -0.5], showgrid=False, tickfont={"size": 10}, **ticks)
    x = axis("Dimensions taken (%)", range=[0, 100], nticks=6)
    height = 90 + 22 * len(layers)
    return {"data": data, "layout": layout(height, xaxis=x, yaxis=y, barmode="stack", bargap=0.25)}
