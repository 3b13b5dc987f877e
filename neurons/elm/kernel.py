"""The C of the ELM neuron, ready to be called, and who may call it."""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter

from neurons.compiler import cache
from neurons.compiler.operator import unseen
from neurons.elm.source import EXPORTED, FILTER, PIECE, VECTORS
from neurons.elm.source_many import MANY
from neurons.elm.source_one import ONE
from neurons.plain import is_plain

_SERIAL = 1 << 18
"""Products below which one thread is faster than two: some 20 microseconds."""


@functools.cache
def library() -> ctypes.CDLL | None:
    """Return the compiled loops, or None where there is no C compiler."""
    try:
        found = cache.load(VECTORS + EXPORTED + f"#define PIECE {PIECE}\n" + FILTER + ONE + MANY)
    except (cache.NoCompilerError, OSError):
        return None
    for name in ("filter", "filter_back", "one", "one_back", "many", "many_back", "functions"):
        function = getattr(found, f"step_{name}")
        function.argtypes, function.restype = [ctypes.c_void_p], None
    return found


def why_not(*tensors: Tensor | None) -> str | None:
    """Return why the C loops do not take these tensors, or None where they do.

    They take float32 on the CPU where nobody has to see operators of torch: no dispatch mode, no transform of
    functions, no capture, no autocast, no forward derivative, and no :func:`neurons.plain.plain`.
    """
    device = next(tensor.device for tensor in tensors if tensor is not None)
    reason = why_not_fused(*tensors)
    if reason is not None:
        return reason
    if device.type != "cpu":
        return "the loops in C run on the CPU"
    if os.environ.get("STEP_KERNELS", "") not in ("", "c"):
        return "STEP_KERNELS asks for other kernels"
    return None if library() is not None else "there is no C compiler"


def why_not_fused(*tensors: Tensor | None) -> str | None:
    """Return why no fused loop takes these tensors, or None where one might."""
    if is_plain():
        return "the plain form is asked for"
    present = [tensor for tensor in tensors if tensor is not None]
    for tensor in present:
        if tensor.dtype != torch.float32 or tensor.layout != torch.strided:
            return f"the fused loops are for float32, not {tensor.dtype}"
        if tensor.device != present[0].device:
            return f"one tensor is on {tensor.device} and another on {present[0].device}"
        if type(tensor) not in (Tensor, Parameter):
            return f"{type(tensor).__name__} is not a plain tensor"
    if not unseen(present[0]) or torch.is_autocast_enabled(present[0].device.type) or forward_ad._current_level >= 0:
        return "somebody looks on at the operators of torch"
    return None


def threads(work: float) -> int:
    """Return how many threads are worth it for so many products."""
    return torch.get_num_threads() if work >= _SERIAL else 1


def pointer(tensor: Tensor | None) -> int:
    """Return the address of a tensor, 0 for None."""
    return 0 if tensor is None else tensor.data_ptr()


def call(name: str, arguments: Sequence[int | Tensor | None]) -> None:
    """Call a loop with addresses of tensors and numbers; a profiler sees its name."""
    found = library()
    assert found is not None
    function = getattr(found, name)
    values = [value if isinstance(value, int) else pointer(value) for value in arguments]
    given = (ctypes.c_int64 * len(values))(*values)
    if torch.autograd._profiler_enabled():  # it sees operators of torch only
        with torch.profiler.record_function(name):
            function(given)
    else:
        function(given)


def aligned(tensor: Tensor) -> int:
    """Return the first address in a tensor that starts a line of the cache."""
    return -(-tensor.data_ptr() // 64) * 64
