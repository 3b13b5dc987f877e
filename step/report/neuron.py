"""Pictures of a neuron's answers to a constant current and to a step: for the terminal and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neurons.conformance import Response, Result
from step.report.braille import curve, framed, raster
from step.report.files import write_atomically
from step.report.html import element, table
from step.report.page import document
from step.report.style import Figure, axis, layout

_MARGIN = 8


def about_rates(found: Response) -> str:
    """Return one sentence on the f-I curve."""
    top, steps = found.currents[-1], f"mean of {found.steps} steps" if found.steps > 1 else "one step"
    if found.rheobase is None:
        return f"output against constant input, {steps}"
    if found.rheobase <= found.currents[0]:
        return f"fires without input, {found.rates[0]:.3g} spikes a step; {found.rates[-1]:.3g} at {top:.3g} ({steps})"
    return f"fires from {found.rheobase:.3g}; {found.rates[-1]:.3g} spikes a step at {top:.3g} ({steps})"


def panels(found: Response, width: int = 40) -> tuple[list[str], list[str]]:
    """Return the two pictures as lines of text: output against current, and the answer to a step.

    Parameters
    ----------
    found : Response
    width : int
        Of each picture in characters, without its scale.
    """
    low, high = _range(found.rates)
    # as many rows as the picture beside it, heading and scale included
    tall = 8 if found.state else 4
    one = ["f-I curve" if _spiking(found) else "output", *_curve(found.rates, width, tall)]
    left, right = f"{found.currents[0]:.3g}", f"{found.currents[-1]:.3g}"
    name = "input current"
    one.append(" " * (_MARGIN + 2) + left + name.center(width - len(left) - len(right)) + right)
    two = ["answer to a step", *framed(curve(found.step, width, 1, *_range(found.step)), *_range(found.step))]
    two[-1] = f"{'input':>{_MARGIN}} │" + two[-1][_MARGIN + 2 :]
    shown = main_state(found)
    if shown:
        low, high = _range(found.state[shown])
        lines = framed(curve(found.state[shown], width, 6, low, high), low, high)
        lines[3] = f"{shown:>{_MARGIN}} │" + lines[3][_MARGIN + 2 :]
        two += lines
    two.append(f"{'output':>{_MARGIN}} │{raster(found.output, width)}")
    first, last = "0", str(len(found.step))
    two.append(" " * (_MARGIN + 2) + first + "time step".center(width - len(first) - len(last)) + last)
    return one, two


def _spiking(found: Response) -> bool:
    return found.currents[0] == 0


def _curve(values: Sequence[float], width: int, height: int) -> list[str]:
    low, high = _range(values)
    return framed(curve(values, width, height, low, high), low, high)


def _range(values: Sequence[float]) -> tuple[float, float]:
    known = [value for value in values if abs(value) < float("inf")] or [0.0]
    low, high = min(known), max(known)
    return (low, high) if high > low else (low, low + 1)


def main_state(found: Response) -> str | None:
    """Return the state to draw where there is room for one: the membrane potential ``v``, or the first."""
    return "v" if "v" in found.state else next(iter(found.state), None)


def write_neuron_page(name: str, results: Sequence[Result], found: Response, path: Path) -> Path:
    """Write a page with the table of the check and both pictures; it opens without a network."""
    figures = {"figure-1": _rates_figure(found), "figure-2": _step_figure(found)}
    places = {
        key: element("div", id=key, style=f"min-height:{figure['layout']['height']}px", role="img", aria_label=key)
        for key, figure in figures.items()
    }
    states = f"; {', '.join(found.state)}: state after each step" if found.state else ""
    captions = {
        "figure-1": f"Against a constant current: {about_rates(found)}.",
        "figure-2": f"The answer to a step of {max(found.step):.3g}{states}.",
    }
    body = element(
        "main",
        element("p", "Conformance check", class_="kicker"),
        element("h1", name),
        table(
            ["check", "", "finding"],
            [[result.name, result.verdict, result.finding] for result in results],
            [False] * 3,
            "notes",
        ),
        [element("figure", places[key], element("figcaption", captions[key])) for key in figures],
    )
    page = document(name, body, figures)
    return write_atomically(path, lambda part: part.write_text(page, encoding="utf-8"))


def _rates_figure(found: Response) -> Figure:
    title = "Spikes per time step" if _spiking(found) else "Output"
    data = [_line(found.currents, found.rates, "var(--blue)", "%{x:.3g}: %{y:.3g}")]
    return {"data": data, "layout": layout(320, xaxis=axis("Constant input current"), yaxis=axis(title))}


def _step_figure(found: Response) -> Figure:
    rows = {"input": found.step, **found.state, "output": found.output}
    time = list(range(1, len(found.step) + 1))
    look = layout(90 + 110 * len(rows), xaxis=axis("Time step"))
    share, gap = 1 / len(rows), 0.04
    data = []
    for number, (name, values) in enumerate(rows.items()):
        suffix = "" if number == 0 else str(number + 1)
        colour = {"input": "var(--slate)", "output": "var(--vermillion)"}.get(name, "var(--blue)")
        line = _line(time, values, colour, f"{name}, step %{{x}}: %{{y:.4g}}") | {"yaxis": f"y{suffix}"}
        data.append(line)
        top = 1 - number * share
        title = {"text": name, "standoff": 4}
        look[f"yaxis{suffix}"] = axis(nticks=4) | {"domain": [max(0.0, top - share + gap), top], "title": title}
    look["xaxis"]["anchor"] = f"y{len(rows)}" if len(rows) > 1 else "y"
    return {"data": data, "layout": look}


def _line(x: Sequence[float], y: Sequence[float], colour: str, hover: str) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "lines", "x": list(x), "y": list(y), "line": {"color": colour, "width": 1.8},
        "hovertemplate": f"{hover}<extra></extra>",
    }  # fmt: skip
