"""The recurrence of the ELM neuron: leaky memory that a small MLP writes to, step by step.

This is all of the neuron that has to run in sequence (Spieler et al., "The Expressive Leaky Memory Neuron", ICLR 2024,
arXiv 2306.16922): what its MLP sees of the input does not depend on the memory and is worked out for all steps at once
(:mod:`neurons.elm.projection`), and so are read-outs of the memory.

:func:`memory` runs float32 on the CPU in C and on a GPU in Triton, with a backward pass of its own; everything else,
and whatever somebody looks on at, runs in :func:`memory_reference`, a plain loop of torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from neurons.compiler.choice import asked, choose
from neurons.elm import kernel, many, one
from neurons.errors import OptionError, ShapeError, suggest

MOST = 256
"""Memory units of a neuron that a GPU holds in registers."""

SWING, SLOPE = 1.7159, 2.0 / 3.0
"""LeCun's scaled hyperbolic tangent, 1.7159 tanh(2 z / 3) (LeCun et al., Efficient BackProp, 1998)."""

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "silu": F.silu,
    "relu-squared": lambda a: F.relu(a).square(),
}


@dataclass(frozen=True)
class MLP:
    """The part of the MLP that the memory passes through, for N neurons with parameters of their own.

    Attributes
    ----------
    weights : tuple of Tensor
        First the memory half of the first layer, [N, H, M]; then [N, H, H] for every further hidden layer; last
        [N, M, H]. Without a hidden layer there is one, [N, M, M].
    biases : tuple of Tensor
        Of all layers but the first, [N, outputs]; the bias of the first belongs to the input of :func:`memory`.
    activation : str
        ``"relu"``, ``"silu"`` or ``"relu-squared"``, after every layer but the last.
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    activation: str = "relu"

    def __call__(self, u: Tensor, k: Tensor) -> Tensor:
        """Return the output [B, N, M] for the input half ``u`` [B, N, H] and the decayed memory ``k`` [B, N, M]."""
        act = ACTIVATIONS[self.activation]
        a = u + torch.einsum("bni,noi->bno", k, self.weights[0])
        for weight, bias in zip(self.weights[1:], self.biases, strict=True):
            a = torch.einsum("bni,noi->bno", act(a), weight) + bias
        return a


def memory_reference(
    u: Tensor,
    m: Tensor,
    decay: Tensor,
    gain: Tensor,
    mlp: MLP,
    *,
    scale: Tensor | None = None,
    outputs: bool = False,
    last: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Return what :func:`memory` returns, by a plain loop: any type, any device, any order of gradient."""
    check(u, m, decay, gain, mlp, scale)
    kept, written = [], []
    for u_t in u:
        k = decay * m
        z = mlp(u_t, k)
        if scale is not None:
            z = z * scale
        m = k + gain * (SWING * torch.tanh(SLOPE * z))
        kept.append(m)
        written.append(z)
    found = torch.stack(kept[-1:] if last else kept)
    return (found, torch.stack(written)) if outputs else found


