"""``step new`` and ``step check``, to which every kind of component adds its command, and the names of new files."""

from __future__ import annotations

import keyword
import re
from collections.abc import Collection
from pathlib import Path

import typer

from step.cli.base import app

new = typer.Typer(help="Begin a component of your own: writes a small file that works.", no_args_is_help=True)
check = typer.Typer(help="Check a component: does it keep what all others rely on?", no_args_is_help=True)
app.add_typer(new, name="new")
app.add_typer(check, name="check")


def new_file(kind: str, name: str, taken: Collection[str], suffix: str = ".py") -> Path:
    """Return the file of a new component.

    Parameters
    ----------
    kind : str
        What it is, as it stands in messages: ``"neuron"``.
    name : str
    taken : collection of str
        Names of this kind that are known already.
    suffix : str

    Raises
    ------
    OptionError
        For a name that is not one, or is taken: by a component, a file, or a Python module.
    """
    from importlib.util import find_spec

    from neurons.errors import OptionError

    module = name.replace("-", "_")
    if not re.fullmatch(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*", name) or keyword.iskeyword(module):
        raise OptionError(
            f"a name is small letters, digits, - and _, no word of Python, such as my-{kind.split()[-1]}, not {name!r}"
        )
    path = Path(f"{module}{suffix}")
    if path.exists():
        raise OptionError(f"{path} exists; choose another name or move the file away")
    if name in taken:
        raise OptionError(f"{kind} {name!r} is already registered; choose another name")
    if suffix == ".py" and find_spec(module) is not None:
        raise OptionError(f"{path} would hide the Python module {module!r}; choose another name")
    return path


def class_name(file: Path) -> str:
    """Return what the class in a new file is called."""
    return "".join(part.capitalize() for part in file.stem.split("_"))
