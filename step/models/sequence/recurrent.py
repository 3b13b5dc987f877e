"""A layer of neurons that hear the outputs of the layer one step later, for any neuron."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from neurons import Neuron, State
from neurons.compiler.choice import built
from neurons.compiler.library import kernel
from neurons.compiler.operator import direct
from neurons.compiler.plan import find, tensor_of
from neurons.errors import OptionError
from neurons.loop import run_steps
from neurons.plain import is_plain
from step.models.sequence.base import Cell

BEFORE = "output_before"


class Recurrent(Cell):
    """Any neuron with dense recurrent weights: i_t = x_t + V s_{t-1}, s_t = neuron(i_t), on [T, B, features].

    s are the outputs of the step before, none at first; V [features, features] has no bias and starts orthogonal. The
    state is that of the neuron and s. Where nobody looks on, a neuron that compiles runs in its kernel.

    Parameters
    ----------
    features : int
    neuron : Neuron
        One that goes on from a state.

    Raises
    ------
    OptionError
        For a neuron that looks at all time steps at once.
    """

    def __init__(self, features: int, neuron: Neuron) -> None:
        name = getattr(type(neuron), "registered_name", type(neuron).__name__)
        if not neuron.streams:
            raise OptionError(
                f"{name} looks at all time steps at once, so it cannot hear its own spikes; set recurrent to false"
            )
        super().__init__(features, dict.fromkeys((BEFORE, *neuron.state), features))
        self.output = neuron.output  # type: ignore[misc]
        self.registered_name = name  # what a record calls the neurons of this layer
        self.recurrent = nn.Linear(features, features, bias=False)
        nn.init.orthogonal_(self.recurrent.weight)
        self.neuron = neuron

    def resting_state(self, x: Tensor) -> State:
        """Return the neuron's state at rest, and no outputs."""
        return {BEFORE: x.new_zeros(x.shape[1:]), **self.neuron.resting_state(x)}

    def step(self, x: Tensor, before: Tensor, *state: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        neuron, current = self.neuron, x + self.recurrent(before)
        if type(neuron).run is Neuron.run:
            result = neuron.step(current, *state)
            y, *after = result if isinstance(result, tuple) else (result,)
        else:
            # That of the class: what is counted is this layer, not one more neuron inside it.
            outputs, reached = type(neuron).run(
                neuron, current.unsqueeze(0), dict(zip(neuron.state, state, strict=True))
            )
            y, after = outputs[0], [reached[name] for name in neuron.state]
        return y, y, *after

    def run(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Run over the time steps of ``x`` from ``state`` (rest when left out); see :class:`neurons.Neuron`."""
        self._check_input(x)
        if state is not None:
            self._checked(state, x)
        given = self.resting_state(x) if state is None else state
        start = [given[name] for name in self.state]
        fused = self._fused(x, start)
        output, last = run_steps(self.step, x, start) if fused is None else fused
        return output, dict(zip(self.state, last, strict=True))

    def _fused(self, x: Tensor, start: list[Tensor]) -> tuple[Tensor, list[Tensor]] | None:
        """Run the neuron's kernel step by step; None where there is none, or somebody looks on."""
        weight, neuron = self.recurrent.weight, self.neuron
        alike = all(value.dtype == weight.dtype and value.device == weight.device for value in (x, *start))
        if not direct(x) or is_plain() or not alike or torch.is_autocast_enabled(x.device.type):
            return None
        plan = find(neuron, tuple(x.shape[1:]), x.dtype, x.device)
        if not plan.key:
            return None
        tensors = [tensor_of(neuron, name) for name in plan.names]
        output, *last = _Loop.apply(x, weight, plan.key, len(start) - 1, *start, *tensors)
        return output, [output[-1], *last]

    def extra_repr(self) -> str:
        return f"features={self.inputs}"


class _Loop(torch.autograd.Function):
    """The loop over time with the neuron's kernel in it.

    Two calls for a step each way; the gradient of the weights is one product over all steps at the end.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, weight: Tensor, key: str, states: int, before: Tensor, *rest: Tensor
    ) -> tuple[Tensor, ...]:
        loops, turned = kernel(key, built(x.device)), weight.t()
        state, tensors = list(rest[:states]), list(rest[states:])
        currents, outputs, entered = torch.empty_like(x, memory_format=torch.contiguous_format), [], []
        heard = before
        for x_t, current in zip(x.unbind(0), currents.split(1), strict=True):
            torch.addmm(x_t, heard, turned, out=current[0])
            entered.append(state)
            y, *state = loops.forward(current, state, tensors, True)
            outputs.append(y)
            heard = y[0]
        output = torch.cat(outputs)
        if any(ctx.needs_input_grad):
            kept = [torch.stack(values) for values in zip(*entered, strict=True)]
            ctx.save_for_backward(weight, before, currents, output, *kept, *tensors)
            ctx.key, ctx.states = key, states
            ctx.set_materialize_grads(False)
        return output, *state

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor | None, *last: Tensor | None) -> tuple[Any, ...]:
        weight, before, currents, output, *rest = ctx.saved_tensors
        states, loops = ctx.states, kernel(ctx.key, built(currents.device))
        kept, tensors = rest[:states], list(rest[states:])
        needs = list(ctx.needs_input_grad[5 + states :])
        back = torch.empty_like(currents)
        on_state: list[Tensor | None] = list(last)
        on_tensors: list[Tensor] | None = None
        heard: Tensor | None = None
        for t in reversed(range(len(currents))):
            arriving = None if gradient is None else gradient[t]
            if heard is not None:
                arriving = heard if arriving is None else arriving + heard
            on_output = None if arriving is None else arriving.unsqueeze(0)
            entered = [values[t] for values in kept]
            step, *found = loops.backward(on_output, on_state, currents[t : t + 1], entered, tensors, needs)
            back[t], on_state, more = step[0], list(found[:states]), found[states:]
            on_tensors = more if on_tensors is None else [a + b for a, b in zip(on_tensors, more, strict=True)]
            heard = step[0] @ weight
        on_weight = None
        if ctx.needs_input_grad[1]:
            on_weight = back[0].t() @ before
            if len(back) > 1:
                on_weight = on_weight.addmm(back[1:].flatten(0, 1).t(), output[:-1].flatten(0, 1))
        each = iter(on_tensors or [])
        return back, on_weight, None, None, heard, *on_state, *[next(each) if need else None for need in needs]
