"""Read a pickle that may hold nothing but arrays of bytes, numbers, text and containers of these.

A pickle is a program: an ordinary reader runs whatever it names. This one knows four names, which it takes for
stand-ins of its own, so that not even NumPy sees what the file says before it has been checked.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from neurons.errors import DataError


def read_plain_pickle(content: bytes, path: Path) -> Any:
    """Return what the pickle ``content`` holds; text of Python 2 becomes bytes.

    Parameters
    ----------
    content : bytes
    path : Path
        Stands in messages only.

    Returns
    -------
    object
        Numbers, text, bytes, lists, tuples and dicts, and for an array of unsigned bytes a NumPy array, where it
        stands alone or as a value of the outermost dict.

    Raises
    ------
    DataError
        In one line, when the file names anything else or is no pickle.
    """
    unpickler = _Unpickler(io.BytesIO(content), encoding="bytes")
    try:
        found = unpickler.load()
        if isinstance(found, dict):
            return {key: _array(value) for key, value in found.items()}
        return _array(found)
    except _Refused as error:
        raise DataError(
            f"{path} is refused: its pickle asks for {error}, where only arrays of bytes, numbers, text, lists and "
            "mappings may stand"
        ) from None
    except (EOFError, pickle.UnpicklingError) as error:
        raise DataError(f"{path} is truncated or not a pickle; delete it and fetch it again") from error
    # What a damaged program does to the reader has no bounds: wrong types, wrong indices, undecodable text.
    except Exception as error:
        raise DataError(f"{path} is damaged: its pickle cannot be read ({type(error).__name__})") from error


class _Refused(Exception):
    """The name of something that a file may not ask for."""


class _Type:
    """Stands for ``numpy.dtype``: unsigned bytes only."""

    def __init__(self, code: Any = None, *_: Any) -> None:
        if code not in ("u1", b"u1"):
            raise _Refused(f"an array of type {code!r}")

    def __setstate__(self, state: Any) -> None:
        """Take the state, which says nothing more about single bytes."""


class _Array:
    """Stands for ``numpy.ndarray``."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Unpickler(pickle.Unpickler):
    """Knows the names that stand in an array of bytes, and no others."""

    def find_class(self, module: str, name: str) -> Any:
        # Functions of their own for each call: a pickle can set attributes of what it gets.
        def reconstruct(*_: Any) -> _Array:
            return _Array()

        def encode(text: Any, coding: Any) -> bytes:
            if coding not in ("latin1", b"latin1") or not isinstance(text, str):
                raise _Refused(f"the encoding {coding!r}")
            return text.encode("latin1")

        known = {
            ("numpy.core.multiarray", "_reconstruct"): reconstruct,
            ("numpy._core.multiarray", "_reconstruct"): reconstruct,
            ("numpy", "ndarray"): type("_Array", (_Array,), {}),
            ("numpy", "dtype"): type("_Type", (_Type,), {}),
            ("_codecs", "encode"): encode,  # bytes, as Python 3 writes them for readers of Python 2
        }
        try:
            return known[module, name]
        except KeyError:
            raise _Refused(f"{module}.{name}") from None


def _array(value: Any) -> Any:
    """Turn a stand-in into the array that it stands for."""
    if not isinstance(value, _Array):
        return value
    _, shape, kind, fortran, data = value.state
    if not isinstance(kind, _Type) or not isinstance(data, bytes):
        raise ValueError("not an array of bytes")
    return np.frombuffer(data, np.uint8).reshape(shape, order="F" if fortran else "C").copy()
