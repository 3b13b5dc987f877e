"""The C of modules, ready to be called with tensors."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from neurons.compiler import cache
from neurons.diehl_cook.source import ARRAYS, REALS, WHOLE, text
from neurons.errors import StepError


class _Call(ctypes.Structure):
    _fields_ = (
        [(name, ctypes.c_void_p) for name in ARRAYS]
        + [(name, ctypes.c_int64) for name in WHOLE]
        + [(name, ctypes.c_double) for name in REALS]
    )


@functools.cache
def library(double: bool = False) -> ctypes.CDLL | None:
    """Return the compiled simulator, or None where there is no C compiler: :func:`why_not` says what is wrong."""
    found = _load(double)
    return None if isinstance(found, str) else found


def why_not() -> str:
    """Return what keeps the C from running, or nothing."""
    found = _load(False)
    return found if isinstance(found, str) else ""


@functools.cache
def _load(double: bool) -> ctypes.CDLL | str:
    try:
        found = cache.load(text(double))
    except (cache.NoCompilerError, OSError) as error:
        return str(error)
    for name in ("step_respond", "step_train"):
        function = getattr(found, name)
        function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_int64
    found.step_draw.restype = ctypes.c_int64
    kinds: list[Any] = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint64]
    found.step_draw.argtypes = [*kinds, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    return found


def call(library: ctypes.CDLL, name: str, arrays: Mapping[str, Tensor], numbers: Mapping[str, float]) -> None:
    """Call ``step_respond`` or ``step_train``; what is not given is 0.

    Raises
    ------
    StepError
        When memory runs out.
    """
    given = _Call()
    for key, tensor in arrays.items():
        if not tensor.is_contiguous() or tensor.device != torch.device("cpu"):
            raise StepError(f"{key} must be contiguous and on the CPU")
        setattr(given, key, tensor.data_ptr())
    for key, value in numbers.items():
        setattr(given, key, value)
    if getattr(library, name)(ctypes.byref(given)):
        raise StepError(
            "the memory does not suffice for the input spikes and states of this call: ask for less at once"
        )
