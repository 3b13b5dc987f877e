"""Published tables beside our own results: on the page and on the terminal, always in a block of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from step.report import pieces
from step.report.html import Markup, element, join
from step.report.tables import print_table

if TYPE_CHECKING:
    from rich.console import Console

    from step.published import Published

HEADING = "Published by others, not measured here"
CAVEAT = (
    "Quoted as they stand in their sources: other data, sizes and recipes, so that only directions compare with the "
    "results of this suite, not figures."
)


def section(tables: list[Published]) -> Markup:
    """Return the section of the page."""
    shown = [
        join(
            element("h3", table.title),
            pieces.frame(table.frame(), "small"),
            pieces.facts(f"Source: {table.source}.", table.note),
        )
        for table in tables
    ]
    return join(element("p", CAVEAT), *shown)


def print_published(tables: list[Published], console: Console) -> None:
    """Print the tables below a heading of their own; nothing without any."""
    from rich.text import Text

    if not tables:
        return
    console.print()
    console.print(Text(f"{HEADING}.", style="bold"), Text(CAVEAT, style="dim"))
    for table in tables:
        print_table(table.frame(), table.title, console)
        for line in (f"Source: {table.source}.", table.note):
            if line:
                console.print(Text(line, style="dim"))
