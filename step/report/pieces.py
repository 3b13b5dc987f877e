"""What all sections of a page share: the figures placed so far, numbered captions, and pieces of markup."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from step.report.html import Markup, element, join, table
from step.report.style import Figure, Look, words
from step.report.tables import format_cell, is_numeric

if TYPE_CHECKING:
    import pandas as pd


class Section(NamedTuple):
    """A part of the page."""

    anchor: str
    title: str
    body: Markup


class Plates:
    """The figures of one page, in the order in which they were placed."""

    def __init__(self) -> None:
        self.figures: dict[str, Figure] = {}
        self.captions = 0

    def place(self, figure: Figure, about: str) -> Markup:
        """Keep a figure for the page's script and return the element in which it will be drawn."""
        name = f"figure-{len(self.figures) + 1}"
        self.figures[name] = figure
        # the height is set beforehand, so that the page does not jump while the figures are drawn
        height = f"min-height:{figure['layout']['height']}px"
        return element("div", id=name, style=height, role="img", aria_label=about)

    def caption(self, *sentences: str | Markup) -> Markup:
        """Return the next numbered caption."""
        self.captions += 1
        spaced = [join(" ", sentence) for sentence in sentences if sentence]
        return element("figcaption", element("b", f"Figure {self.captions}."), spaced)


def figure(*children: Markup) -> Markup:
    """Return a figure: panels and their caption."""
    return element("figure", *children)


def panel(title: str, *children: Markup) -> Markup:
    """Return one panel of a figure under its title."""
    return element("div", element("h3", title), *children)


def panels(shown: Iterable[Markup]) -> Markup:
    """Return panels side by side, as many as the screen is wide enough for."""
    return element("div", shown, class_="panels")


def missing(sentence: str) -> Markup:
    """Return a line that stands where something could not be shown."""
    return element("p", sentence, class_="missing")


def facts(*sentences: str) -> Markup:
    """Return sentences in small print; nothing without any."""
    said = " ".join(sentence for sentence in sentences if sentence)
    return element("p", said, class_="facts") if said else Markup("")


def name(look: Look, tag: bool = True) -> Markup:
    """Return the mark and name of a network."""
    kind = element("span", look.kind, class_="tag") if tag and look.kind in ("spiking", "twin") else Markup("")
    return join(look.mark, element("span", look.name, kind))


def key(shown: Iterable[Look]) -> Markup:
    """Return the key to the marks of networks."""
    return element("ul", [element("li", name(look)) for look in shown], class_="key")


def swatches(colours: Mapping[str, str]) -> Markup:
    """Return the key to colours, each with its name."""
    entries = [
        element("li", element("span", class_="swatch", style=f"--hue:{hue}"), words(what))
        for what, hue in colours.items()
    ]
    return element("ul", entries, class_="key")


def frame(shown: pd.DataFrame, class_: str = "") -> Markup:
    """Return a frame as a table, numbers to the right."""
    numeric = [is_numeric(shown.iloc[:, place]) for place in range(shown.shape[1])]
    rows = [[format_cell(value) for value in row] for row in shown.itertuples(index=False, name=None)]
    return table([words(str(column)) for column in shown.columns], rows, numeric, class_)


def description(items: Mapping[str, str]) -> Markup:
    """Return facts by name."""
    listed = []
    for what, value in items.items():
        shown = element("code", value) if what.lower() == "command" else value
        listed.append(join(element("dt", what), element("dd", shown)))
    return element("dl", listed)
