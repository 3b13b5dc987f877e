"""Where data are looked for, and in which order."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from neurons.errors import DataError

SYSTEM_ROOTS = (Path("/usr/share/datasets"), Path("/usr/local/share/datasets"))

Lacks = Callable[[Path], list[str]]
"""Says what a file or folder lacks to be a data set; an empty list when it is complete."""


def search_roots(root: str | Path | None = None) -> list[Path]:
    """Return the data folders in the order of search; the first is where ``fetch`` writes.

    1. ``root``, the ``--data`` of the command line;
    2. the environment variable ``STEP_DATA``;
    3. ``data`` in the user's cache folder for step-snn;
    4. the system folders, which only packages of the distribution fill.

    The data set ``name`` lies in ``<folder>/<name>/``.
    """
    from platformdirs import user_cache_path

    chosen = [Path(folder).expanduser() for folder in (root, os.environ.get("STEP_DATA")) if folder]
    return list(dict.fromkeys([*chosen, user_cache_path("step-snn", appauthor=False) / "data", *SYSTEM_ROOTS]))


def missing_files(folder: Path, files: Iterable[str]) -> list[str]:
    """Return those of ``files`` that ``folder`` lacks."""
    return [file for file in files if not (folder / file).is_file()]


def find(name: str, files: Iterable[str], root: str | Path | None = None) -> Path:
    """Return the first folder ``<root>/<name>`` that holds all ``files``.

    Raises
    ------
    DataError
        Naming the places looked at and the command that brings the data.
    """
    files = list(files)
    looked = []
    for place in search_roots(root):
        folder = place / name
        missing = missing_files(folder, files)
        if not missing:
            return folder
        # A folder with some of the files is a hint worth giving.
        partial = len(missing) < len(files)
        looked.append(f"{folder} (lacks {', '.join(missing)})" if partial else str(folder))
    raise DataError(f"data set {name!r} not found in {', '.join(looked)}; run: step fetch {name}")


def find_form(
    name: str,
    forms: Mapping[str, Lacks],
    root: str | Path | None = None,
    *,
    advice: str | None = None,
    own: bool = False,
) -> Path:
    """Return the first complete one of the forms in which people keep the data set ``name``.

    Each is looked for as ``<root>/<name>/<form>`` and as ``<root>/<form>``.

    Parameters
    ----------
    name : str
        Registered name.
    forms : mapping
        Path of a file or folder below the data folder (``"."`` is the folder itself) to what says whether it is
        complete.
    root : path, optional
        Folder to search first.
    advice : str, optional
        What brings the data; ``step fetch`` when left out.
    own : bool
        Look in ``root`` only, when it is given.

    Raises
    ------
    DataError
        Naming the forms, the places looked at and what brings the data.
    """
    looked = []
    for place in search_roots(root)[: 1 if own and root else None]:
        looked.append(str(place))
        for form, lacks in forms.items():
            for path in (place / name / form, place / form):
                if not path.exists():
                    continue
                missing = lacks(path)
                if not missing:
                    return path
                if form != ".":  # a folder of that name was meant to be the data set
                    shown = ", ".join(missing[:3]) + (" and more" if len(missing) > 3 else "")
                    looked.append(f"{path} (lacks {shown})")
    known = ", ".join(form for form in forms if form != ".")
    raise DataError(
        f"data set {name!r} not found: none of {known} in {', '.join(looked)}; {advice or f'run: step fetch {name}'}"
    )
