"""Look around: what there is, what is installed, and the data."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from step.cli.base import Export, Plugins, app, console, escape, guarded, load_plugins

if TYPE_CHECKING:
    import pandas as pd


class Kind(StrEnum):
    """What ``step list`` lists."""

    neurons = "neurons"
    surrogates = "surrogates"
    encoders = "encoders"
    datasets = "datasets"
    models = "models"
    attentions = "attentions"
    embeddings = "embeddings"
    learners = "learners"
    recipes = "recipes"
    methods = "methods"
    rules = "rules"
    subspaces = "subspaces"
    protocols = "protocols"
    energy = "energy"
    suites = "suites"


@app.command("list")
@guarded
def list_(kind: Annotated[Kind | None, typer.Argument(help="What to list; everything when left out.")] = None,
          name: Annotated[str | None, typer.Argument(help="One of these: all that is known about it.")] = None,
          export: Export = None,
          plugins: Plugins = None) -> None:  # fmt: skip
    """List what can be named in suites: one line each, or all about one of them."""
    from neurons.errors import OptionError
    from step.catalogue import about, rows
    from step.report.tables import export as write

    load_plugins(plugins)
    if export is not None and (kind is None or (name is not None and kind is not Kind.models)):
        raise OptionError("--export takes a table: 'step list KIND', or 'step list models NAME'")
    if kind is None:
        for each in Kind:
            console.print(f"[bold]{each.value}[/]")
            _lines(rows(each.value))
        return
    if kind is Kind.models:
        frame = _models() if name is None else _model(name)
    elif name is not None:
        console.print(escape(about(kind.value, name)), soft_wrap=True, highlight=False)
        return
    else:
        import pandas as pd

        frame = pd.DataFrame(rows(kind.value), columns=["name", "description"])
        _lines(rows(kind.value))
    if export is not None:
        console.print(f"written to {escape(str(write(frame, export)))}", soft_wrap=True)


def _lines(rows: list[tuple[str, str]]) -> None:
    for name, text in rows:
        console.print(f"  [cyan]{escape(name)}[/]  {escape(text)}", soft_wrap=True)


def _models() -> pd.DataFrame:
    from step import zoo
    from step.report.tables import print_table

    with console.status("counting parameters"):
        frame = zoo.overview()
    print_table(zoo.overview_shown(frame), "models, each at the size that it has without options", console)
    _dim(
        "Parameters: counted here, with lif neurons (gelu in a conventional network).",
        f"CIFAR-10, ImageNet (best size that is here): published. {zoo.CAVEAT}",
        "* not printed in the model's own paper. Sizes, sources and deviations: step list models NAME.",
    )
    return frame


def _model(name: str) -> pd.DataFrame:
    from step import models, zoo
    from step.report.tables import print_table

    kind = models.models.get(name)
    with console.status("counting parameters"):
        frame = zoo.sizes(name)
    paper = getattr(kind, "paper", None)
    console.print(escape(models.describe(name)), soft_wrap=True, highlight=False)
    if paper is not None:
        console.print(escape(str(paper)), soft_wrap=True, highlight=False)
        if paper.note:
            console.print(escape(f"Here: {paper.note}"), soft_wrap=True, highlight=False)
    console.print()
    print_table(zoo.sizes_shown(frame), "sizes, and what was published about them", console)
    if paper is not None and paper.published:
        _dim(zoo.CAVEAT, "A size without parameters is not here.")
    return frame


def _dim(*lines: str) -> None:
    for line in lines:
        console.print(f"[dim]{escape(line)}[/]", highlight=False)


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
