"""One self-contained HTML page over a suite's runs: it opens without a network, today and in ten years."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from step.report.assets import SCRIPT, STYLE
from step.report.data import Judged, ReportData
from step.report.energy_sections import verdict_sections
from step.report.files import write_atomically
from step.report.html import Markup, element, join
from step.report.inspection import run_sections
from step.report.pieces import Plates, Section, description
from step.report.sections import Sheet, sections
from step.report.style import looks_of

if TYPE_CHECKING:
    import pandas as pd

    from energy import Verdict
    from energy.measured import Measured
    from step.inspection import Inspection

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
    return _page("Benchmark report", data.title, sections(sheet), sheet.figures)


def build_verdict_page(
    verdict: Verdict,
    title: str,
    facts: Mapping[str, str],
    *,
    steps: pd.DataFrame | None = None,
    thresholds: pd.DataFrame | None = None,
    measured: Measured | None = None,
) -> str:
    """Return a page on one spiking network and its twins under every energy model.

    Parameters
    ----------
    verdict : energy.Verdict
    title : str
    facts : mapping of str to str
        What a reader must know, by name, in the order in which it is shown. ``Counting`` (else ``Data``) is what the
        captions say of the data and the counting rule.
    steps : pandas.DataFrame, optional
        layer, step (from 0), rate of the network; see :func:`step.report.collect.steps_of`.
    thresholds : pandas.DataFrame, optional
        Published limits on spikes per synapse for the time steps of the network; see :mod:`energy.thresholds`.
    measured : energy.measured.Measured, optional
        What this computer used while it simulated the network: a section of its own, apart from the estimates.
    """
    counted = facts.get("Counting", facts.get("Data", ""))
    judged = Judged(verdict, f"Counted on {counted}." if counted else "", steps, thresholds)
    plates = Plates()
    parts = verdict_sections(plates, judged, looks_of([verdict.network], verdict.twins), measured)
    parts.append(Section("setting", "Setting", description(facts)))
    return _page("Energy", title, parts, plates.figures)


def build_inspection_page(found: Inspection, title: str, facts: Mapping[str, str]) -> str:
    """Return a page on what the layers of one network do: rates, dead and saturated neurons, attention maps.

    Parameters
    ----------
    found : step.inspection.Inspection
    title : str
    facts : mapping of str to str
        What a reader must know of the run, by name, in the order in which it is shown.

    Raises
    ------
    ShapeError
        When the arrays of the inspection do not fit together.
    """
    found.check()
    plates = Plates()
    return _page("Inspection", title, run_sections(plates, found, facts), plates.figures)


def _page(kicker: str, title: str, parts: Sequence[Section], figures: Mapping[str, Any]) -> str:
    links = [element("a", part.title, href=f"#{part.anchor}") for part in parts]
    body = element(
        "main",
        element("p", kicker, class_="kicker"),
        element("h1", title),
        element("nav", links, aria_label="Sections"),
        element("noscript", element("p", "The figures need JavaScript; the tables do not.", class_="missing")),
        [
            element("section", element("h2", part.title), part.body, id=part.anchor)
            if number
            else element("section", part.body, id=part.anchor, aria_label=part.title)
            for number, part in enumerate(parts)
        ],
    )
    return document(title, body, figures)


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
    return _write(build_page(data), path)


def write_verdict_page(
    verdict: Verdict,
    title: str,
    facts: Mapping[str, str],
    path: Path,
    *,
    steps: pd.DataFrame | None = None,
    thresholds: pd.DataFrame | None = None,
    measured: Measured | None = None,
) -> Path:
    """Write the page of :func:`build_verdict_page` so that it appears whole or not at all; return its path.

    Raises
    ------
    OptionError
        When the path cannot be written.
    """
    page = build_verdict_page(verdict, title, facts, steps=steps, thresholds=thresholds, measured=measured)
    return _write(page, path)


def write_inspection_page(found: Inspection, title: str, facts: Mapping[str, str], path: Path) -> Path:
    """Write the page of :func:`build_inspection_page` so that it appears whole or not at all; return its path.

    Raises
    ------
    OptionError
        When the path cannot be written.
    """
    return _write(build_inspection_page(found, title, facts), path)


def _write(page: str, path: Path) -> Path:
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
