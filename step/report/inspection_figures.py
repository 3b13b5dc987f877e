"""The figures of an inspection: rates, dead and saturated neurons, spikes; layers from input (top) to output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from step.report.style import Figure, axis, label, layout, rows_axis

if TYPE_CHECKING:
    from step.inspection import Inspection

_WRITTEN = 8  # with more time steps the rates stand in the colours alone

STATES = {
    "dead": "var(--slate)",
    "in between": "var(--empty)",
    "above 90 %": "var(--ochre)",
    "saturated": "var(--vermillion)",
}
"""Colours of the states of neurons."""


def rates_by_step(found: Inspection) -> Figure:
    """Return the rate of every layer at every time step as a heat map."""
    rates = [[100 * rate for rate in layer.by_step] for layer in found.layers]
    heat = {
        **_heat(rates, "var(--blue)"),
        "x": list(range(1, found.T + 1)), "zmax": max(rate for row in rates for rate in row) or 1,
        "hovertemplate": "%{customdata}, step %{x}: %{z:.2f} %<extra></extra>",
        "customdata": [[name] * found.T for name in _names(found)],
    }  # fmt: skip
    if found.T <= _WRITTEN:
        heat |= {"texttemplate": "%{z:.0f}", "textfont": {"size": 10}}
    else:
        heat |= {"showscale": True, "colorbar": {"title": {"text": "%"}, "thickness": 10, "outlinewidth": 0}}
    x = axis("Time step", tickformat="d", showgrid=False, **({"dtick": 1} if found.T <= 20 else {"nticks": 10}))
    return {"data": [heat], "layout": _rows(found, x)}


def states(found: Inspection) -> Figure:
    """Return how many neurons of every layer are dead, nearly saturated, saturated, or neither: bars that sum to 1."""
    shares = [layer.shares for layer in found.layers]
    columns = {
        "dead": [dead for dead, _, _ in shares],
        "in between": [1 - sum(all_) for all_ in shares],
        "above 90 %": [nearly for _, nearly, _ in shares],
        "saturated": [saturated for _, _, saturated in shares],
    }
    neurons = [layer.neurons for layer in found.layers]
    data = [
        {
            "type": "bar", "orientation": "h", "x": [100 * share for share in column], "y": list(range(len(neurons))),
            "marker": {"color": STATES[state]}, "name": state,
            "customdata": [[name, round(share * n), n] for name, share, n in zip(_names(found), column, neurons,
                                                                                  strict=True)],
            "hovertemplate": f"%{{customdata[0]}}, {state}: %{{x:.2f}} % "
                             "(%{customdata[1]} of %{customdata[2]} neurons)<extra></extra>",
        }
        for state, column in columns.items()
    ]  # fmt: skip
    x = axis("Neurons (%)", range=[0, 100], nticks=4)
    return {"data": data, "layout": _rows(found, x, barmode="stack", bargap=0.25)}


def distribution(found: Inspection) -> Figure:
    """Return the histogram of the rates of the neurons of every layer, each row from 0 to its fullest bin."""
    counts = [list(layer.histogram) for layer in found.layers]
    scaled = [[count / max(*row, 1) for count in row] for row in counts]
    bins = len(counts[0])
    names = _names(found)
    heat = {
        **_heat(scaled, "var(--green)"),
        "x": [100 * (place + 0.5) / bins for place in range(bins)], "zmax": 1, "ygap": 2,
        "customdata": [[[name, count] for count in row] for name, row in zip(names, counts, strict=True)],
        "hovertemplate": "%{customdata[0]}, about %{x:.0f} %: %{customdata[1]} neurons<extra></extra>",
    }  # fmt: skip
    what = "Share of samples with a positive output (%)" if found.conventional else "Rate of a neuron (%)"
    return {"data": [heat], "layout": _rows(found, axis(what, range=[0, 100], nticks=6, showgrid=False))}


def spikes(found: Inspection, whole: bool) -> Figure:
    """Return the spikes of every layer in one inference: of the whole layer, or of a neuron."""
    values = [layer.spikes * (layer.neurons if whole else 1) for layer in found.layers]
    bars = {
        "type": "bar", "orientation": "h", "x": values, "y": list(range(len(values))), "customdata": _names(found),
        "marker": {"color": "var(--blue)"}, "hovertemplate": "%{customdata}: %{x:.4g}<extra></extra>",
    }  # fmt: skip
    title = "Spikes per inference, whole layer" if whole else "Spikes per inference and neuron"
    return {"data": [bars], "layout": _rows(found, axis(title, rangemode="tozero", nticks=6), bargap=0.3)}


def _heat(z: list[list[float]], colour: str) -> dict[str, Any]:
    return {
        "type": "heatmap", "z": z, "y": list(range(len(z))), "zmin": 0, "showscale": False, "xgap": 1, "ygap": 1,
        "colorscale": [[0.0, "var(--empty)"], [1.0, colour]],
    }  # fmt: skip


def _names(found: Inspection) -> list[str]:
    return [label(layer.name, 60) for layer in found.layers]


def _rows(found: Inspection, x: dict[str, Any], **more: Any) -> dict[str, Any]:
    count = len(found.layers)
    ticks = {"tickvals": list(range(count)), "ticktext": _names(found), "tickfont": {"size": 10}}
    y = rows_axis(range=[count - 0.5, -0.5], showgrid=False, **ticks)
    return layout(90 + 17 * count, xaxis=x, yaxis=y, **more)
