"""Writing a file so that a reader sees the old one or the new one, never half of one."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from neurons.errors import OptionError


def write_atomically(path: Path, write: Callable[[Path], object]) -> Path:
    """Let ``write`` fill a temporary file beside ``path``, then put it in its place.

    Parameters
    ----------
    path : pathlib.Path
        Where the file shall be; missing folders are made.
    write : callable
        Takes the temporary path and writes there.

    Raises
    ------
    OptionError
        When the folder or file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise OptionError(f"cannot write {path}: {error.strerror or error}; give a path that is writable") from None
    finally:
        # also after Ctrl-C; when all went well nothing is left to remove
        with suppress(OSError):
            temporary.unlink()
    return path