def check(u: Tensor, m: Tensor, decay: Tensor, gain: Tensor, mlp: MLP, scale: Tensor | None) -> None:
    """Refuse shapes that do not fit each other.

    Raises
    ------
    OptionError
        An unknown activation.
    ShapeError
        A tensor of another shape than the rest asks for.
    """
    if mlp.activation not in ACTIVATIONS:
        raise OptionError(f"there is no activation {mlp.activation!r} of an ELM{suggest(mlp.activation, ACTIVATIONS)}")
    if u.dim() != 4 or u.shape[0] < 1 or m.dim() != 3:
        raise ShapeError(
            f"the recurrence of an ELM reads u [T, B, N, H] with T of at least 1 and m [B, N, M], "
            f"not {list(u.shape)} and {list(m.shape)}"
        )
    (_, batch, count, hidden), size = u.shape, m.shape[2]
    layers = len(mlp.weights)
    if layers < 1 or len(mlp.biases) != layers - 1:
        raise ShapeError(f"an MLP of {layers} weights has {max(layers - 1, 0)} biases here, not {len(mlp.biases)}")
    outer = [(hidden, size), *[(hidden, hidden)] * (layers - 2), (size, hidden)] if layers > 1 else [(size, size)]
    wanted: list[tuple[str, Tensor, tuple[int, ...]]] = [
        ("m", m, (batch, count, size)),
        ("decay", decay, (count, size)),
        ("gain", gain, (count, size)),
    ]
    if scale is not None:
        wanted.append(("scale", scale, (batch, count, size)))
    wanted += [(f"weights[{i}]", w, (count, *rest)) for i, (w, rest) in enumerate(zip(mlp.weights, outer, strict=True))]
    wanted += [
        (f"biases[{i}]", b, (count, rest[0])) for i, (b, rest) in enumerate(zip(mlp.biases, outer[1:], strict=True))
    ]
    if layers == 1:
        wanted.append(("u", u, (u.shape[0], batch, count, size)))
    for name, tensor, shape in wanted:
        if tuple(tensor.shape) != shape:
            raise ShapeError(f"{name} of the recurrence of an ELM has shape {list(tensor.shape)}, not {list(shape)}")


def memory(
    u: Tensor,
    m: Tensor,
    decay: Tensor,
    gain: Tensor,
    mlp: MLP,
    *,
    scale: Tensor | None = None,
    outputs: bool = False,
    last: bool = False,
    checkpoint: int = 0,
) -> Tensor | tuple[Tensor, Tensor]:
    """Return the memory after every step.

    One step: ``k = decay * m``, ``z = scale * MLP(u_t, k)``, ``m = k + gain * 1.7159 * tanh(2 z / 3)``.

    Parameters
    ----------
    u : Tensor, shape [T, B, N, H]
        Input half of the first layer of the MLP, its bias included; H is M where there is no hidden layer.
    m : Tensor, shape [B, N, M]
        Memory before the first step.
    decay, gain : Tensor, shape [N, M]
        What a step leaves of the memory, and how much it writes.
    mlp : MLP
    scale : Tensor, shape [B, N, M], optional
        Factor on the output of the MLP, the same at every step (variational dropout).
    outputs : bool
        Return ``z`` of every step too.
    last : bool
        Return the memory after the last step only, shape [1, B, N, M].
    checkpoint : int
        Keep for the backward pass, beside ``u`` itself, only the memory at the start of every so many steps, and work
        the rest out anew there; 0 keeps what every step needs. About sqrt(T) keeps least.

    Returns
    -------
    Tensor, shape [T, B, N, M]
        And ``z``, shape [T, B, N, M], where asked for.

    Raises
    ------
    OptionError, ShapeError
    """
    check(u, m, decay, gain, mlp, scale)
    if checkpoint < 0:
        raise OptionError(f"checkpoint is a number of steps, or 0 for none, not {checkpoint}")
    if not 0 < checkpoint < u.shape[0] or not torch.is_grad_enabled():
        return _memory(u, m, decay, gain, mlp, scale, outputs, last)
    kept: list[Tensor] = []
    written: list[Tensor] = []
    for part in u.split(checkpoint):
        found, z = _Segment.apply(part, m, decay, gain, scale, mlp.activation, outputs, last, *mlp.weights, *mlp.biases)
        kept.append(found)
        written.append(z)
        m = found[-1]
    whole = kept[-1] if last else torch.cat(kept)
    return (whole, torch.cat(written)) if outputs else whole


