"""Run suites and show what they found."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from step.cli.base import (
    Data,
    Export,
    Folder,
    Name,
    Overrides,
    Plugins,
    StoreUrl,
    app,
    console,
    errors,
    escape,
    guarded,
    load_plugins,
)

if TYPE_CHECKING:
    import pandas as pd

    from step.effects import Effects
    from step.results import Results


def _results(
    suite: str,
    folder: Path | None,
    store: str | None,
    overrides: list[str] | None,
    plugins: list[Path] | None,
    data: Path | None = None,
) -> Results:
    """Open the results of a suite; one line when there are none."""
    from step.api import place_of
    from step.results import Results
    from step.suite import load_suite, parse_override

    load_plugins(plugins)
    loaded = load_suite(suite, dict(parse_override(text) for text in overrides or []))
    return Results(loaded, place_of(folder, store, data))


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

    paths = load_plugins(plugins)
    with console.status("checking the suite"):
        loaded = load_suite(suite, dict(parse_override(text) for text in overrides or []))
        planned = api.plan(loaded, api.place_of(folder, store, data), workers)
    console.print(f"[bold]{escape(loaded.title)}[/]")
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
        errors.print(f"[bold red]failed:[/] {run_id} ({escape(loaded.labels[run_id])}): {escape(text[7:])}")
    for run_id in (run_id for run_id, text in outcome.items() if text == "busy"):
        errors.print(f"{run_id} ({escape(loaded.labels[run_id])}) is being done by another process; left to it")
    if failed:
        raise typer.Exit(1)


def _show(results: Results, export: Path | None = None) -> None:
    from step.effects import effects_of, metric_of
    from step.report import continual, places, plots
    from step.report.published import print_published
    from step.report.summary import metric_words, notes, summary

    with console.status("reading results"):
        table = summary(results)
    _table(table, results.title, export)
    for note in notes(results):
        console.print(f"[dim]{escape(note)}[/]")
    if results.continual is not None:
        _table(continual.table(results.continual), "Continual learning", None)
        _table(continual.costs(results.continual), "Costs of continual learning", None)
        for line in (*continual.sentences(results.continual), *continual.cost_sentences(results.continual)):
            console.print(f"[dim]{escape(line)}[/]")
    if results.places is not None:
        found = results.places
        _table(places.table(found), "Place recognition: R@1, %", None)
        _table(places.measures(found, found.headline), places.leading(found), None)
        _table(places.costs(found), "Costs of place recognition", None)
        grown = places.scale_table(found)
        if len(grown):
            _table(grown, "Growing maps", None)
        for line in (*places.sentences(found), *places.cost_sentences(found)):
            console.print(f"[dim]{escape(line)}[/]")
    for plot, points in results.plots:
        if len(points):
            _table(plots.table(plot, points), f"{plot.title}: {metric_words(results.metric)}, %", None)
    _effects(effects_of(results.suite, results.runs, metric_of(results.metric)), only_judged=True)
    print_published(results.suite.published, console)


def _effects(found: list[Effects], only_judged: bool = False) -> None:
    """Print effects, each with what its words mean; tables of those that no seeds can judge may be left out."""
    from step.report import effects as shown

    for effects in found:
        console.print()
        title = f"Effect of {effects.factor} on {effects.metric.name}: {shown.difference(effects)}"
        if shown.judged(effects) or not only_judged:
            _table(shown.table(effects), title, None)
        if len(effects.pooled):
            _table(shown.pooled(effects), f"Effect of {effects.factor} over all {shown.held(effects)}", None)
        over = shown.pooled_sentences(effects) if len(effects.pooled) else []
        for line in (*shown.sentences(effects), *over):
            console.print(f"[dim]{escape(line)}[/]")


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
def effects(
    suite: Name,
    metric: Annotated[
        str,
        typer.Option(help="accuracy, energy (under every model), spikes, or any column of 'step show SUITE --runs'."),
    ] = "accuracy",
    factor: Annotated[
        list[str] | None, typer.Option("--factor", help="Field of the grid. Repeatable. [default: all compared ones]")
    ] = None,
    export: Export = None,
    folder: Folder = None,
    store: StoreUrl = None,
    overrides: Overrides = None,
    plugins: Plugins = None,
) -> None:
    """Say which choices of a suite change more than another seed does: paired tests, effect sizes, power."""
    from neurons.errors import OptionError
    from step.effects import as_frame, effects_of, metrics_of
    from step.report.tables import export as write

    results = _results(suite, folder, store, overrides, plugins)
    with console.status("reading results"):
        metrics = metrics_of(results.runs, metric, results.metric)
        found = [each for one in metrics for each in effects_of(results.suite, results.runs, one, factor or None)]
    if not found:
        raise OptionError(f"{results.suite.name} has no field with several levels besides the seed")
    _effects(found)
    if export is not None:
        console.print(f"written to {write(as_frame(found), export)}", soft_wrap=True)


@app.command()
@guarded
def report(
    suite: Name,
    output: Annotated[Path | None, typer.Option(help="File to write. [default: FOLDER/SUITE.html]")] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    folder: Folder = None,
    store: StoreUrl = None,
    data: Data = None,
    overrides: Overrides = None,
    plugins: Plugins = None,
) -> None:
    """Write one HTML page with tables and plots of a suite; it opens without a network."""
    from step.report.collect import collect
    from step.report.page import write_page

    results = _results(suite, folder, store, overrides, plugins, data)
    with console.status("drawing"):
        path = write_page(collect(results), output or results.place.folder / f"{results.suite.name}.html")
    console.print(f"report: {path}", soft_wrap=True)
    if open_page:
        webbrowser.open(path.resolve().as_uri())
