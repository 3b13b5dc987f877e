"""Read a pickle that may hold nothing but arrays of numbers, numbers, text and containers of these.

A pickle is a program: an ordinary reader runs whatever it names. This one knows a handful of names, which it takes for
stand-ins of its own, so that not even NumPy sees what the file says before it has been checked.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Collection
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from neurons.errors import DataError

BYTES = ("u1",)
NUMBERS = ("b1", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8")
"""NumPy's codes of truth values, whole numbers and floating-point numbers."""


def read_plain_pickle(content: bytes | BinaryIO, path: Path, types: Collection[str] = BYTES) -> Any:
    """Return what a pickle holds; text of Python 2 becomes bytes.

    Parameters
    ----------
    content : bytes or file
        The pickle, or a file that is open for reading it.
    path : Path
        Stands in messages only.
    types : collection of str
        NumPy's codes of the types that arrays may have; single numbers of NumPy may have them too, where there are
        others than unsigned bytes.

    Returns
    -------
    object
        Numbers, text, bytes, lists, tuples and dicts, and for an array a NumPy array. Numbers of NumPy are those of
        Python.

    Raises
    ------
    DataError
        In one line, when the file names anything else or is no pickle.
    """
    unpickler = _Unpickler(io.BytesIO(content) if isinstance(content, bytes) else content, frozenset(types))
    try:
        return _plain(unpickler.load(), {})
    except _Refused as error:
        what = "arrays of bytes" if set(types) == set(BYTES) else "arrays of numbers"
        raise DataError(
            f"{path} is refused: its pickle asks for {error}, where only {what}, numbers, text, lists and mappings may "
            "stand"
        ) from None
    except (EOFError, pickle.UnpicklingError) as error:
        raise DataError(f"{path} is truncated or not a pickle; delete it and fetch it again") from error
    # What a damaged program does to the reader has no bounds: wrong types, wrong indices, undecodable text.
    except Exception as error:
        raise DataError(f"{path} is damaged: its pickle cannot be read ({type(error).__name__})") from error


class _Refused(Exception):
    """The name of something that a file may not ask for."""


class _Type:
    """Stands for ``numpy.dtype``."""

    types: frozenset[str] = frozenset(BYTES)
    order = "<"

    def __init__(self, code: Any = None, *_: Any) -> None:
        text = code.decode("latin1") if isinstance(code, bytes) else code
        if not isinstance(text, str) or text not in self.types:
            raise _Refused(f"an array of type {code!r}")
        self.code = text

    def __setstate__(self, state: Any) -> None:
        """Take the order of bytes from the state, which says nothing more about numbers."""
        order = state[1].decode("latin1") if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "|", "="):
            raise _Refused(f"the order of bytes {order!r}")
        self.order = order

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type itself."""
        return np.dtype(self.order + self.code)


class _Array:
    """Stands for ``numpy.ndarray``."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Unpickler(pickle.Unpickler):
    """Knows the names that stand in an array and in a number of NumPy, and no others."""

    def __init__(self, file: BinaryIO, types: frozenset[str]) -> None:
        super().__init__(file, encoding="bytes")
        self.types = types

    def find_class(self, module: str, name: str) -> Any:
        # Functions and classes of their own for each call: a pickle can set attributes of what it gets.
        def reconstruct(*_: Any) -> _Array:
            return _Array()

        def scalar(kind: Any, data: Any) -> Any:
            if not isinstance(kind, _Type) or not isinstance(data, bytes):
                raise ValueError("not a number of NumPy")
            return np.frombuffer(data, kind.dtype, 1)[0].item()

        def encode(text: Any, coding: Any) -> bytes:
            if coding not in ("latin1", b"latin1") or not isinstance(text, str):
                raise _Refused(f"the encoding {coding!r}")
            return text.encode("latin1")

        known: dict[tuple[str, str], Any] = {
            ("numpy", "ndarray"): type("_Array", (_Array,), {}),
            ("numpy", "dtype"): type("_Type", (_Type,), {"types": self.types}),
            ("_codecs", "encode"): encode,  # bytes, as Python 3 writes them for readers of Python 2
        }
        for home in ("numpy.core.multiarray", "numpy._core.multiarray"):
            known[home, "_reconstruct"] = reconstruct
            if self.types != frozenset(BYTES):
                known[home, "scalar"] = scalar
        try:
            return known[module, name]
        except KeyError:
            raise _Refused(f"{module}.{name}") from None


def _plain(value: Any, seen: dict[int, tuple[Any, Any]]) -> Any:
    """Turn stand-ins into the arrays that they stand for, in containers too, which are changed in place.

    ``seen`` holds by identity what has been turned, and keeps it alive: what stands in many places, or in itself, is
    turned once.
    """
    if isinstance(value, (int, float, str, bytes, type(None))):
        return value
    if id(value) in seen:
        return seen[id(value)][1]
    if isinstance(value, _Array):
        found = _array(value)
        seen[id(value)] = value, found
        return found
    seen[id(value)] = value, value
    if type(value) is list:
        for index, item in enumerate(value):
            if type(item) is not int:  # most are: the times of spikes
                value[index] = _plain(item, seen)
    elif type(value) is dict:
        for key, item in value.items():
            value[key] = _plain(item, seen)
    elif type(value) is tuple:
        turned = tuple(_plain(item, seen) for item in value)
        seen[id(value)] = value, turned
        return turned
    return value


def _array(value: _Array) -> np.ndarray:
    _, shape, kind, fortran, data = value.state
    if not isinstance(kind, _Type) or not isinstance(data, bytes):
        raise ValueError("not an array of numbers")
    value.state = None  # the copy takes its place
    return np.frombuffer(data, kind.dtype).reshape(shape, order="F" if fortran else "C").copy()
