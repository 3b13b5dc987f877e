"""The figures over a verdict: who is cheaper under every energy model, what it rests on, and where it turns round.

Every function takes frames of :class:`energy.verdict.Verdict` and returns a plain figure, as those in
:mod:`step.report.figures` do.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from step.report.style import HUES, Figure, Look, axis, label, layout, log_axis, rows_axis, words
from step.report.units import EnergyUnit, format_energy, format_ratio

if TYPE_CHECKING:
    import pandas as pd

_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
_EXTREME = 1e6  # a ratio beyond it would press all others into one spot of the axis


def energy_by_part(parts: pd.DataFrame, looks: list[Look], colours: Mapping[str, str], unit: EnergyUnit) -> Figure:
    """Return one model's panel: a bar for each network, stacked by part, its total behind it.

    Parameters
    ----------
    parts : pandas.DataFrame
        network, part, pJ under this model.
    looks : list of Look
        Networks, from the top.
    colours : mapping of str to str
        Colour of every part, in the order of stacking.
    unit : EnergyUnit
        Unit of the energy axis.
    """
    values = parts.set_index(["network", "part"])["pJ"] / unit.pJ
    rows = [label(look.name) for look in looks]
    data: list[dict[str, Any]] = []
    for part, colour in colours.items():
        lengths = [float(values.get((look.name, part), math.nan)) for look in looks]
        if all(math.isnan(length) for length in lengths):
            continue
        data.append(
            {
                "type": "bar", "orientation": "h", "x": lengths, "y": rows, "name": label(words(part)),
                "marker": {
                    "color": colour, "line": {"width": 0.8, "color": "var(--paper)"},
                    "pattern": {"shape": [look.pattern for look in looks], "fgcolor": "var(--paper)", "size": 6,
                                "solidity": 0.25, "fillmode": "overlay"},
                },
                "hovertemplate": f"%{{y}}<br>{label(words(part))}: %{{x:.4g}} {unit.name}<extra></extra>",
            }
        )  # fmt: skip
    totals = [float(parts.loc[parts["network"] == look.name, "pJ"].sum()) for look in looks]
    data.append(
        {
            "type": "scatter", "mode": "text", "x": [total / unit.pJ for total in totals], "y": rows,
            "text": [f" {format_energy(total)}" for total in totals], "textposition": "middle right",
            "textfont": {"size": 11, "color": "var(--ink)"}, "hoverinfo": "skip", "cliponaxis": False,
        }
    )  # fmt: skip
    largest = max(totals, default=0.0) / unit.pJ
    x = axis(f"Energy per inference ({unit.name})", nticks=5, range=[0, 1.3 * largest or 1.0])
    y = rows_axis(categoryorder="array", categoryarray=rows, autorange="reversed", showgrid=False)
    return {"data": data, "layout": layout(92 + 24 * len(looks), barmode="stack", bargap=0.3, xaxis=x, yaxis=y)}


def ratios(rows: pd.DataFrame, names: Mapping[str, str], network: Look, twin: Look) -> Figure:
    """Return the ratio under every model, cheapest on top, with how far it moves when prices and rates do.

    Parameters
    ----------
    rows : pandas.DataFrame
        Rows of the verdict's table for one twin; those without a ratio are left out.
    names : mapping of str to str
        What to call each label on the axis.
    network, twin : Look
        The mark of whoever is cheaper stands at the ratio; it is grey where they are even.
    """
    rows = drawable(rows)
    heights = list(range(len(rows)))
    ink = "var(--ink)"
    marks = {"network": network.colour, "even": "var(--slate)"}
    data = [
        _bands(rows, ("ratio_memory_low", "ratio_memory_high"), heights, "memory at 0.5 and 1.5 times its price",
               {"color": "var(--part-memory-state)", "width": 9}, opacity=0.45),
        _bands(rows, ("ratio_rate_low", "ratio_rate_high"), heights, "firing rates at 0.5 and 1.5 times theirs",
               {"color": ink, "width": 1.3}, {"symbol": "line-ns-open", "size": 9, "color": ink}),
        {
            "type": "scatter", "mode": "markers", "x": _positive(rows["ratio_reuse"]), "y": heights,
            "marker": {"symbol": "x-thin-open", "size": 9, "color": ink, "line": {"width": 1.8, "color": ink}},
            "hovertemplate": "weights reused as far as possible: %{x:.3g}×<extra></extra>", "cliponaxis": False,
        },
        {
            "type": "scatter", "mode": "markers", "x": list(rows["ratio"]), "y": heights,
            "marker": {
                "symbol": [twin.symbol if winner not in marks else network.symbol for winner in rows["winner"]],
                "color": [marks.get(winner, twin.colour) for winner in rows["winner"]], "size": 11,
                "line": {"width": 2, "color": [marks.get(winner, twin.colour) for winner in rows["winner"]]},
            },
            "customdata": [label(names[each], 60) for each in rows["label"]],
            "hovertemplate": "%{customdata}: %{x:.3g}×<extra></extra>", "cliponaxis": False,
        },
    ]  # fmt: skip
    columns = ["ratio", "ratio_memory_low", "ratio_memory_high", "ratio_reuse", "ratio_rate_low", "ratio_rate_high"]
    seen = [v for column in columns for v in _positive(rows[column]) if v is not None]
    low, high = math.log10(min([1.0, *seen])), math.log10(max([1.0, *seen]))
    margin = 0.06 * max(high - low, 0.6)
    x = log_axis("Energy, spiking ÷ twin (log scale)", 1.6 * (high - low), range=[low - margin, high + margin])
    y = rows_axis(
        tickvals=heights, ticktext=[label(names[each], 34) for each in rows["label"]],
        range=[len(rows) - 0.4, -0.6],
    )  # fmt: skip
    even = {"type": "line", "x0": 1, "x1": 1, "yref": "paper", "y0": 0, "y1": 1, "layer": "below",
            "line": {"color": ink, "width": 1.2}}  # fmt: skip
    amounts = [
        {"xref": "paper", "x": 1.0, "xanchor": "left", "xshift": 6, "y": height, "text": format_ratio(ratio),
         "showarrow": False, "font": {"size": 11, "color": ink}}
        for height, ratio in zip(heights, rows["ratio"], strict=True)
    ]  # fmt: skip
    look = layout(80 + 24 * len(rows), xaxis=x, yaxis=y, shapes=[even], annotations=amounts)
    look["margin"] = {**look["margin"], "r": 58}
    return {"data": data, "layout": look}


def drawable(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows whose ratio has a place on a logarithmic axis, the network's best case first."""
    fits = rows["ratio"].between(1 / _EXTREME, _EXTREME)
    return rows[fits].sort_values("ratio", kind="stable").reset_index(drop=True)


