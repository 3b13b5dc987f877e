"""The command line's work as functions: run a suite, read its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from neurons.errors import OptionError, StepError
from step.executors import Job, Report, run_jobs
from step.plugins import load_plugin
from step.results import Results
from step.runner import Place, check
from step.store import Store, exists
from step.suite import Suite, load_suite

DEFAULT_FOLDER = Path("step-results")


def place_of(folder: str | Path | None = None, store: str | None = None, data: str | Path | None = None) -> Place:
    """Return where results go: ``folder`` (default ``step-results``), its database unless ``store`` names another."""
    folder = Path(folder or DEFAULT_FOLDER)
    return Place(folder, store or str(folder / "results.sqlite"), Path(data) if data else None)


@dataclass(frozen=True)
class Plan:
    """What a command is about to do.

    Attributes
    ----------
    suite : Suite
    place : Place
    todo : list of Job
        Runs that are not finished.
    finished : list of str
        Runs that are, and are not done again.
    """

    suite: Suite
    place: Place
    todo: list[Job]
    finished: list[str]


def plan(suite: Suite, place: Place, workers: int = 1) -> Plan:
    """Check every run that is not finished and open the store; nothing is written when anything is wrong."""
    if workers < 1:
        raise OptionError(f"--workers must be at least 1, not {workers}")
    statuses = Store(place.store).statuses(suite.labels) if exists(place.store) else {}
    finished = [spec.id for spec in suite.specs if statuses.get(spec.id) == "finished"]
    todo = [Job(spec, suite.name) for spec in suite.specs if spec.id not in finished]
    for job in todo:
        check(job.spec, place.data, place)
    Store(place.store)
    return Plan(suite, place, todo, finished)


def run(
    suite: str | Path,
    *,
    folder: str | Path | None = None,
    store: str | None = None,
    data: str | Path | None = None,
    workers: int = 1,
    overrides: Mapping[str, Any] | None = None,
    plugins: Sequence[str | Path] = (),
    report: Report | None = None,
) -> pd.DataFrame:
    """Run a suite and return its results, one row for each run.

    Finished runs are not done again; interrupted ones go on from their last epoch.

    Parameters
    ----------
    suite : str or Path
        Name of a suite that comes with STEP, or a YAML file.
    folder : path, optional
        Where weights, traces and the database go; ``step-results`` when left out.
    store : str, optional
        SQLAlchemy URL or SQLite file of the results database.
    data : path, optional
        Data root that is looked at first.
    workers : int
        Local processes.
    overrides : mapping, optional
        Dotted field to value, in place of what the suite says; a list is a grid.
    plugins : sequence of path, optional
        Python files that register components.
    report : callable, optional
        Receives the id of a run and an event of it.

    Raises
    ------
    StepError
        Before anything is written, when any run of the suite cannot work; after all runs, when some failed (the
        others are stored).
    """
    paths = [Path(plugin) for plugin in plugins]
    for path in paths:
        load_plugin(path)
    loaded = load_suite(suite, overrides)
    planned = plan(loaded, place_of(folder, store, data), workers)
    outcome = run_jobs(planned.todo, planned.place, report or (lambda run, event: None), workers=workers, plugins=paths)
    failed = {run: message for run, message in outcome.items() if message.startswith("error: ")}
    if failed:
        first, message = next(iter(failed.items()))
        raise StepError(
            f"{len(failed)} of {len(outcome)} runs failed, first {first}: {message.removeprefix('error: ')}"
        )
    return Results(loaded, planned.place).runs
