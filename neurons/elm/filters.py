"""The filter of branches over time, ``y_t = decay y_{t-1} + x_t``: in C with a backward pass of its own, or a loop."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from neurons.compiler.buffers import buffers
from neurons.elm import kernel
from neurons.elm.source import PIECE
from neurons.errors import ShapeError


def filter_time(x: Tensor, decay: Tensor, start: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """Return ``y_t = decay y_{t-1} + x_t`` for every step, plus ``bias``.

    Float32 on the CPU runs in C and keeps its result for the gradient of ``decay``; everything else, and whatever
    somebody looks on at, is a plain loop of torch.

    Parameters
    ----------
    x : Tensor, shape [T, ..., D]
    decay : Tensor, shape [D] or []
    start : Tensor, shape [..., D], optional
        ``y`` before the first step; zero when left out.
    bias : Tensor, shape [D], optional
        Added to what is returned, not to what is filtered.

    Returns
    -------
    Tensor, shape [T, ..., D]

    Raises
    ------
    ShapeError
    """
    size = x.shape[-1:]
    if x.dim() < 2 or x.shape[0] < 1:
        raise ShapeError(f"a filter over time reads [T, ..., D] with T of at least 1, not {list(x.shape)}")
    for name, tensor, shapes in (
        ("decay", decay, ((), size)), ("start", start, (x.shape[1:],)), ("bias", bias, (size,)),
    ):  # fmt: skip
        if tensor is not None and tuple(tensor.shape) not in [tuple(shape) for shape in shapes]:
            raise ShapeError(f"{name} of a filter over time has shape {list(tensor.shape)}, not {list(shapes[-1])}")
    given = (x, decay, start, bias)
    if x.numel() == 0 or kernel.why_not(*given) is not None:
        return filter_time_reference(x, decay, start, bias)
    if torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in given):
        return _Filter.apply(x, decay, start, bias)  # type: ignore[no-any-return]
    return _forward(x, decay, start, bias)


def filter_time_reference(x: Tensor, decay: Tensor, start: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """Return what :func:`filter_time` returns, by a plain loop: any type, any device, any order of gradient."""
    y = torch.zeros_like(x[0]) if start is None else start
    found = []
    for x_t in x:
        y = decay * y + x_t
        found.append(y)
    out = torch.stack(found)
    return out if bias is None else out + bias


def _sizes(x: Tensor, decay: Tensor) -> list[int]:
    steps, size = x.shape[0], x.shape[-1]
    rows = math.prod(x.shape[1:-1])
    workers = kernel.threads(2.0 * x.numel())
    piece = min(PIECE, max(64, -(-rows * size // workers // 16) * 16))
    return [steps, rows, size, int(decay.dim() == 0), workers, piece]


def _forward(x: Tensor, decay: Tensor, start: Tensor | None, bias: Tensor | None) -> Tensor:
    x, decay = x.contiguous(), decay.contiguous()
    start, bias = (None if value is None else value.contiguous() for value in (start, bias))
    out = buffers.empty(x.shape, torch.float32)
    kernel.call("step_filter", [x, decay, start, bias, out, *_sizes(x, decay)])
    return out


class _Filter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, decay: Tensor, start: Tensor | None, bias: Tensor | None) -> Tensor:  # type: ignore[override]
        out = _forward(x, decay, start, bias)
        ctx.save_for_backward(decay, *((start, bias, out) if ctx.needs_input_grad[1] else ()))
        return out

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        decay, *held = ctx.saved_tensors
        start, bias, out = held or (None, None, None)
        for_decay, for_start, for_bias = ctx.needs_input_grad[1:]
        gradient, decay = gradient.contiguous(), decay.contiguous()
        start, bias = (None if value is None else value.contiguous() for value in (start, bias))
        back = buffers.empty(gradient.shape, torch.float32)
        shape = gradient.shape[1:]
        first = torch.empty(shape) if for_start else None
        sums = torch.empty(shape) if for_decay else None
        kernel.call("step_filter_back", [gradient, decay, start, bias, out, back, first, sums, *_sizes(back, decay)])
        if sums is not None:
            sums = sums.sum() if decay.dim() == 0 else sums.reshape(-1, shape[-1]).sum(0)
        return back, sums, first, gradient.reshape(-1, shape[-1]).sum(0) if for_bias else None
