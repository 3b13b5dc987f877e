"""The command line. Heavy imports stand inside the commands, so that ``step --help`` is quick."""

from __future__ import annotations

import functools
import sys
import webbrowser
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    import pandas as pd

    from step.results import Results

app = typer.Typer(
    help="Spiking networks and their conventional twins: trained, counted and priced on the same tasks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
# Logs and pipes have no width of their own: give tables the room they need.
console = Console(width=None if sys.stdout.isatty() else 110)
errors = Console(stderr=True, soft_wrap=True, highlight=False)

Name = Annotated[str, typer.Argument(metavar="SUITE", help="Name of a suite (see 'step list suites') or a YAML file.")]
Folder = Annotated[Path | None, typer.Option("--folder", help="Where results go. [default: step-results]")]
StoreUrl = Annotated[str | None, typer.Option("--store", help="Results database: a file or an SQLAlchemy URL.")]
Data = Annotated[Path | None, typer.Option("--data", help="Folder of data sets that is looked at first.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="FIELD=VALUE", help="Change a field of the suite, e.g. learner.epochs=5. Repeatable."
    ),
]
Plugins = Annotated[
    list[Path] | None, typer.Option("--plugin", help="Python file that registers components. Repeatable.")
]
Export = Annotated[Path | None, typer.Option("--export", help="Also write the table: .csv, .parquet or .json.")]


class Kind(StrEnum):
    """What ``step list`` lists."""

    neurons = "neurons"
    surrogates = "surrogates"
    encoders = "encoders"
    datasets = "datasets"
    models = "models"
    learners = "learners"
    protocols = "protocols"
    energy = "energy"
    suites = "suites"


class By(StrEnum):
    """How ``step energy`` breaks its table down."""

    model = "model"
    part = "part"
    layer = "layer"


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Turn the errors of users into one line and exit code 2, Ctrl-C into exit code 130."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except KeyboardInterrupt:
            errors.print("stopped; finished runs are kept, the others go on from their last epoch next time")
            raise typer.Exit(130) from None
        except Exception as error:
            from neurons.errors import StepError  # here: it stands in a package that loads torch

            if not isinstance(error, StepError):
                raise
            errors.print(f"[bold red]error:[/] {_escape(str(error))}")
            raise typer.Exit(2) from None

    return run


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _load_plugins(plugins: list[Path] | None) -> list[Path]:
    from step.plugins import load_plugin

    for path in plugins or []:
        load_plugin(path)
    return plugins or []


def _results(
    suite: str, folder: Path | None, store: str | None, overrides: list[str] | None, plugins: list[Path] | None
) -> Results:
    """Open the results of a suite; one line when there are none."""
    from step.api import place_of
    from step.results import Results
    from step.suite import load_suite, parse_override

    _load_plugins(plugins)
    loaded = load_suite(suite, dict(parse_override(text) for text in overrides or []))
    return Results(loaded, place_of(folder, store))


@app.command()
@guarded
def run(
    suite: Name,
    workers: Annotated[int, typer.Option(help="Runs at a time; the cores are shared out among them.")] = 1,
    folder: Folder = None,
    store: StoreUrl = None,
    data: Data = None,
    overrides: Overrides = None,
    plugins: Plugins = None,
) -> None:
    """Train, evaluate, count and store every run of a suite; finished runs are not done again."""
    from step import api
    from step.executors import run_jobs
    from step.progress import live
    from step.suite import load_suite, parse_override

    paths = _load_plugins(plugins)
    with console.status("checking the suite"):
        loaded = load_suite(suite, dict(parse_override(text) for text in overrides or []))
        planned = api.plan(loaded, api.place_of(folder, store, data), workers)
    console.print(f"[bold]{_escape(loaded.title)}[/]")
    console.print(
        f"{len(loaded.specs)} runs, {len(planned.finished)} finished before, results in {planned.place.store}"
    )
    outcome: dict[str, str] = {}
    if planned.todo:
        with live(console, planned) as report:
            outcome = run_jobs(planned.todo, planned.place, report, workers=workers, plugins=paths)
    _show(api.Results(loaded, planned.place))
    failed = {run_id: text for run_id, text in outcome.items() if text.startswith("error: ")}
    for run_id, text in failed.items():
        errors.print(f"[bold red]failed:[/] {run_id} ({_escape(loaded.labels[run_id])}): {_escape(text[7:])}")
    for run_id in (run_id for run_id, text in outcome.items() if text == "busy"):
        errors.print(f"{run_id} ({_escape(loaded.labels[run_id])}) is being done by another process; left to it")
    if failed:
        raise typer.Exit(1)


def _show(results: Results, export: Path | None = None) -> None:
    from step.report.summary import notes, summary

    with console.status("reading results"):
        table = summary(results)
    _table(table, results.title, export)
    for note in notes(results):
        console.print(f"[dim]{_escape(note)}[/]")


def _table(frame: pd.DataFrame, title: str, export: Path | None) -> None:
    from step.report.tables import export as write
    from step.report.tables import print_table

    print_table(frame, title, console)
    if export is not None:
        console.print(f"written to {write(frame, export)}", soft_wrap=True)


@app.command()
@guarded
def show(
    suite: Name,
    runs: Annotated[bool, typer.Option("--runs", help="One row for each run instead of means over seeds.")] = False,
    export: Export = None,
    folder: Folder = None,
    store: StoreUrl = None,
    overrides: Overrides = None,
    plugins: Plugins = None,
) -> None:
    """Show the results of a suite: accuracy, parameters, spikes, operations, energy, side by side."""
    results = _results(suite, folder, store, overrides, plugins)
    if runs:
        _table(results.runs, results.title, export)
    else:
        _show(results, export)


@app.command()
@guarded
def energy(
    suite: Name,
    by: Annotated[
        By, typer.Option(help="One row for each energy model, for each of its parts, or for each layer.")
    ] = By.model,
    export: Export = None,
    folder: Folder = None,
    store: StoreUrl = None,
    overrides: Overrides = None,
    plugins: Plugins = None,
) -> None:
    """Show what one inference costs under every energy model, networks and twins side by side."""
    from step.report.collect import energy_notes
    from step.report.summary import energy_table

    results = _results(suite, folder, store, overrides, plugins)
    with console.status("pricing"):
        table, notes = energy_table(results, by.value), energy_notes(results)
    _table(table, f"{results.title}: energy per inference by {by.value}", export)
    for row in notes.itertuples():
        console.print(f"[bold]{row.model}[/] ({_escape(str(row.confidence))}): {_escape(str(row.source))}")
        console.print(f"[dim]  leaves out: {_escape(str(row.ignores))}[/]")
        if row.warnings:
            console.print(f"  [yellow]warning:[/] {_escape(str(row.warnings))}")


@app.command()
@guarded
def report(
    suite: Name,
    output: Annotated[Path | None, typer.Option(help="File to write. [default: FOLDER/SUITE.html]")] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    folder: Folder = None,
    store: StoreUrl = None,
    overrides: Overrides = None,
    plugins: Plugins = None,
) -> None:
    """Write one HTML page with tables and plots of a suite; it opens without a network."""
    from step.report.collect import collect
    from step.report.page import write_page

    results = _results(suite, folder, store, overrides, plugins)
    with console.status("drawing"):
        path = write_page(collect(results), output or results.place.folder / f"{results.suite.name}.html")
    console.print(f"report: {path}", soft_wrap=True)
    if open_page:
        webbrowser.open(path.resolve().as_uri())


@app.command("list")
@guarded
def list_(kind: Annotated[Kind | None, typer.Argument(help="What to list; everything when left out.")] = None,
          plugins: Plugins = None) -> None:  # fmt: skip
    """List what can be named in suites, with one line each."""
    from step.catalogue import rows

    _load_plugins(plugins)
    for each in [kind] if kind else list(Kind):
        if kind is None:
            console.print(f"[bold]{each.value}[/]")
        for name, text in rows(each.value):
            console.print(f"  [cyan]{_escape(name)}[/]  {_escape(text)}", soft_wrap=True)


@app.command()
@guarded
def fetch(
    dataset: Annotated[str, typer.Argument(help="Data set, see 'step list datasets'.")],
    data: Annotated[
        Path | None, typer.Option("--data", help="Where to put it. [default: the user cache folder]")
    ] = None,
) -> None:
    """Download a data set and verify its content."""
    from benchmarks import datasets

    with console.status(f"fetching {dataset}") as status:
        path = datasets.fetch(dataset, data, progress=status.update)
    found = "needs no files of its own" if path is None else str(path)
    console.print(f"{dataset}: {found}", soft_wrap=True)


@app.command()
@guarded
def doctor() -> None:
    """Say what is installed, where data and results are looked for, and what works here."""
    from step.catalogue import diagnosis

    with console.status("looking, and building the kernels that are not built yet"):
        found = diagnosis()
    for title, rows in found.items():
        console.print(f"[bold]{title}[/]")
        for name, text in rows:
            console.print(f"  {name:<26} {_escape(text)}", soft_wrap=True)


def main() -> None:
    """Entry point of the ``step`` command."""
    app()


if __name__ == "__main__":
    main()
