"""The neuron as torch operators: ``step::multi_step`` and ``step::multi_step_backward``.

Autograd, dispatch modes, ``torch.compile`` and ``torch.export`` see one operator for all neurons; the key says
which. Defined with ``torch.library.Library``, because the first call of a ``torch.library.custom_op`` imports the
whole of ``torch._dynamo``, which takes longer than everything else here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import Parameter

from neurons.compiler.choice import built
from neurons.compiler.library import kernel, program

_library = torch.library.Library("step", "DEF")
_library.define("multi_step(Tensor x, Tensor[] state, Tensor[] tensors, str key, bool keep) -> Tensor[]")
_library.define(
    "multi_step_backward(Tensor? gradient, Tensor?[] gradient_state, Tensor x, Tensor[] state, Tensor[] tensors, "
    "bool[] needs, str key) -> Tensor[]"
)
multi_step = torch.ops.step.multi_step.default
multi_step_backward = torch.ops.step.multi_step_backward.default


def _forward(x: Tensor, state: list[Tensor], tensors: list[Tensor], key: str, keep: bool) -> list[Tensor]:
    return kernel(key, built(x.device)).forward(x, state, tensors, keep)


def _backward(
    gradient: Tensor | None,
    gradient_state: list[Tensor | None],
    x: Tensor,
    state: list[Tensor],
    tensors: list[Tensor],
    needs: list[bool],
    key: str,
) -> list[Tensor]:
    return kernel(key, built(x.device)).backward(gradient, gradient_state, x, state, tensors, needs)


def _forward_fake(x: Tensor, state: list[Tensor], tensors: list[Tensor], key: str, keep: bool) -> list[Tensor]:
    states = len(program(key).rest) if keep else 0
    return [x.new_empty(x.shape), *[x.new_empty(x.shape[1:]) for _ in range(states)]]


def _backward_fake(
    gradient: Tensor | None,
    gradient_state: list[Tensor | None],
    x: Tensor,
    state: list[Tensor],
    tensors: list[Tensor],
    needs: list[bool],
    key: str,
) -> list[Tensor]:
    found = [t.new_empty(t.shape) for t, need in zip(tensors, needs, strict=True) if need]
    return [x.new_empty(x.shape), *[x.new_empty(value.shape) for value in state], *found]


def unseen(x: Tensor) -> bool:
    """Whether no dispatch mode, transform or tracer has to see an operator on ``x``."""
    return (
        type(x) in (Tensor, Parameter)
        and torch._C._len_torch_dispatch_stack() == 0
        and torch._C._functorch.peek_interpreter_stack() is None
        and not torch.jit.is_tracing()
    )


def direct(x: Tensor) -> bool:
    """Whether nobody looks on, a profiler included.

    The kernels are then called at once; on small tensors the way through the dispatcher takes longer than the loop.
    """
    return unseen(x) and not torch.autograd._profiler_enabled()


def call(x: Tensor, state: list[Tensor], tensors: list[Tensor], key: str, keep: bool) -> Sequence[Tensor]:
    """Run ``step::multi_step``, without the dispatcher where that shows to nobody."""
    return _autograd(x, state, tensors, key, keep) if direct(x) else multi_step(x, state, tensors, key, keep)


def _below(x: Tensor, state: list[Tensor], tensors: list[Tensor], key: str, keep: bool) -> list[Tensor]:
    if direct(x):
        return _forward(x, state, tensors, key, keep)
    with torch._C._AutoDispatchBelowAutograd():
        return multi_step(x, state, tensors, key, keep)  # type: ignore[no-any-return]


class _MultiStep(torch.autograd.Function):
    """Saves the input, the state that came in and the parameters; the states in between are worked out anew."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, key: str, keep: bool, states: int, *rest: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        out = _below(x, list(rest[:states]), list(rest[states:]), key, keep)
        ctx.save_for_backward(x, *rest)
        ctx.key, ctx.states = key, states
        ctx.set_materialize_grads(False)
        return tuple(out)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor | None, *last: Tensor | None) -> tuple[Any, ...]:
        x, *rest = ctx.saved_tensors
        state, tensors = rest[: ctx.states], rest[ctx.states :]
        needs = list(ctx.needs_input_grad[4 + ctx.states :])
        backward = _backward if direct(x) else multi_step_backward
        back, *found = backward(gradient, list(last), x, state, tensors, needs, ctx.key)
        more = iter(found[ctx.states :])
        return back, None, None, None, *found[: ctx.states], *[next(more) if need else None for need in needs]


def _autograd(x: Tensor, state: list[Tensor], tensors: list[Tensor], key: str, keep: bool) -> Sequence[Tensor]:
    if torch.is_grad_enabled() and any(value.requires_grad for value in (x, *state, *tensors)):
        return list(_MultiStep.apply(x, key, keep, len(state), *state, *tensors))
    return _below(x, state, tensors, key, keep)


for _device in ("CPU", "CUDA"):
    _library.impl("multi_step", _forward, _device)
    _library.impl("multi_step_backward", _backward, _device)
_library.impl("multi_step", _autograd, "Autograd")
torch.library.register_fake("step::multi_step", _forward_fake, lib=_library)
torch.library.register_fake("step::multi_step_backward", _backward_fake, lib=_library)