def _bands(
    rows: pd.DataFrame, columns: tuple[str, str], heights: list[int], about: str, line: dict[str, Any],
    ends: dict[str, Any] | None = None, opacity: float = 1.0,
) -> dict[str, Any]:  # fmt: skip
    x: list[float | None] = []
    y: list[float | None] = []
    for height, ratio, *sides in zip(heights, rows["ratio"], *(rows[column] for column in columns), strict=True):
        # at one end the rates may be beyond what neurons can fire: the band then ends at the ratio itself
        known = [side for side in (sides[0], ratio, sides[1]) if 1 / _EXTREME <= side <= _EXTREME]
        if len(known) > 1:
            x += [min(known), max(known), None]
            y += [height, height, None]
    return {
        "type": "scatter", "mode": "lines+markers" if ends else "lines", "x": x, "y": y, "line": line,
        "opacity": opacity, "hovertemplate": f"{about}: %{{x:.3g}}×<extra></extra>", "cliponaxis": False,
        **({"marker": ends} if ends else {}),
    }  # fmt: skip


def _positive(values: Iterable[float]) -> list[float | None]:
    return [value if 1 / _EXTREME <= value <= _EXTREME else None for value in values]


def layer_shares(layers: pd.DataFrame, names: Mapping[str, str]) -> Figure:
    """Return the share of a model's total that each layer takes: layers from input (top) to output, a column a model.

    Parameters
    ----------
    layers : pandas.DataFrame
        label, layer, order, pJ of one network; a layer without a price under any model has no row.
    names : mapping of str to str
        What to call each label on the axis.
    """
    priced = layers.dropna(subset=["pJ"])
    shown = priced.groupby("layer", sort=False)["order"].min().sort_values(kind="stable").index
    chosen = list(dict.fromkeys(priced["label"]))
    pJ = priced.pivot_table(index="layer", columns="label", values="pJ", aggfunc="sum", sort=False)
    pJ = pJ.reindex(index=shown, columns=chosen)
    total = pJ.sum()
    share = 100 * pJ / total.where(total > 0)
    heat = {
        "type": "heatmap", "z": share.to_numpy(dtype=float).tolist(), "x": list(range(len(chosen))),
        "y": list(range(len(shown))), "xgap": 1, "ygap": 1, "hoverongaps": False,
        "colorscale": [[0.0, "var(--empty)"], [1.0, "var(--blue)"]], "zmin": 0.0,
        "customdata": [
            [f"{label(str(layer), 60)}<br>{label(names[each], 60)}" for each in chosen] for layer in shown
        ],
        "hovertemplate": "%{customdata}: %{z:.2f} %<extra></extra>",
        "colorbar": {"title": {"text": "%", "side": "top"}, "thickness": 10, "outlinewidth": 0, "nticks": 6,
                     "len": 0.9, "xpad": 12},
    }  # fmt: skip
    x = axis(
        tickvals=list(range(len(chosen))), ticktext=[label(names[each], 60) for each in chosen],
        side="top", tickangle=-50, showgrid=False, showline=False, ticks="",
    )  # fmt: skip
    y = rows_axis(
        tickvals=list(range(len(shown))), ticktext=[label(str(layer), 60) for layer in shown],
        range=[len(shown) - 0.5, -0.5], showgrid=False,
    )  # fmt: skip
    return {"data": [heat], "layout": layout(150 + 19 * len(shown), xaxis=x, yaxis=y)}


