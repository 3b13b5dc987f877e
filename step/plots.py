"""Plots that a suite asks for: its metric against a number that its grid varies, a line for each kind of network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from neurons.errors import suggest
from step.suite_file import SuiteFile

if TYPE_CHECKING:
    import pandas as pd

    from step.spec import Spec
    from step.suite import Cell

_KEYS = ("title", "x", "lines", "log")
MEASURED = ("parameters", "train_seconds", "spikes")
"""What a run says of itself and a plot may have as its x."""


@dataclass(frozen=True)
class Plot:
    """The headline metric of a suite against a number.

    Attributes
    ----------
    title : str
    x : str
        Field of the grid whose levels are numbers, such as ``model.tau_max``, or a measured quantity: ``parameters``.
        Only the combinations of the grid that vary the field are shown.
    lines : str, optional
        Field of the grid with a line for each of its levels; one line for all when left out.
    log : bool
        Whether x is drawn on a logarithmic axis.
    """

    title: str
    x: str
    lines: str | None = None
    log: bool = False


def read_plots(given: Any, levels: Mapping[str, list[Any]], file: SuiteFile) -> list[Plot]:
    """Read the ``plots`` key of a suite.

    Parameters
    ----------
    given : any
        What stands in the file.
    levels : mapping
        Levels by field of the grid.
    file : SuiteFile
        For errors.
    """
    if not isinstance(given, list):
        file.fail(("plots",), "a list of plots, each {title: ..., x: ..., lines: ..., log: ...}")
    plots = []
    for place, entry in enumerate(given):
        if (
            not isinstance(entry, dict)
            or not isinstance(entry.get("title"), str)
            or not isinstance(entry.get("x"), str)
        ):
            file.fail(("plots", place), "a plot needs a title and x, the field of the grid along its axis")
        for key in entry:
            if key not in _KEYS:
                file.fail(("plots", place, key), f"no such key{suggest(str(key), _KEYS)}")
        for key, more in (("x", MEASURED), ("lines", ())):
            value = entry.get(key)
            if value is not None and value not in levels and value not in more:
                known = (*levels, *more)
                file.fail(("plots", place, key), f"the grid has no field {value!r}{suggest(str(value), known)}")
        if not isinstance(entry.get("log", False), bool):
            file.fail(("plots", place, "log"), "true or false")
        plots.append(Plot(entry["title"], entry["x"], entry.get("lines"), entry.get("log", False)))
    return plots


def points(plot: Plot, cells: list[Cell], specs: Mapping[str, Spec], runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the points of a plot: line, seed, x, y; combinations without a finished run or a number are left out.

    Parameters
    ----------
    plot : Plot
    cells : list of Cell
        Combinations of the grid.
    specs : mapping
        Spec of every finished run.
    runs : pandas.DataFrame
        One row for each run, as ``Results.runs`` has it.
    metric : str
        Column of ``runs`` that becomes y.
    """
    import numpy as np
    import pandas as pd

    by_run = runs.set_index("run")
    rows = []
    for cell in cells:
        if cell.run not in specs or (plot.lines is not None and plot.lines not in cell.levels):
            continue
        x: Any
        if plot.x in MEASURED:
            x = by_run.loc[cell.run, plot.x]
        elif plot.x in cell.levels:
            x = _field(specs[cell.run].model_dump(mode="json"), plot.x)
        else:
            continue
        if isinstance(x, bool) or not isinstance(x, (int, float, np.number)):
            continue
        line = "" if plot.lines is None else cell.levels[plot.lines]
        y: Any = by_run.loc[cell.run, metric]
        rows.append({"line": line, "seed": cell.seed, "x": float(x), "y": float(y)})
    return pd.DataFrame(rows, columns=["line", "seed", "x", "y"]).drop_duplicates(ignore_index=True)


def _field(tree: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        if not isinstance(tree, Mapping) or part not in tree:
            return None
        tree = tree[part]
    return tree
