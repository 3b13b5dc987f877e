"""Look around: what there is, what is installed, and the data."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from step.cli.base import Plugins, app, console, escape, guarded, load_plugins


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


@app.command("list")
@guarded
def list_(kind: Annotated[Kind | None, typer.Argument(help="What to list; everything when left out.")] = None,
          plugins: Plugins = None) -> None:  # fmt: skip
    """List what can be named in suites, with one line each."""
    from step.catalogue import rows

    load_plugins(plugins)
    for each in [kind] if kind else list(Kind):
        if kind is None:
            console.print(f"[bold]{each.value}[/]")
        for name, text in rows(each.value):
            console.print(f"  [cyan]{escape(name)}[/]  {escape(text)}", soft_wrap=True)


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
            console.print(f"  {name:<26} {escape(text)}", soft_wrap=True)
