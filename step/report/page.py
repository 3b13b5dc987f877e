"""One self-contained HTML page over a suite's runs: it opens without a network, today and in ten years."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from step.report.assets import SCRIPT, STYLE
from step.report.data import ReportData
from step.report.files import write_atomically
from step.report.html import Markup, element, join
from step.report.sections import Sheet, sections

# The page may run and style itself and show the images it carries; whatever else it asked for would be refused.
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"


def build_page(data: ReportData) -> str:
    """Return the whole page as one HTML document.

    The same data give the same text, byte for byte: nothing on the page depends on when it was built.

    Parameters
    ----------
    data : ReportData
        What to show; an empty frame leaves its section with a line that says so.

    Raises
    ------
    OptionError, ShapeError
        When the data do not fit together; see :meth:`ReportData.check`.
    """
    data.check()
    sheet = Sheet(data)
    parts = sections(sheet)
    links = [element("a", part.title, href=f"#{part.anchor}") for part in parts]
    body = element(
        "main",
        element("p", "Benchmark report", class_="kicker"),
        element("h1", data.title),
        element("nav", links, aria_label="Sections"),
        element("noscript", element("p", "The figures need JavaScript; the tables do not.", class_="missing")),
        [
            element("section", element("h2", part.title), part.body, id=part.anchor)
            if number
            else element("section", part.body, id=part.anchor, aria_label=part.title)
            for number, part in enumerate(parts)
        ],
    )
    return document(data.title, body, sheet.figures)


def document(title: str, body: Markup, figures: Mapping[str, Any]) -> str:
    """Return a self-contained page: its style, the script that draws its figures, and plotly."""
    from plotly.offline import get_plotlyjs

    head = join(
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Markup(STYLE)),
    )
    scripts = join(
        element("script", Markup(figures_json(figures)), type="application/json", id="figures"),
        element("script", Markup(get_plotlyjs()), id="plotly"),
        element("script", Markup(SCRIPT)),
    )
    page = element("html", element("head", head), element("body", body, scripts), lang="en")
    return f"<!DOCTYPE html>\n{page}\n"


def write_page(data: ReportData, path: Path) -> Path:
    """Write the page so that it appears whole or not at all; return its path.

    Raises
    ------
    OptionError
        When the data do not fit together or the path cannot be written.
    """
    page = build_page(data)
    return write_atomically(Path(path), lambda part: part.write_text(page, encoding="utf-8"))


def figures_json(figures: Mapping[str, Any]) -> str:
    """Return figures as JSON that may stand inside a script element; NaN and infinities become null."""
    text = json.dumps(_plain(figures), separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):  # a NumPy scalar
        value = value.item()
    if isinstance(value, float):
        # seven digits are more than a screen can show and keep the page small
        return float(f"{value:.7g}") if math.isfinite(value) else None
    return value
