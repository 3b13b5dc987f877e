"""The loop over time: the one place where a neuron's time step is repeated.

The eager loop is the reference; the compiler's fused loop takes its place wherever it can.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from neurons.base import Neuron


def run_steps(
    step: Callable[..., Tensor | tuple[Tensor, ...]], x: Tensor, state: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """Apply ``step(x_t, *state) -> (output, *state)`` to every time step of ``x``.

    Parameters
    ----------
    step : callable
        One time step.
    x : Tensor, shape [T, B, ...]
    state : sequence of Tensor, each of shape [B, ...]

    Returns
    -------
    output : Tensor, shape [T, B, ...]
    state : list of Tensor
        The state after the last step.
    """
    outputs = []
    # unbind, not x[t]: the backward of indexing allocates a full-size gradient for every step.
    for x_t in x.unbind(0):
        result = step(x_t, *state)
        output, *state = result if isinstance(result, tuple) else (result,)
        outputs.append(output)
    # cat, not stack: it keeps the memory format of image maps (channels last), so that a convolution behind
    # the neuron need not reorder them.
    return torch.cat(outputs).unflatten(0, (len(outputs), -1)), list(state)


def _channels_last(x: Tensor) -> bool:
    """Whether maps [T, B, C, H, W] lie in memory with channels last, step after step or one step for all."""
    step = x[0]
    apart = x.stride(0) in (0, step.numel()) or len(x) == 1
    return apart and not step.is_contiguous() and step.is_contiguous(memory_format=torch.channels_last)


def run_fused(
    neuron: Neuron, x: Tensor, state: Mapping[str, Tensor] | None, *, keep: bool = True
) -> tuple[Tensor, dict[str, Tensor]] | None:
    """Run a neuron in one fused loop, or return None where the compiler has none for it.

    Image maps may lie in memory with channels last; a step that treats all positions alike then runs in that order.
    Without ``keep`` the last state is left out.
    """
    from neurons import compiler  # loads on first use

    order = None
    if x.dim() == 5 and _channels_last(x):
        alike = all(value.dim() == 0 for value in (*neuron.parameters(), *neuron.buffers()))
        order = (0, 1, 3, 4, 2) if alike else None
    if order is not None:
        x = x.permute(order)
    given = None if state is None else [state[name] for name in neuron.state]
    if order is not None and given is not None:
        given = [value.permute(0, 2, 3, 1) for value in given]
    fused = compiler.run(neuron, x, given, keep=keep)
    if fused is None:
        return None
    output, last = fused
    if order is not None:
        output, last = output.permute(0, 1, 4, 2, 3), [value.permute(0, 3, 1, 2) for value in last]
    return output, dict(zip(neuron.state, last, strict=True)) if keep else {}
