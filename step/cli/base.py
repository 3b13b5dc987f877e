"""What all commands share: the application, its options, and how an error of a user is shown."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

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
            errors.print(f"[bold red]error:[/] {escape(str(error))}")
            raise typer.Exit(2) from None

    return run


def escape(text: str) -> str:
    """Return text that rich prints as it is, square brackets included."""
    from rich.markup import escape as escaped

    return escaped(text)


def load_plugins(plugins: list[Path] | None) -> list[Path]:
    """Run plugin files, so that what they register can be named."""
    from step.plugins import load_plugin

    for path in plugins or []:
        load_plugin(path)
    return plugins or []
