"""The recurrence in C for many neurons (see :mod:`neurons.elm.source_many`): tensors in, tensors out.

Kept for the backward pass: the input and the memory, which are there anyway. The loop back works each step out anew.
"""

from __future__ import annotations

import functools
import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from neurons.compiler.buffers import buffers
from neurons.elm.kernel import aligned, call, library, threads
from neurons.elm.one import KINDS

_GROUPS = 4
"""Groups of samples whose gradients of weights are summed apart, at most."""


@functools.cache
def width() -> int:
    """Return how many neurons lie side by side in a vector."""
    found = library()
    assert found is not None
    return int(found.step_width())


def pays(count: int, size: int, hidden: int) -> bool:
    """Whether neurons side by side waste less of the vectors than the numbers of one neuron would."""
    lanes = width()

    def filled(numbers: int) -> float:
        return numbers / (-(-numbers // lanes) * lanes)

    # rows in and out are transposed, so even is not enough
    return filled(count) > 1.2 * 2 / (1 / filled(size) + 1 / filled(hidden))


def _sizes(u: Tensor, m: Tensor, layers: int, kind: str) -> list[int]:
    steps, batch, count, hidden = u.shape
    size = m.shape[2]
    at_once = 4 if batch > 2 else batch
    groups = min(_GROUPS, -(-batch // at_once))
    workers = threads(2.0 * steps * batch * count * hidden * size)
    return [steps, batch, count, size, hidden, layers, KINDS[kind], at_once, workers, groups]


def _vectors(sizes: list[int]) -> int:
    """Return how many numbers of a neuron its weights and biases are."""
    size, hidden, layers = sizes[3:6]
    widths = [size, *[hidden] * layers, size]
    return sum((a + 1) * b for a, b in pairwise(widths))


def _scratch(sizes: list[int]) -> tuple[Tensor, int, Tensor]:
    _, _, count, size, hidden, layers, _, at_once, workers, _ = sizes
    lanes = width()
    packed = torch.empty(-(-count // lanes) * _vectors(sizes) * lanes + 16)
    room = lanes * (at_once * (7 * size + (2 * layers + 2) * max(hidden, size)) + 4 * size) + 512
    room = -(-room // 16) * 16
    return packed, room, torch.empty(workers * room + 16)


def forward(
    u: Tensor,
    m: Tensor,
    decay: Tensor,
    gain: Tensor,
    scale: Tensor | None,
    weights: list[Tensor],
    biases: list[Tensor],
    kind: str,
    *,
    outputs: bool,
    only: bool,
) -> tuple[Tensor, Tensor | None]:
    """Return the memory [1 + T, B, N, M] with the first in front (``only`` the last: [1, B, N, M]), and z."""
    layers = len(weights) - 1
    sizes = _sizes(u, m, layers, kind)
    steps, batch, count, size = sizes[:4]
    kept = buffers.empty((1 if only else steps + 1, batch, count, size), torch.float32)
    if not only:
        kept[0].copy_(m)
    z = buffers.empty((steps, batch, count, size), torch.float32) if outputs else None
    packed, room, scratch = _scratch(sizes)
    call(
        "step_many",
        [u, m, decay, gain, scale, kept if only else kept[1:], z, aligned(packed), aligned(scratch), room, layers + 1,
         *weights, *biases, 0, *sizes, 0 if only else batch * count * size],
    )  # fmt: skip
    return kept, z


def backward(
    gradients: tuple[Tensor | None, Tensor | None, Tensor | None],
    u: Tensor,
    kept: Tensor,
    decay: Tensor,
    gain: Tensor,
    scale: Tensor | None,
    weights: list[Tensor],
    biases: list[Tensor],
    kind: str,
    learns: bool,
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Return gradients of u, m, decay and gain, of the weights and of the biases.

    ``gradients`` are those of the memory of every step, of the last, and of z.
    """
    layers = len(weights) - 1
    sizes = _sizes(u, kept[0], layers, kind)
    batch, count, size = sizes[1:4]
    lanes, groups = width(), sizes[9]
    blocks = -(-count // lanes)
    back, first = buffers.empty(u.shape, torch.float32), torch.empty(batch, count, size)
    jobs = blocks * groups
    gates = torch.empty(jobs * 2 * size * lanes + 16)
    every = _vectors(sizes)
    by_job = torch.empty(jobs * every * lanes + 16) if learns else None
    sums = 0 if by_job is None else aligned(by_job)
    packed, room, scratch = _scratch(sizes)
    call(
        "step_many_back",
        [*gradients, u, kept, decay, gain, scale, back, first, aligned(gates), sums, aligned(packed),
         aligned(scratch), room, layers + 1, *weights, *biases, 0, *sizes],
    )  # fmt: skip

    def total(held: Tensor, numbers: int) -> Tensor:
        """Sum over groups; return [N, numbers]."""
        skip = (-held.data_ptr() % 64) // 4
        rows = held[skip : skip + jobs * numbers * lanes].view(blocks, groups, numbers, lanes).sum(1)
        return rows.transpose(1, 2).reshape(blocks * lanes, numbers)[:count]

    found = [back, first, *total(gates, 2 * size).split(size, 1)]
    if by_job is None:
        return found, [], []
    parts = iter(total(by_job, every).split([n for w in weights for n in (math.prod(w.shape[1:]), w.shape[1])], 1))
    for_weights, for_biases = [], []
    for weight in weights:
        for_weights.append(next(parts).reshape(weight.shape))
        for_biases.append(next(parts))
    return found, for_weights, for_biases[1:]


class Memory(torch.autograd.Function):
    """The memory of every step (or the last), and z where asked for."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        u: Tensor,
        m: Tensor,
        decay: Tensor,
        gain: Tensor,
        scale: Tensor | None,
        kind: str,
        outputs: bool,
        last: bool,
        *rest: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        layers = len(rest) // 2
        weights, biases = list(rest[: layers + 1]), list(rest[layers + 1 :])
        kept, z = forward(u, m, decay, gain, scale, weights, biases, kind, outputs=outputs, only=False)
        ctx.save_for_backward(u, decay, gain, scale, kept, *rest)
        ctx.kind, ctx.last = kind, last
        ctx.set_materialize_grads(False)
        return (kept[-1:].clone() if last else kept[1:]), z

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, g_memory: Tensor | None, g_z: Tensor | None) -> tuple[Any, ...]:
        u, decay, gain, scale, kept, *rest = ctx.saved_tensors
        layers = len(rest) // 2
        g_memory, g_z = (None if value is None else value.contiguous() for value in (g_memory, g_z))
        learns = any(ctx.needs_input_grad[8:])
        found, for_weights, for_biases = backward(
            (None if ctx.last else g_memory, g_memory if ctx.last else None, g_z),
            u, kept, decay, gain, scale, rest[: layers + 1], rest[layers + 1 :], ctx.kind, learns,
        )  # fmt: skip
        more = [*for_weights, *for_biases] if learns else [None] * len(rest)
        return *found, None, None, None, None, *more
