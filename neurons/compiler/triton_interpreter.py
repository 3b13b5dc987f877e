"""What Triton's interpreter lacks: the mathematics library of a GPU, and rounding to bfloat16 as a GPU does it.

The interpreter runs a kernel block by block with numpy, on any machine: it is how the kernels are tested without a
GPU. Mathematical functions are those of torch, so that they give the numbers of the eager loop.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import triton.language as tl
from triton.runtime.interpreter import InterpretedFunction, TensorHandle

from neurons.compiler.triton import BACKWARD, FORWARD


class _Library:
    """Functions of the device's mathematics library by name."""

    _NAMES = {"rint": "round"}

    def __getattr__(self, name: str) -> Any:
        function = getattr(torch, self._NAMES.get(name, name))

        def call(*operands: Any) -> Any:
            values = [torch.from_numpy(np.ascontiguousarray(operand.handle.data)) for operand in operands]
            return _like(max(operands, key=lambda operand: operand.handle.data.size), function(*values).numpy())

        return call


def stand_in(names: dict[str, Any]) -> None:
    """Put what the interpreter can run in the place of what it cannot."""
    for name, value in names.items():
        if isinstance(value, InterpretedFunction) and name not in (FORWARD, BACKWARD):
            names[name] = value.fn  # a call of one kernel by another leaves Triton's language changed for good
    names |= {"libdevice": _Library(), "step_narrow": _narrow, "step_total": _total}


def launch(kernel: Any, grid: tuple[int, ...], arguments: dict[str, Any]) -> None:
    """Run a kernel; what it computes beside the neurons of its last block is nobody's concern."""
    with np.errstate(all="ignore"):
        kernel[grid](**arguments)


def _like(block: Any, data: Any, dtype: Any = None) -> Any:
    dtype = dtype or block.dtype
    kind = tl.block_type(dtype, list(data.shape)) if block.type.is_block() else dtype
    return tl.tensor(TensorHandle(data, dtype), kind)


def _narrow(v: Any) -> Any:
    """Round to the nearest bfloat16; the interpreter cuts off."""
    rounded = torch.from_numpy(np.ascontiguousarray(v.handle.data)).bfloat16()
    return _like(v, rounded.view(torch.int16).numpy().view(np.uint16), tl.bfloat16)


def _total(q: Any) -> Any:
    return _like(q, q.handle.data.sum(axis=1))
