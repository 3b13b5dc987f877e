"""The C of a population of ELM neurons, ready to be called: tensors in, tensors out."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from neurons.compiler import cache
from neurons.compiler.buffers import buffers
from neurons.elm.kernel import why_not
from neurons.elm.population_source import POINTERS, REALS, SIZES, back_scratch, scratch, text

ACTIVATIONS = ("relu", "silu", "relu-squared")
"""Activations of the perceptron, in the order of their numbers in C."""
READOUTS = ("real", "relu", "spike")
_NARROW = 8
"""Samples side by side in the narrower form."""


class _Call(ctypes.Structure):
    _fields_ = (
        [(name, ctypes.c_void_p) for name in POINTERS]
        + [(name, ctypes.c_int64) for name in SIZES]
        + [(name, ctypes.c_double) for name in REALS]
    )


@dataclass(frozen=True)
class Population:
    """What a population is, apart from its numbers.

    Attributes
    ----------
    features, neurons, branches, synapses, memory, hidden, layers : int
        Input channels, neurons, branches of a neuron, synapses of a branch, memory units, width and number of the
        perceptron's hidden layers.
    activation, readout : str
        See ``ACTIVATIONS`` and ``READOUTS``.
    high_pass, leak : float, optional
        What the low-pass filter of the read-out and the branches keep in a step; None without them.
    """

    features: int
    neurons: int
    branches: int
    synapses: int
    memory: int
    hidden: int
    layers: int
    activation: str
    readout: str
    high_pass: float | None
    leak: float | None


@dataclass(frozen=True)
class Masks:
    """Factors that hold for all steps of a sample; None for 1.

    Attributes
    ----------
    inputs : Tensor, shape [B, features]
    activities : Tensor, shape [B, neurons]
    updates : Tensor, shape [B, neurons, memory]
        On the perceptron's output.
    """

    inputs: Tensor | None = None
    activities: Tensor | None = None
    updates: Tensor | None = None


@functools.cache
def _library(narrow: bool) -> ctypes.CDLL | None:
    try:
        found = cache.load(text(narrow))
    except (cache.NoCompilerError, OSError):
        return None
    found.step_lanes.restype = ctypes.c_int64
    for name in ("step_population", "step_population_backward"):
        function = getattr(found, name)
        function.argtypes, function.restype = [ctypes.c_void_p], None
    return found


def _fitting(batch: int) -> ctypes.CDLL | None:
    """Return the library for a batch: samples side by side, but enough blocks of them for all threads."""
    found = _library(False)
    if found is not None and found.step_lanes() > _NARROW and batch <= _NARROW * torch.get_num_threads():
        return _library(True)
    return found


def usable(*tensors: Tensor | None) -> bool:
    """Whether the C can run on these tensors."""
    return why_not(*tensors) is None and _library(False) is not None


def run(
    population: Population,
    x: Tensor,
    weights: Tensor,
    index: Tensor,
    start: tuple[Tensor, Tensor, Tensor, Tensor],
    masks: Masks,
    derivative: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, ...]:
    """Run a population over all steps.

    Parameters
    ----------
    population : Population
    x : Tensor, shape [T, B, features]
    weights : Tensor, shape [neurons, numbers]
        All numbers of a neuron in a row: synapses with the input's scale [branches, synapses]; first layer of the
        perceptron, its halves for branches and memory one after the other, and its bias; further hidden layers, each
        with its bias; last layer with its bias; what a memory unit keeps and its write gain; read-out; bias of the
        neuron (minus its threshold, where it spikes).
    index : Tensor of int32, shape [neurons, branches * synapses]
        Sources, see :func:`neurons.elm.wiring.connectome`.
    start : tuple of Tensor
        Memory [B, neurons, memory], activities and low-pass filtered read-out [B, neurons], branches
        [B, neurons, branches] before the first step; empty tensors for rest.
    masks : Masks
    derivative : callable, optional
        Derivative of a spike by what it is a spike of.

    Returns
    -------
    tuple of Tensor
        Activities [T, B, neurons], the four states after the last step, and the sums over steps and memory units of
        the absolute values of the perceptron's output [B, neurons].
    """
    tensors = (x, weights, *start)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return tuple(_Run.apply(*tensors, index, population, masks, derivative))
    return _forward(population, tuple(_ready(tensor) for tensor in tensors), index, masks, False)[0]


def _ready(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous()


def _room(numbers: int) -> Tensor:
    return buffers.empty((numbers,), torch.float32)


def _pointer(tensor: Tensor | None) -> int | None:
    return tensor.data_ptr() if tensor is not None and tensor.numel() else None


def _call(library: ctypes.CDLL, name: str, population: Population, shape: torch.Size, **more: Any) -> None:
    p = population
    T, B, F = shape
    blocks = -(-B // library.step_lanes())
    given = {
        "T": T, "B": B, "F": F, "N": p.neurons, "K": p.branches, "S": p.synapses, "M": p.memory, "H": p.hidden,
        "L": p.layers, "activation": ACTIVATIONS.index(p.activation), "output": READOUTS.index(p.readout),
        "high_pass": p.high_pass is not None, "filtered": p.leak is not None, "kappa_r": p.high_pass or 0.0,
        "kappa_b": p.leak or 0.0, "threads": min(torch.get_num_threads(), blocks),
    }  # fmt: skip
    pointers = {key: _pointer(value) if key in POINTERS else value for key, value in more.items()}
    getattr(library, name)(ctypes.byref(_Call(**given, **pointers)))


def _forward(
    population: Population, tensors: tuple[Tensor, ...], index: Tensor, masks: Masks, keep: bool
) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    p, (x, weights, m, a, r, b) = population, tensors
    T, B, _ = x.shape
    library = _fitting(B)
    assert library is not None
    lanes = library.step_lanes()
    blocks, steps = -(-B // lanes), T if keep else 1
    sizes = (p.features, p.neurons, p.memory, p.hidden, p.branches)
    after, step = T + 1 if keep else 1, blocks * p.neurons * lanes
    held = {
        "kept_m": _room(after * step * p.memory),
        "kept_a": _room(after * step),
        "kept_b": _room(after * step * p.branches),
        "kept_p": _room(steps * step * p.layers * p.hidden),
        "kept_z": _room(steps * step * p.memory),
    }
    if keep and p.readout == "spike":
        held["potential"] = x.new_empty(T, B, p.neurons)
    out = x.new_empty(T, B, p.neurons)
    last = (
        x.new_empty(B, p.neurons, p.memory),
        x.new_empty(B, p.neurons),
        x.new_empty(B, p.neurons if p.high_pass is not None else 0),
        x.new_empty(B, p.neurons, p.branches if p.leak is not None else 0),
    )
    effort = x.new_empty(B, p.neurons)
    room = _room(blocks * scratch(*sizes) * lanes)
    _call(
        library, "step_population", p, x.shape, P=weights.shape[1], keep=keep, x=x, weights=weights, index=index,
        start_m=m, start_a=a, start_r=r, start_b=b, mask_x=masks.inputs, mask_a=masks.activities,
        mask_z=masks.updates, out=out, last_m=last[0], last_a=last[1], last_r=last[2], last_b=last[3], effort=effort,
        scratch=room, **held,
    )  # fmt: skip
    return (out, *last, effort), held


class _Run(torch.autograd.Function):
    """Keeps branches, perceptron and memory of every step, in the lanes of the C."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        x: Tensor,
        weights: Tensor,
        m: Tensor,
        a: Tensor,
        r: Tensor,
        b: Tensor,
        index: Tensor,
        population: Population,
        masks: Masks,
        derivative: Callable[[Tensor], Tensor] | None,
    ) -> tuple[Tensor, ...]:
        ready = tuple(_ready(tensor) for tensor in (x, weights, m, a, r, b))
        found, held = _forward(population, ready, index, masks, True)
        ctx.save_for_backward(*ready[:2], index, *held.values())
        ctx.names, ctx.population, ctx.masks, ctx.derivative = tuple(held), population, masks, derivative
        ctx.starts = tuple(tensor.shape for tensor in (m, a, r, b))
        ctx.set_materialize_grads(False)
        return found

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        x, weights, index, *kept = ctx.saved_tensors
        p: Population = ctx.population
        masks: Masks = ctx.masks
        held = dict(zip(ctx.names, kept, strict=True))
        out, m, a, r, b, effort = (None if g is None else g.contiguous() for g in gradients)
        library = _fitting(x.shape[1])
        assert library is not None
        lanes = library.step_lanes()
        blocks = -(-x.shape[1] // lanes)
        potential = held.pop("potential", None)
        slope = None
        if potential is not None:
            assert ctx.derivative is not None
            slope = ctx.derivative(potential).contiguous()
        first, live = _live(index, p, all_of_them=ctx.needs_input_grad[0])
        sums = _room(blocks * weights.numel() * lanes).zero_().view(blocks, *weights.shape, lanes)
        to_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        to = [x.new_empty(shape) if shape.numel() else None for shape in ctx.starts]
        sizes = (p.features, p.neurons, p.memory, p.hidden, p.branches, p.layers)
        room = _room(blocks * back_scratch(*sizes) * lanes)
        _call(
            library, "step_population_backward", p, x.shape, P=weights.shape[1], x=x, weights=weights, index=index,
            first=first, live=live, mask_x=masks.inputs, mask_a=masks.activities, mask_z=masks.updates, back=out,
            back_m=m, back_a=a, back_r=r, back_b=b, back_effort=effort, slope=slope, to_x=to_x, to_m=to[0], to_a=to[1],
            to_r=to[2], to_b=to[3], to_weights=sums, scratch=room, **held,
        )  # fmt: skip
        starts = [
            x.new_zeros(shape) if found is None and need else found
            for found, shape, need in zip(to, ctx.starts, ctx.needs_input_grad[2:6], strict=True)
        ]
        return to_x, sums.sum((0, 3)), *starts, None, None, None, None


def _live(index: Tensor, population: Population, *, all_of_them: bool) -> tuple[Tensor, Tensor]:
    """Return where the synapses of each neuron begin whose source wants a gradient, and number, source and branch."""
    wanted = torch.ones_like(index, dtype=torch.bool) if all_of_them else index >= population.features
    first = torch.zeros(len(index) + 1, dtype=torch.int32)
    first[1:] = wanted.sum(1).cumsum(0)
    place = wanted.nonzero()[:, 1].to(torch.int32)
    return first, torch.stack([place, index[wanted], place // population.synapses], 1)
