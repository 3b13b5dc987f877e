"""Where data are looked for, and in which order."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from neurons.errors import DataError

SYSTEM_ROOTS = (Path("/usr/share/datasets"), Path("/usr/local/share/datasets"))


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