def break_even(curves: pd.DataFrame, names: Mapping[str, str]) -> Figure:
    """Return the ratio against the firing rate, a line for each model, the measured network marked on it.

    Parameters
    ----------
    curves : pandas.DataFrame
        label, factor, rate, ratio against one twin.
    names : mapping of str to str
        What to call each label; the place of a label in it chooses its line.
    """
    drawn = curves[(curves["rate"] > 0) & curves["ratio"].between(1 / _EXTREME, _EXTREME)]
    data: list[dict[str, Any]] = []
    for place, (each, name) in enumerate(names.items()):
        line = drawn[drawn["label"] == each].sort_values("rate")
        if line.empty:
            continue
        colour, dash = _stroke(place)
        shown = label(name, 34)
        data.append(
            {
                "type": "scatter", "mode": "lines", "x": list(line["rate"]), "y": list(line["ratio"]), "name": shown,
                "line": {"color": colour, "width": 1.8, "dash": dash}, "legendgroup": shown,
                "hovertemplate": f"{shown}<br>%{{x:.3g}} spikes a step: %{{y:.3g}}×<extra></extra>",
            }
        )  # fmt: skip
        point = line[line["factor"] == 1]
        data.append(
            {
                "type": "scatter", "mode": "markers", "x": list(point["rate"]), "y": list(point["ratio"]),
                "marker": {"size": 8, "color": colour, "line": {"color": "var(--paper)", "width": 1}},
                "showlegend": False, "legendgroup": shown,
                "hovertemplate": f"{shown}, as measured<br>%{{x:.3g}} spikes a step: %{{y:.3g}}×<extra></extra>",
            }
        )  # fmt: skip
    spread = [_decades(drawn[column]) for column in ("rate", "ratio")]
    rule = {"type": "line", "layer": "below", "line": {"color": "var(--ink)", "width": 1.2}}
    shapes = [{**rule, "xref": "paper", "x0": 0, "x1": 1, "y0": 1, "y1": 1}]
    here = drawn.loc[drawn["factor"] == 1, "rate"]
    if len(here):
        at = float(here.iloc[0])
        dotted = {"color": "var(--axis)", "width": 1.2, "dash": "dot"}
        shapes.append({**rule, "yref": "paper", "y0": 0, "y1": 1, "x0": at, "x1": at, "line": dotted})
    x = log_axis("Firing rate: spikes per input and time step (log scale)", 1.6 * spread[0])
    y = log_axis("Energy, spiking ÷ twin (log scale)", spread[1])
    look = layout(max(380, 90 + 19 * len(data) // 2), xaxis=x, yaxis=y, shapes=shapes, showlegend=True)
    return {"data": data, "layout": look | {"legend": _legend()}}


def spikes_per_synapse(synapses: pd.DataFrame, thresholds: pd.DataFrame | None = None) -> Figure:
    """Return spikes per synapse of each layer, with the published limits above on the same axis.

    Parameters
    ----------
    synapses : pandas.DataFrame
        layer, spikes_per_synapse; the row ``network`` is the whole.
    thresholds : pandas.DataFrame, optional
        name, limit (below it a spiking network may be cheaper), lower (of a band, else NaN), confirmed.
    """
    limits: list[dict[Any, Any]] = [] if thresholds is None else thresholds.to_dict("records")
    points = synapses[synapses["spikes_per_synapse"] > 0]
    ends = [[limit["limit"] if math.isnan(limit["lower"]) else limit["lower"], limit["limit"]] for limit in limits]
    values = [*(end for pair in ends for end in pair), *points["spikes_per_synapse"]]
    low, high = math.log10(min(values)), math.log10(max(values))
    margin = 0.06 * max(high - low, 0.6)
    left, ink = 10 ** (low - margin), "var(--ink)"
    places = [len(limits) + 0.5 + place for place in range(len(points))]
    whole = [name == "network" for name in points["layer"]]
    data = [
        _reach([[left, pair[0]] for pair in ends], 0.45),
        _reach(ends, 0.18),
        {
            "type": "scatter", "mode": "markers+text", "x": [pair[1] for pair in ends], "y": list(range(len(ends))),
            "marker": {"symbol": "line-ns-open", "size": 13, "color": ink, "line": {"width": 2, "color": ink}},
            "text": ["  " + " to ".join(f"{end:.3g}" for end in dict.fromkeys(pair)) for pair in ends],
            "textposition": "middle right", "textfont": {"size": 11, "color": ink}, "cliponaxis": False,
            "hovertemplate": "may be cheaper below %{x:.3g}<extra></extra>",
        },
        {
            "type": "scatter", "mode": "markers", "x": list(points["spikes_per_synapse"]), "y": places,
            "marker": {"symbol": ["diamond" if w else "circle" for w in whole],
                       "size": [12 if w else 8 for w in whole], "color": "var(--blue)"},
            "hovertemplate": "%{x:.3g} spikes per synapse<extra></extra>", "cliponaxis": False,
        },
    ]  # fmt: skip
    names = [label(str(limit["name"]), 44) + ("" if limit["confirmed"] else " *") for limit in limits]
    names += [
        f"<b>{label(str(each), 44)}</b>" if w else label(str(each), 44)
        for each, w in zip(points["layer"], whole, strict=True)
    ]
    rows = len(limits) + len(points)
    grid = [
        {"type": "line", "layer": "below", "x0": limit["limit"], "x1": limit["limit"], "y0": place, "y1": rows,
         "line": {"color": "var(--axis)", "width": 1, "dash": "dot"}}
        for place, limit in enumerate(limits)
    ]  # fmt: skip
    x = log_axis("Spikes per synapse and inference (log scale)", high - low, range=[low - margin, high + 2 * margin])
    y = rows_axis(
        tickvals=[*range(len(limits)), *places], ticktext=names, range=[rows + 0.2, -0.7], showgrid=False
    )  # fmt: skip
    return {"data": data, "layout": layout(80 + 20 * rows, xaxis=x, yaxis=y, shapes=grid)}


def _reach(spans: list[list[float]], opacity: float) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "lines", "x": [end for span in spans for end in (*span, None)],
        "y": [end for place in range(len(spans)) for end in (place, place, None)], "hoverinfo": "skip",
        "line": {"color": "var(--green)", "width": 7}, "opacity": opacity,
    }  # fmt: skip


def firing_over_time(steps: pd.DataFrame) -> Figure:
    """Return the firing rate of every layer at each time step.

    Parameters
    ----------
    steps : pandas.DataFrame
        layer, step (from 0), rate (spikes per neuron).
    """
    data = []
    for place, (layer, rows) in enumerate(steps.groupby("layer", sort=False)):
        colour, dash = _stroke(place)
        rows = rows.sort_values("step")
        data.append(
            {
                "type": "scatter", "mode": "lines+markers", "x": list(rows["step"] + 1),
                "y": list(100 * rows["rate"]), "name": label(str(layer), 34),
                "line": {"color": colour, "width": 1.6, "dash": dash}, "marker": {"size": 4, "color": colour},
                "hovertemplate": f"{label(str(layer), 60)}, step %{{x}}: %{{y:.2f}} %<extra></extra>",
            }
        )  # fmt: skip
    last = int(steps["step"].max()) + 1
    x = axis("Time step", tickformat="d", **({"dtick": 1} if last <= 20 else {"nticks": 10}))
    y = axis("Firing rate (%)", rangemode="tozero", nticks=7)
    look = layout(max(300, 90 + 19 * len(data)), xaxis=x, yaxis=y, showlegend=True)
    return {"data": data, "layout": look | {"legend": _legend()}}


def _stroke(place: int) -> tuple[str, str]:
    """Return colour and dash of a line: eight hues, then the same hues dashed in five ways."""
    return f"var(--{HUES[place % len(HUES)][0]})", _DASHES[place // len(HUES) % len(_DASHES)]


def _legend() -> dict[str, Any]:
    return {"x": 1.01, "xanchor": "left", "y": 1, "yanchor": "top", "font": {"size": 11, "color": "var(--ink)"},
            "tracegroupgap": 0, "bgcolor": "rgba(0,0,0,0)"}  # fmt: skip


def _decades(values: pd.Series) -> float:
    return math.log10(values.max() / values.min()) if len(values) else 1.0
