"""The recurrence in Triton, for GPUs: one program for each neuron and block of samples, through all time steps.

The memory stays in registers. The hidden layer passes by in pieces: a piece of it is worked out from the decayed memory
and used up at once, so that a step holds two pieces of the weights, and where one piece is all of it the weights stay
where they are for the whole sequence. Kept for the backward pass are the input, the memory (which is the result), and
the hyperbolic tangent of every step; the hidden layer is worked out anew. Gradients of weights are one batched product
each over all steps and samples after the loop.

Importing this imports Triton.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from neurons.compiler.choice import interpreted
from neurons.elm.one import KINDS

_PIECE = 64
"""Hidden units of a piece."""
_SAMPLES = 16
"""Samples of a program, the fewest of a product of Triton."""
OPTIONS = {"num_warps": 4, "num_stages": 1, "enable_fp_fusion": True}


def _forward(  # type: ignore[no-untyped-def]
    u_, m_, d_, g_, c_, w0_, w1_, b1_, out_, z_, y_, T, B, N, M, H, out_step,
    KIND: tl.constexpr, LAYERS: tl.constexpr, HELD: tl.constexpr, S: tl.constexpr, MP: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0)
    b = tl.program_id(1) * S + tl.arange(0, S)
    i = tl.arange(0, MP)
    j = tl.arange(0, P)
    live = (b < B)[:, None] & (i < M)[None, :]
    at = (b[:, None] * N + n) * M + i[None, :]
    u_at = (b[:, None] * N + n) * H + j[None, :]
    m = tl.load(m_ + at, mask=live, other=0.0)
    d = tl.load(d_ + n * M + i, mask=i < M, other=0.0)[None, :]
    g = tl.load(g_ + n * M + i, mask=i < M, other=0.0)[None, :] * 1.7159
    if c_ is not None:
        c = tl.load(c_ + at, mask=live, other=0.0)
    if LAYERS == 0:
        both = (i < M)[:, None] & (i < M)[None, :]
        w = tl.load(w0_ + n * M * M + i[None, :] * M + i[:, None], mask=both, other=0.0)
    else:
        bias = tl.load(b1_ + n * M + i, mask=i < M, other=0.0)[None, :]
        if HELD:
            inner = tl.load(
                w0_ + n * H * M + j[None, :] * M + i[:, None], mask=(i < M)[:, None] & (j < H)[None, :], other=0.0
            )
            outer = tl.load(
                w1_ + n * M * H + i[None, :] * H + j[:, None], mask=(j < H)[:, None] & (i < M)[None, :], other=0.0
            )
    for _t in range(T):
        k = d * m
        if LAYERS == 0:
            z = tl.load(u_ + at, mask=live, other=0.0) + tl.dot(k, w, input_precision="ieee")
        else:
            z = tl.full((S, MP), 0.0, tl.float32) + bias
            for first in range(0, H, P):
                if not HELD:
                    h = first + j
                    inner = tl.load(
                        w0_ + n * H * M + h[None, :] * M + i[:, None],
                        mask=(i < M)[:, None] & (h < H)[None, :], other=0.0,
                    )  # fmt: skip
                    outer = tl.load(
                        w1_ + n * M * H + i[None, :] * H + h[:, None],
                        mask=(h < H)[:, None] & (i < M)[None, :], other=0.0,
                    )  # fmt: skip
                some = (b < B)[:, None] & (first + j < H)[None, :]
                a = tl.load(u_ + u_at + first, mask=some, other=0.0) + tl.dot(k, inner, input_precision="ieee")
                if KIND == 1:
                    a = a / (1.0 + tl.exp(-a))
                else:
                    a = tl.where(a < 0.0, 0.0, a)
                    if KIND == 2:
                        a = a * a
                z += tl.dot(a, outer, input_precision="ieee")
        if c_ is not None:
            z = z * c
        x = z * (2.0 / 3.0)
        s = x * x
        e = tl.exp(-2.0 * tl.abs(x))
        y = (1.0 - e) / (1.0 + e)
        y = tl.where(x < 0.0, -y, y)
        # near zero the quotient loses digits, and the series has them
        near = x * (1.0 - s * (1.0 / 3.0 - s * (2.0 / 15.0 - s * (17.0 / 315.0))))
        y = tl.where(s < 0.0225, near, y)
        m = k + g * y
        tl.store(out_ + at, m, mask=live)
        if z_ is not None:
            tl.store(z_ + at, z, mask=live)
            z_ += B * N * M
        if y_ is not None:
            tl.store(y_ + at, y, mask=live)
            y_ += B * N * M
        u_ += B * N * H
        out_ += out_step


def _backward(  # type: ignore[no-untyped-def]
    gm_, gl_, gz_, u_, k_, y_, d_, g_, c_, w0_, w1_, back_, q_, first_, sd_, sg_, T, B, N, M, H,
    KIND: tl.constexpr, LAYERS: tl.constexpr, S: tl.constexpr, MP: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0)
    b = tl.program_id(1) * S + tl.arange(0, S)
    i = tl.arange(0, MP)
    j = tl.arange(0, P)
    live = (b < B)[:, None] & (i < M)[None, :]
    at = (b[:, None] * N + n) * M + i[None, :]
    u_at = (b[:, None] * N + n) * H + j[None, :]
    d = tl.load(d_ + n * M + i, mask=i < M, other=0.0)[None, :]
    g = tl.load(g_ + n * M + i, mask=i < M, other=0.0)[None, :] * (1.7159 * 2.0 / 3.0)
    dm = tl.full((S, MP), 0.0, tl.float32)
    sum_d = tl.full((S, MP), 0.0, tl.float32)
    sum_g = tl.full((S, MP), 0.0, tl.float32)
    if gl_ is not None:
        dm = tl.load(gl_ + at, mask=live, other=0.0)
    if c_ is not None:
        c = tl.load(c_ + at, mask=live, other=0.0)
    if LAYERS == 0:
        both = (i < M)[:, None] & (i < M)[None, :]
        w = tl.load(w0_ + n * M * M + i[:, None] * M + i[None, :], mask=both, other=0.0)
    step = tl.cast(B * N * M, tl.int64)
    wide = tl.cast(B * N * H, tl.int64)
    u_ += (T - 1) * wide
    back_ += (T - 1) * wide
    k_ += (T - 1) * step
    y_ += (T - 1) * step
    q_ += (T - 1) * step
    if gm_ is not None:
        gm_ += (T - 1) * step
    if gz_ is not None:
        gz_ += (T - 1) * step
    for _t in range(T):
        y = tl.load(y_ + at, mask=live, other=0.0)
        before = tl.load(k_ + at, mask=live, other=0.0)
        if gm_ is not None:
            dm += tl.load(gm_ + at, mask=live, other=0.0)
            gm_ -= step
        sum_g += dm * y
        q = dm * g * (1.0 - y * y)
        if gz_ is not None:
            q += tl.load(gz_ + at, mask=live, other=0.0)
            gz_ -= step
        if c_ is not None:
            q = q * c
        tl.store(q_ + at, q, mask=live)
        if LAYERS == 0:
            dm += tl.dot(q, w, input_precision="ieee")
        else:
            k = d * before
            for first in range(0, H, P):
                h = first + j
                tall = (i < M)[:, None] & (h < H)[None, :]
                some = (b < B)[:, None] & (h < H)[None, :]
                inner = tl.load(w0_ + n * H * M + h[None, :] * M + i[:, None], mask=tall, other=0.0)
                outer = tl.load(w1_ + n * M * H + i[:, None] * H + h[None, :], mask=tall, other=0.0)
                a = tl.load(u_ + u_at + first, mask=some, other=0.0) + tl.dot(k, inner, input_precision="ieee")
                da = tl.dot(q, outer, input_precision="ieee")
                if KIND == 1:
                    s = 1.0 / (1.0 + tl.exp(-a))
                    da = da * s * (1.0 + a * (1.0 - s))
                elif KIND == 2:
                    da = da * 2.0 * tl.where(a < 0.0, 0.0, a)
                else:
                    da = tl.where(a > 0.0, da, 0.0)
                tl.store(back_ + u_at + first, da, mask=some)
                dm += tl.dot(da, tl.trans(inner), input_precision="ieee")
        sum_d += dm * before
        dm = dm * d
        u_ -= wide
        back_ -= wide
        k_ -= step
        y_ -= step
        q_ -= step
    tl.store(first_ + at, dm, mask=live)
    tl.store(sd_ + at, sum_d, mask=live)
    tl.store(sg_ + at, sum_g * 1.7159, mask=live)


@functools.cache
def _kernels(interpreted: bool) -> tuple[Any, Any]:
    """Return both loops, made for a GPU or for Triton's interpreter."""
    return tuple(triton.jit(function, do_not_specialize=["T"]) for function in (_forward, _backward))  # type: ignore[return-value]


