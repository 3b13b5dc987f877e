"""The recurrence in C for few neurons (see :mod:`neurons.elm.source_one`): tensors in, tensors out.

Kept for the backward pass: the memory (which is the result), the hyperbolic tangent of every step [T, B, N, M], and
of every hidden layer what comes out (relu) or goes in (else) [T, B, N, H]. The loop back only carries the gradient of
the memory from step to step; gradients of weights are one product each over all steps and samples after it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from neurons.compiler.buffers import buffers
from neurons.elm.kernel import aligned, call, threads

KINDS = {"relu": 0, "silu": 1, "relu-squared": 2}
"""The enumeration of activations in C."""
_COST = {8: 8.0, 4: 4.6, 2: 3.0, 1: 2.2}
"""What a step of so many samples at once takes, in units of one sample among eight."""


def samples_at_once(batch: int, count: int, workers: int) -> int:
    """Return how many samples (1, 2, 4 or 8) share a look at the weights, for a batch, neurons and threads."""
    return min(_COST, key=lambda size: (-(-count * -(-batch // size) // workers) * _COST[size], size))


def _up(count: int) -> int:
    return -(-count // 16) * 16


def _sizes(u: Tensor, m: Tensor, layers: int, kind: str) -> list[int]:
    steps, batch, count, hidden = u.shape
    size = m.shape[2]
    workers = threads(2.0 * steps * batch * count * hidden * size)
    at_once = samples_at_once(batch, count, workers)
    return [steps, batch, count, size, hidden, layers, KINDS[kind], at_once, workers]


def _scratch(sizes: list[int]) -> tuple[Tensor, int, Tensor]:
    """Return room for the packed weights, numbers of scratch by thread, and the scratch."""
    _, _, count, size, hidden, layers, _, at_once, workers = sizes
    wide, high = _up(size), _up(hidden)
    most = max(wide, high)
    packed = torch.empty(count * (layers + 1) * most * most + 16)
    room = at_once * (6 * wide + 4 * high) + 8 * wide + (layers + 3) * most + 512
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
    learns: bool,
    outputs: bool,
    last: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """Return the memory [1 + T, B, N, M] with the first in front, z, and what the way back needs: hidden and tanh.

    Where nothing is learned and only the last memory is wanted, that is all that is returned of it, [1, B, N, M].
    """
    layers = len(weights) - 1
    sizes = _sizes(u, m, layers, kind)
    steps, batch, count, size, hidden = sizes[:5]
    new = buffers.empty
    only = last and not learns
    kept = new((1 if only else steps + 1, batch, count, size), torch.float32)
    if not only:
        kept[0].copy_(m)
    z = new((steps, batch, count, size), torch.float32) if outputs else None
    tanh = new((steps, batch, count, size), torch.float32) if learns else None
    inner = new((layers, steps, batch, count, hidden), torch.float32) if learns and layers else None
    packed, room, scratch = _scratch(sizes)
    memories = kept if only else kept[1:]
    call(
        "step_one",
        [u, m, decay, gain, scale, memories, z, inner, tanh, aligned(packed), aligned(scratch), room, layers + 1,
         *weights, *biases, 0, *sizes, 0 if only else batch * count * size],
    )  # fmt: skip
    return kept, z, inner, tanh


def backward(
    gradients: tuple[Tensor | None, Tensor | None, Tensor | None],
    kept: Tensor,
    inner: Tensor | None,
    tanh: Tensor,
    decay: Tensor,
    gain: Tensor,
    scale: Tensor | None,
    weights: list[Tensor],
    shape: torch.Size,
    kind: str,
    needs: dict[str, bool],
) -> tuple[list[Tensor | None], list[Tensor], list[Tensor]]:
    """Return gradients of u, m, decay and gain, of the weights and of the biases.

    ``gradients`` are those of the memory of every step, of the last, and of z.
    """
    layers = len(weights) - 1
    steps, batch, count = shape[:3]
    size = kept.shape[3]
    new = buffers.empty
    back = new(shape, torch.float32)
    sizes = _sizes(back, kept[0], layers, kind)
    blocks = -(-batch // sizes[7])
    entering = new((layers - 1, *shape), torch.float32) if layers > 1 else None
    out = new((steps, batch, count, size), torch.float32) if layers else back
    first = torch.empty(batch, count, size)
    by_block = [torch.empty(blocks, count, size) if needs[name] else None for name in ("decay", "gain")]
    again = new((layers, *shape), torch.float32) if layers and kind != "relu" and needs["weights"] else None
    packed, room, scratch = _scratch(sizes)
    call(
        "step_one_back",
        [*gradients, kept, decay, gain, scale, inner, tanh, back, entering, out, first, *by_block, again,
         aligned(packed), aligned(scratch), room, layers + 1, *weights, *sizes],
    )  # fmt: skip
    found = [back, first, *[None if value is None else value.sum(0) for value in by_block]]
    if not needs["weights"]:
        return found, [], []
    # what enters a layer, and the gradient of what leaves it
    sources = [kept[:-1], *(again if again is not None else inner if inner is not None else ())]
    grads = [back, *(entering if entering is not None else ()), out][: layers + 1]
    for_weights, for_biases = [], []
    for layer, (source, gradient) in enumerate(zip(sources, grads, strict=True)):
        rows = gradient.view(steps * batch, count, -1)
        for_weights.append(_outer(rows, source.reshape(steps * batch, count, -1)))
        if layer:
            for_biases.append(rows.sum(0))
    for_weights[0] *= decay.unsqueeze(1)
    return found, for_weights, for_biases


def _outer(gradient: Tensor, source: Tensor) -> Tensor:
    """Return sums over rows of products, [N, out, in], of [rows, N, out] and [rows, N, in]."""
    if gradient.shape[1] == 1:
        return (gradient[:, 0].t() @ source[:, 0]).unsqueeze(0)
    return torch.bmm(gradient.permute(1, 2, 0), source.transpose(0, 1))


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
        kept, z, inner, tanh = forward(
            u, m, decay, gain, scale, weights, biases, kind, learns=True, outputs=outputs, last=last
        )
        ctx.save_for_backward(decay, gain, scale, kept, inner, tanh, *weights)
        ctx.kind, ctx.last, ctx.shape = kind, last, u.shape
        ctx.set_materialize_grads(False)
        return (kept[-1:].clone() if last else kept[1:]), z

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, g_memory: Tensor | None, g_z: Tensor | None) -> tuple[Any, ...]:
        decay, gain, scale, kept, inner, tanh, *weights = ctx.saved_tensors
        g_memory, g_z = (None if value is None else value.contiguous() for value in (g_memory, g_z))
        wanted = ctx.needs_input_grad
        needs = {"decay": wanted[2], "gain": wanted[3], "weights": any(wanted[8:])}
        found, for_weights, for_biases = backward(
            (None if ctx.last else g_memory, g_memory if ctx.last else None, g_z),
            kept, inner, tanh, decay, gain, scale, weights, ctx.shape, ctx.kind, needs,
        )  # fmt: skip
        more = [*for_weights, *for_biases] if needs["weights"] else [None] * len(wanted[8:])
        return *found, None, None, None, None, *more
