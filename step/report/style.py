"""How networks and parts of the energy look, in every figure alike.

Colours are names of CSS variables, which the page's style sheet defines once for light and once for dark screens
and its script puts into the figures. The hues are those of Okabe and Ito (https://jfly.uni-koeln.de/color/), which
stay apart for readers with any common colour blindness; dark screens get lighter shades of them.
"""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from step.report.data import KINDS, ReportData
from step.report.html import Markup, element

Figure = dict[str, Any]

# (name, light, dark): spiking networks take hues from the front, twins from the back
HUES = (
    ("blue", "#0072b2", "#56a8e0"),
    ("vermillion", "#d55e00", "#ff8a3d"),
    ("green", "#009e73", "#35c796"),
    ("purple", "#b5548c", "#e29bc4"),
    ("sky", "#3a9bd0", "#8fd0f5"),
    ("olive", "#7d7a00", "#c9c54a"),
    ("ochre", "#c98a00", "#f0bd4f"),
    ("slate", "#5b6472", "#a9b2bf"),
)
_SYMBOLS = ("circle", "square", "diamond", "triangle-up")  # spiking networks from the front, twins from the back
_OUTLINES = {
    "circle": '<circle cx="6" cy="6" r="4.2"/>',
    "square": '<rect x="2" y="2" width="8" height="8"/>',
    "diamond": '<path d="M6 .9 11.1 6 6 11.1 .9 6Z"/>',
    "triangle-up": '<path d="M6 1.4 11 10H1Z"/>',
}

# The memory parts share one family of hues, so that memory against compute is seen at a glance.
PARTS = (
    ("compute", "#2f4b7c", "#7f9fd6"),
    ("neuron", "#5aa7a7", "#7cc9c9"),
    ("memory_weight", "#a6611a", "#d08a3f"),
    ("memory_state", "#d2964a", "#e8b878"),
    ("memory_activation", "#e3bf85", "#f2d9ad"),
    ("memory_partial_sum", "#efdcb9", "#8a6a3a"),
    ("addressing", "#a34a6e", "#d583a6"),
    ("routing", "#7a6bb0", "#a99be0"),
    ("static", "#8d949e", "#6d7683"),
)
_SPARE_PARTS = ("olive", "purple", "sky", "slate", "green", "vermillion")


@dataclass(frozen=True)
class Look:
    """How one network is drawn: spiking ones solid and filled, twins hatched, open and dashed."""

    name: str
    kind: str
    colour: str
    symbol: str
    dash: str
    pattern: str

    @property
    def spiking(self) -> bool:
        """Whether it is a spiking network."""
        return self.kind == "spiking"

    @property
    def mark(self) -> Markup:
        """The network's mark as it stands in the figures, for keys and tables."""
        fill = self.colour if self.spiking else "none"
        outline = _OUTLINES[self.symbol.removesuffix("-open")]
        drawn = f"fill:{fill};stroke:{self.colour};stroke-width:1.8;stroke-linejoin:round"
        return element("svg", Markup(outline), class_="mark", viewBox="0 0 12 12", style=drawn, aria_hidden="true")


def looks(data: ReportData) -> list[Look]:
    """Return the look of every network that has a run: spiking ones first, else in their order."""
    if not len(data.runs):
        return []
    kinds = dict(zip(data.runs["network"], data.runs["kind"], strict=True))
    return looks_of(*([name for name, kind in kinds.items() if kind == wanted] for wanted in KINDS))


def looks_of(spiking: Iterable[str], twins: Iterable[str], others: Iterable[str] = ()) -> list[Look]:
    """Return the looks of spiking networks, of twins, and of networks that are neither."""
    found = []
    for place, name in enumerate(spiking):
        found.append(Look(name, "spiking", _hue(place), _SYMBOLS[place % len(_SYMBOLS)], "solid", ""))
    kinds = [*((name, "twin") for name in twins), *((name, "other") for name in others)]
    for place, (name, kind) in enumerate(kinds):
        symbol = _SYMBOLS[(-1 - place) % len(_SYMBOLS)] + "-open"
        found.append(Look(name, kind, _hue(-1 - place), symbol, ("dash", "dot")[place % 2], "/"))
    return found


def _hue(place: int) -> str:
    return f"var(--{HUES[place % len(HUES)][0]})"


def part_colours(parts: list[str]) -> dict[str, str]:
    """Return the colour of every part of the energy, known parts first and in their usual order."""
    known = [name for name, _, _ in PARTS]
    ordered = [name for name in known if name in parts] + [part for part in parts if part not in known]
    spare = 0
    colours = {}
    for part in ordered:
        if part in known:
            colours[part] = f"var(--part-{part.replace('_', '-')})"
        else:
            colours[part] = f"var(--{_SPARE_PARTS[spare % len(_SPARE_PARTS)]})"
            spare += 1
    return colours


def colour_variables(dark: bool) -> str:
    """Return the CSS declarations of all hues."""
    which = 2 if dark else 1
    hues = [f"--{hue[0]}:{hue[which]}" for hue in HUES]
    parts = [f"--part-{part[0].replace('_', '-')}:{part[which]}" for part in PARTS]
    return ";".join(hues + parts) + ";"


def words(name: str) -> str:
    """Return an identifier as words: ``memory_weight`` gives ``memory weight``."""
    return name.replace("_", " ")


def lines_of(names: Iterable[str]) -> list[Look]:
    """Return the looks of lines that are no single networks."""
    return [replace(look, kind="line") for look in looks_of(names, ())]


def label(name: str, width: int = 18) -> str:
    """Return a name for use inside a figure: folded, and escaped because figures read some HTML in texts."""
    return "<br>".join(html.escape(line) for line in textwrap.wrap(name, width) or [""])


def axis(title: str = "", **more: Any) -> dict[str, Any]:
    """Return an axis in the page's style."""
    look: dict[str, Any] = {
        "title": {"text": title, "standoff": 8}, "gridcolor": "var(--grid)", "linecolor": "var(--axis)",
        "tickcolor": "var(--axis)", "ticks": "outside", "ticklen": 4, "showline": True, "zeroline": False,
        "automargin": True, "fixedrange": False,
    }  # fmt: skip
    return {**look, **more}


def rows_axis(**more: Any) -> dict[str, Any]:
    """Return a vertical axis of named rows: no line, and room between the names and the figure."""
    return axis(showline=False, tickcolor="rgba(0,0,0,0)", ticklen=6, **more)


def log_axis(title: str, decades: float, **more: Any) -> dict[str, Any]:
    """Return a logarithmic axis, labelled at 1, 2 and 5 while that leaves room, else at powers of ten."""
    minor = {"ticks": "outside", "ticklen": 3, "tickcolor": "var(--axis)"}
    step = "D2" if decades <= 2.6 else math.ceil(decades / 8)
    return axis(title, type="log", dtick=step, tickformat="~g", minor=minor, **more)


def layout(height: int, **more: Any) -> dict[str, Any]:
    """Return a figure's layout in the page's style; its width is that of its place on the page."""
    look: dict[str, Any] = {
        "height": height, "autosize": True, "showlegend": False, "hovermode": "closest",
        "margin": {"l": 8, "r": 12, "t": 26, "b": 8},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "var(--axis)", "activecolor": "var(--ink)"},
        "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "Inter, 'Helvetica Neue', Arial, sans-serif", "size": 12, "color": "var(--ink)"},
        "hoverlabel": {"bgcolor": "var(--paper)", "bordercolor": "var(--axis)", "font": {"color": "var(--ink)"}},
    }  # fmt: skip
    return {**look, **more}