class _Segment(torch.autograd.Function):
    """Keeps what it was called with, and runs again on the way back.

    ``torch.utils.checkpoint`` does the same, and imports the whole of ``torch._dynamo`` first.
    """

    @staticmethod
    def forward(ctx: Any, *given: Any) -> tuple[Tensor, Tensor | None]:  # type: ignore[override]
        *tensors, ctx.activation, ctx.outputs, ctx.last = *given[:5], *given[8:], *given[5:8]
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)
        return _Segment.run(ctx, tensors)

    @staticmethod
    def run(ctx: Any, tensors: Sequence[Any]) -> tuple[Tensor, Tensor | None]:
        u, m, decay, gain, scale, *rest = tensors
        layers = (len(rest) + 1) // 2
        mlp = MLP(tuple(rest[:layers]), tuple(rest[layers:]), ctx.activation)
        found = _memory(u, m, decay, gain, mlp, scale, ctx.outputs, ctx.last)
        return found if isinstance(found, tuple) else (found, None)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        wanted = [*ctx.needs_input_grad[:5], *ctx.needs_input_grad[8:]]
        with torch.enable_grad():
            given: list[Any] = [
                None if value is None else value.detach().requires_grad_(need)
                for value, need in zip(ctx.saved_tensors, wanted, strict=True)
            ]
            found = _Segment.run(ctx, given)
        pairs = [(out, g) for out, g in zip(found, gradients, strict=True) if out is not None and g is not None]
        leaves = [value for value, need in zip(given, wanted, strict=True) if need]
        outs, grads = zip(*pairs, strict=True)
        back = iter(torch.autograd.grad(outs, leaves, grads, allow_unused=True))
        first, *rest = [next(back) if need else None for need in wanted]
        return first, *rest[:4], None, None, None, *rest[4:]


def _memory(
    u: Tensor, m: Tensor, decay: Tensor, gain: Tensor, mlp: MLP, scale: Tensor | None, outputs: bool, last: bool
) -> Tensor | tuple[Tensor, Tensor]:
    given = (u, m, decay, gain, scale, *mlp.weights, *mlp.biases)
    by_c, by_triton = kernel.why_not(*given) is None, _why_not_triton(given, m.shape[2], len(mlp.biases)) is None
    if (scale is not None and scale.requires_grad) or not (by_c or by_triton) or u.numel() == 0:
        return memory_reference(u, m, decay, gain, mlp, scale=scale, outputs=outputs, last=last)
    layers = len(mlp.biases)
    u, m, decay, gain, *rest = (tensor.contiguous() for tensor in (u, m, decay, gain, *mlp.weights, *mlp.biases))
    scale = None if scale is None else scale.contiguous()
    z: Tensor | None
    together = by_c and many.pays(decay.shape[0], decay.shape[1], u.shape[3])
    function: Any = many.Memory if together else one.Memory
    if by_triton:
        from neurons.elm import triton_recurrence

        function = triton_recurrence.Memory
    if torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in given):
        found, z = function.apply(u, m, decay, gain, scale, mlp.activation, outputs, last, *rest)
    else:
        inner = (u, m, decay, gain, scale, rest[: layers + 1], rest[layers + 1 :], mlp.activation)
        if by_triton:
            kept, z, _ = triton_recurrence.forward(*inner, learns=False, outputs=outputs, last=last)
        elif together:
            kept, z = many.forward(*inner, outputs=outputs, only=last)
        else:
            kept, z, *_ = one.forward(*inner, learns=False, outputs=outputs, last=last)
        found = kept if last else kept[1:]
    if outputs:
        assert z is not None
        return found, z
    return found


def why_not(u: Tensor, m: Tensor, mlp: MLP) -> str | None:
    """Return why :func:`memory` runs in the plain loop for such tensors; None where a fused one takes them."""
    given = (u, m, *mlp.weights, *mlp.biases)
    if u.device.type == "cpu" and asked() != "triton":
        return kernel.why_not(*given)
    return _why_not_triton(given, m.shape[2], len(mlp.biases))


def _why_not_triton(given: Sequence[Tensor | None], size: int, layers: int) -> str | None:
    u = given[0]
    assert u is not None
    if u.device.type == "cpu" and asked() != "triton":
        return "on the CPU the loops are in C"
    reason = kernel.why_not_fused(*given)
    word, why = choose(u.device)
    if reason is not None or word != "triton":
        return reason or why
    if layers > 1:
        return f"the loop in Triton is for one hidden layer or none, not {layers}"
    if size > MOST:
        return f"the loop in Triton is for up to {MOST} memory units, not {size}"
    return None