def launch(which: int, grid: tuple[int, int], arguments: dict[str, Any]) -> None:
    """Run the forward (0) or the backward (1) loop."""
    kernel = _kernels(interpreted())[which]
    if interpreted():
        from neurons.compiler.triton_interpreter import launch as interpret

        interpret(kernel, grid, arguments)
        return
    device = arguments["u_"].device
    with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
        kernel[grid](**arguments, **OPTIONS)


def _power(count: int) -> int:
    return max(16, triton.next_power_of_2(count))


def _common(u: Tensor, size: int, weights: list[Tensor], kind: str) -> tuple[tuple[int, int], dict[str, Any]]:
    """Return the grid, and the arguments that both loops take."""
    steps, batch, count, hidden = u.shape
    layers = len(weights) - 1
    arguments = {
        "u_": u, "w0_": weights[0], "w1_": weights[1] if layers else None,
        "T": steps, "B": batch, "N": count, "M": size, "H": hidden,
        "KIND": KINDS[kind], "LAYERS": layers, "S": _SAMPLES, "MP": _power(size), "P": min(_PIECE, _power(hidden)),
    }  # fmt: skip
    return (count, -(-batch // _SAMPLES)), arguments


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
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return the memory [1 + T, B, N, M] with the first in front, z, and the hyperbolic tangent of every step.

    Where nothing is learned and only the last memory is wanted, that is all that is returned of it, [1, B, N, M].
    """
    steps, (batch, count, size) = u.shape[0], m.shape
    new: Callable[..., Tensor] = functools.partial(torch.empty, device=u.device)
    only = last and not learns
    kept = new(1 if only else steps + 1, batch, count, size)
    if not only:
        kept[0].copy_(m)
    z = new(steps, batch, count, size) if outputs else None
    y = new(steps, batch, count, size) if learns else None
    grid, arguments = _common(u, size, weights, kind)
    arguments |= {
        "m_": m, "d_": decay, "g_": gain, "c_": scale, "b1_": biases[0] if biases else None,
        "out_": kept if only else kept[1:], "z_": z, "y_": y, "out_step": 0 if only else batch * count * size,
        "HELD": bool(biases) and u.shape[3] <= arguments["P"],
    }  # fmt: skip
    launch(0, grid, arguments)
    return kept, z, y


def backward(
    gradients: tuple[Tensor | None, Tensor | None, Tensor | None],
    u: Tensor,
    kept: Tensor,
    y: Tensor,
    decay: Tensor,
    gain: Tensor,
    scale: Tensor | None,
    weights: list[Tensor],
    kind: str,
    learns: bool,
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Return gradients of u, m, decay and gain, of the weights and of the biases.

    ``gradients`` are those of the memory of every step, of the last, and of z.
    """
    from neurons.elm.recurrence import ACTIVATIONS

    layers = len(weights) - 1
    back = torch.empty_like(u)
    q = torch.empty_like(y) if layers else back
    first, sum_d, sum_g = (torch.empty_like(kept[0]) for _ in range(3))
    grid, arguments = _common(u, kept.shape[3], weights, kind)
    arguments |= {f"{name}_": value for name, value in zip(("gm", "gl", "gz"), gradients, strict=True)}
    arguments |= {
        "k_": kept, "y_": y, "d_": decay, "g_": gain, "c_": scale, "back_": back, "q_": q, "first_": first,
        "sd_": sum_d, "sg_": sum_g,
    }  # fmt: skip
    launch(1, grid, arguments)
    found = [back, first, sum_d.sum(0), sum_g.sum(0)]
    if not learns:
        return found, [], []
    k, inner, outer = ((value.flatten(0, 1)) for value in (decay * kept[:-1], back, q))
    for_weights = [torch.bmm(inner.permute(1, 2, 0), k.transpose(0, 1))]
    if layers:
        hidden = torch.bmm(k.transpose(0, 1), weights[0].transpose(1, 2)) + u.flatten(0, 1).transpose(0, 1)
        for_weights.append(torch.bmm(outer.permute(1, 2, 0), ACTIVATIONS[kind](hidden)))
    return found, for_weights, [outer.sum(0)] if layers else []


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
        kept, z, y = forward(u, m, decay, gain, scale, weights, biases, kind, learns=True, outputs=outputs, last=last)
        ctx.save_for_backward(u, decay, gain, scale, kept, y, *weights)
        ctx.kind, ctx.last = kind, last
        ctx.set_materialize_grads(False)
        return (kept[-1:].clone() if last else kept[1:]), z

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, g_memory: Tensor | None, g_z: Tensor | None) -> tuple[Any, ...]:
        u, decay, gain, scale, kept, y, *weights = ctx.saved_tensors
        g_memory, g_z = (None if value is None else value.contiguous() for value in (g_memory, g_z))
        learns = any(ctx.needs_input_grad[8:])
        found, for_weights, for_biases = backward(
            (None if ctx.last else g_memory, g_memory if ctx.last else None, g_z),
            u, kept, y, decay, gain, scale, weights, ctx.kind, learns,
        )  # fmt: skip
        more = [*for_weights, *for_biases] if learns else [None] * len(ctx.needs_input_grad[8:])
        return *found, None, None, None, None, *more
