"""Look into a finished run: rates, dead and saturated neurons, attention maps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from step.cli.base import (
    Data,
    Export,
    Folder,
    Overrides,
    Plugins,
    StoreUrl,
    app,
    console,
    escape,
    guarded,
    load_plugins,
)

if TYPE_CHECKING:
    from step.inspection.run import Inspected

_RUN = "Id of a finished run or how it begins; a suite (its first network), or SUITE/NETWORK, e.g. quick/plif."


@app.command()
@guarded
def inspect(
    run: Annotated[str, typer.Argument(metavar="RUN", help=_RUN)],
    samples: Annotated[int, typer.Option(help="Test samples to count on, evenly over the split.")] = 256,
    batch: Annotated[int, typer.Option(help="Samples at a time.")] = 64,
    images: Annotated[int, typer.Option(help="Samples to draw maps of.")] = 4,
    page: Annotated[Path | None, typer.Option(help="Also write one HTML page with pictures of all of it.")] = None,
    export: Export = None,
    folder: Folder = None,
    store: StoreUrl = None,
    data: Data = None,
    overrides: Overrides = None,
    plugins: Plugins = None,
) -> None:
    """Show what the layers of a trained network do: firing rates, dead and saturated neurons, attention maps."""
    from step.api import place_of
    from step.inspection.run import inspect_run
    from step.report.tables import export as write

    load_plugins(plugins)
    with console.status("running the network"):
        seen = inspect_run(
            run, place_of(folder, store, data), samples=samples, batch=batch, images=images, overrides=overrides or []
        )
    _print(seen)
    if export is not None:
        console.print(f"written to {escape(str(write(seen.found.frame(), export)))}", soft_wrap=True)
    if page is not None:
        from step.report.page import write_inspection_page

        written = write_inspection_page(seen.found, seen.title, seen.facts, page)
        console.print(f"page: {escape(str(written))}", soft_wrap=True)


def _print(seen: Inspected) -> None:
    from step.inspection import findings
    from step.report import inspection_table as tables
    from step.report.tables import print_table

    found = seen.found
    what = "active outputs" if found.conventional else "firing rates"
    print_table(tables.rates(found), f"{seen.title}: {what} on {found.samples} test samples", console)
    console.print()
    print_table(tables.extremes(found), "dead and saturated neurons", console)
    console.print()
    for line in findings(found):
        console.print(f"[yellow]warning:[/] {escape(line)}", soft_wrap=True)
    for line in [*tables.meaning(found), *seen.notes]:
        console.print(f"[dim]{escape(line)}[/]")
