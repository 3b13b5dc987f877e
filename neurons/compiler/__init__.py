"""The neuron compiler: from one written time step to a fused loop over time, forward and backward.

:func:`run` takes the place of the eager loop wherever it can and says None where it cannot; :func:`why_not` gives the
reason, and :func:`backend` the word for what runs on a device: ``"triton"`` on a GPU, ``"c"`` on the CPU, ``"eager"``
where neither can be had. ``STEP_KERNELS`` in the environment forces one of the three; ``STEP_KERNELS=eager`` is the
reference for all kernels. ``STEP_CACHE`` names the folder in which compiled kernels are kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from neurons.base import Neuron
from neurons.compiler import cache
from neurons.compiler.choice import Word, choose
from neurons.compiler.operator import call, multi_step
from neurons.compiler.plan import Plan, find, tensor_of

__all__ = ["backend", "run", "why_not"]


def backend(device: torch.device | str = "cpu") -> Word:
    """Return what runs neurons on a device: ``"triton"``, ``"c"`` or ``"eager"``.

    Parameters
    ----------
    device : device or str

    Raises
    ------
    OptionError
        When ``STEP_KERNELS`` holds another word.
    """
    word, _ = choose(torch.device(device))
    if word == "c":
        try:
            cache.compiler()
        except cache.NoCompilerError:
            return "eager"
    return word


def run(
    neuron: Neuron, x: Tensor, state: Sequence[Tensor] | None = None, *, keep: bool = True
) -> tuple[Tensor, list[Tensor]] | None:
    """Run a neuron over the time steps of ``x`` in one fused loop.

    Parameters
    ----------
    neuron : Neuron
    x : Tensor, shape [T, B, ...]
        Input current.
    state : sequence of Tensor, each of shape [B, ...], optional
        State to go on from, in the order of ``neuron.state``; rest when left out, which is faster than handing
        the resting state over.
    keep : bool
        Whether the last state is wanted; the list is empty otherwise.

    Returns
    -------
    output : Tensor, shape [T, B, ...]
    state : list of Tensor
        The state after the last step.

    None is returned when the neuron does not compile, or the tensors are not the compiler's kind.
    """
    if x.layout != torch.strided or not x.numel():
        return None
    if state is None and type(neuron).resting_state is not Neuron.resting_state:
        resting = neuron.resting_state(x)
        state = [resting[name] for name in neuron.state]
    given = [] if state is None else list(state)
    if any(value.dtype != x.dtype or value.device != x.device for value in given):
        return None
    captured = torch.compiler.is_compiling()
    if captured:
        key, *names = _constant_plan(neuron, tuple(x.shape[1:]), x.dtype, x.device).split()
        if key == "none":
            return None
    else:
        plan = find(neuron, tuple(x.shape[1:]), x.dtype, x.device)
        if not plan.key:
            return None
        key, names = plan.key, list(plan.names)
    tensors = [tensor_of(neuron, name) for name in names]
    output, *last = (multi_step if captured else call)(x, given, tensors, key, keep)
    return output, last


def why_not(neuron: Neuron, x: Tensor | None = None, *, device: torch.device | str | None = None) -> str | None:
    """Return why a neuron runs in the eager loop, or None when it runs in a fused one.

    Parameters
    ----------
    neuron : Neuron
    x : Tensor, shape [T, B, ...], optional
        Input to judge by; left out, one that fits the shapes of the neuron's parameters.
    device : device or str, optional
        Where that input would be, if not beside the neuron's parameters.
    """
    if x is None:
        held = list(neuron.parameters())
        try:
            shape = tuple(torch.broadcast_shapes((2, 3), *[value.shape for value in held]))
        except RuntimeError:
            shape = (2, *max((tuple(value.shape) for value in held), key=len))
        dtype = next((value.dtype for value in held), torch.get_default_dtype())
        if device is None:
            device = next((value.device for value in (*held, *neuron.buffers())), "cpu")
        device = torch.empty(0, device=device).device  # "cuda" alone does not say which
        plan: Plan = find(neuron, shape, dtype, device)
    else:
        plan = find(neuron, tuple(x.shape[1:]), x.dtype, x.device)
    return None if plan.key else plan.reason


def _constant_plan(neuron: Neuron, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> str:
    """Return the key and the names of a plan while a graph is captured: it becomes part of the graph."""
    plan = find(neuron, shape, dtype, device)
    return " ".join((plan.key, *plan.names)) if plan.key else "none"


# What torch.compiler.assume_constant_result does, without importing torch._dynamo, which takes a second.
_constant_plan._dynamo_marked_constant = True  # type: ignore[attr-defined]
