"""Every neuron of SpikingJelly 2 as a STEP neuron: ``spikingjelly:LIFNode``.

SpikingJelly (Fang et al., Science Advances 9:eadi1480, 2023) keeps what a node remembers in memories that are
reset by hand. Here they are handed in and taken out on every call.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from neurons.adapters.foreign import ForeignNeuron, neuron_class, private
from neurons.adapters.options import Options
from neurons.errors import OptionError, StepError, UnknownNameError, suggest
from neurons.loop import run_steps
from neurons.surrogate import Surrogate

_HIDDEN = ("step_mode", "store_v_seq", "store_state_seqs", "decode")
_OUTPUTS = {
    "TernaryIFNode": "ternary", "TernaryLIFNode": "ternary", "ILIFNode": "integer",
    **dict.fromkeys(
        ("NonSpikingBaseNode", "NoisyNonSpikingBaseNode", "LIAFNode", "DSRIFNode", "DSRLIFNode", "FewSpikeNode",
         "STBIFNode", "FlexSN"),
        "real",
    ),
}  # fmt: skip
_SURROGATES = {
    "sigmoid": "Sigmoid", "arctan": "ATan", "quadratic-gate": "PiecewiseQuadratic",
    "piecewise-exponential": "PiecewiseExp", "soft-sign": "SoftSign", "super-spike": "SuperSpike", "gaussian": "Erf",
}  # fmt: skip
"""Surrogates that SpikingJelly has kernels for; both sides call their one parameter alpha."""

Drive = Callable[[Any, Tensor, list[Tensor]], tuple[Tensor, list[Tensor]]]


@cache
def library(part: str = "neuron") -> Any:
    """Return a module of ``spikingjelly.activation_based``.

    Raises
    ------
    StepError
        When SpikingJelly is missing or older than 2.0.
    """
    try:
        module = importlib.import_module(f"spikingjelly.activation_based.{part}")
        base = importlib.import_module("spikingjelly.activation_based.base")
    except ImportError as error:
        raise StepError(f"SpikingJelly cannot be imported ({error}); run: pip install 'spikingjelly>=2.0'") from None
    if not hasattr(base.MemoryModule, "materialize_states"):
        raise StepError("this SpikingJelly is older than 2.0; run: pip install 'spikingjelly>=2.0'")
    return module


def names() -> list[str]:
    """Return the names of SpikingJelly's neuron classes."""
    found = vars(library()).items()
    return sorted(
        name for name, value in found
        if isinstance(value, type) and issubclass(value, nn.Module) and not name.startswith("_")
        and "BaseNode" not in name
    )  # fmt: skip


@cache
def neuron(name: str) -> type[ForeignNeuron]:
    """Return the STEP class for a class of ``spikingjelly.activation_based.neuron``."""
    if name not in names():
        raise UnknownNameError(f"SpikingJelly has no neuron {name!r}{suggest(name, names())}")
    cls = getattr(library(), name)
    options = Options(f"spikingjelly:{name}", cls, "surrogate_function", translated, _HIDDEN)
    bases = {base.__name__ for base in cls.__mro__}
    thresholds = [option for option in ("v_threshold", "init_v_threshold") if option in options.parameters]
    return neuron_class(
        SpikingJellyNeuron, options, "SpikingJelly",
        output=next((word for base, word in _OUTPUTS.items() if base in bases), "binary"),
        streams=bool(bases & {"MemoryModule", "NonSpikingBaseNode"})
        and not bases & {"MaskedPSN", "GatedLIFNode", "DSRIFNode", "DSRLIFNode"},
        threshold_option=thresholds[0] if thresholds else "",
    )  # fmt: skip


class SpikingJellyNeuron(ForeignNeuron):
    """A node of SpikingJelly: multi-step where it can be trusted to, else step by step."""

    def __init__(self, cell: Any) -> None:
        _prepare(cell)
        self._drive: Drive
        drive, state = _way(cell) if self.streams else (_sequence, {})
        super().__init__(cell, state)
        self._drive = drive

    @property
    def steps(self) -> int | None:
        """The number of time steps that the node was made for; None where it takes any."""
        steps = getattr(self.cell, "T", None) or getattr(self.cell, "K", None)
        return steps if isinstance(steps, int) else None

    def advance(self, x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        if type(self.cell).__name__ == "STBIFNode" and x.requires_grad and torch.is_grad_enabled():
            raise StepError(f"{self.name} has no gradient: it is for networks converted after training")
        return self._drive(self.cell, x, state)


def translated(surrogate: Surrogate) -> Any:
    """Return SpikingJelly's own surrogate where its kernels know it, else ours in the form of one of its own."""
    theirs = _SURROGATES.get(getattr(surrogate, "registered_name", ""))
    if theirs is not None:
        return getattr(library("surrogate"), theirs)(alpha=float(surrogate.alpha))  # type: ignore[attr-defined]
    return _wrapper()(surrogate)


@cache
def _wrapper() -> type:
    class Wrapped(library("surrogate").SurrogateFunctionBase):  # type: ignore[misc]
        """A surrogate of STEP."""

        def __init__(self, ours: Surrogate) -> None:
            super().__init__(spiking=True)
            self.ours = ours

        def forward(self, u: Tensor) -> Tensor:
            return self.ours(u)

        def extra_repr(self) -> str:
            return repr(self.ours)

    return Wrapped


def _prepare(cell: Any) -> None:
    """Refuse what a STEP neuron cannot be, and undo randomness that no seed of ours reaches."""
    kind = type(cell).__name__
    if kind == "OTTTLIFNode":
        raise OptionError(f"spikingjelly:{kind} hands a trace to layers written for online learning, which STEP lacks")
    if kind.startswith("Noisy") and cell.is_training:
        raise OptionError(
            f"spikingjelly:{kind} draws its noise from a store that its owner must fill; set is_training to False"
        )
    if kind == "GatedLIFNode":  # its gates are drawn by numpy, from this range
        for gate in (cell.alpha, cell.beta, cell.gamma):
            nn.init.uniform_(gate, -0.1, 0.1)


# Ways to run a cell ---------------------------------------------------------------------------------------------------


def _way(cell: Any) -> tuple[Drive, dict[str, float]]:
    """Return how a streaming cell is run, and what it remembers with resting values."""
    base = library("base")
    if not isinstance(cell, base.MemoryModule):
        return _charge, {"v": 0.0}
    if type(cell).__name__ == "SlidingPSN":
        cell.step_mode = "s"
        return _sliding, {f"x{age}": 0.0 for age in range(1, cell.k)}
    cell.step_mode = "m" if _multi_step_is_its_own(type(cell)) else "s"
    memories = dict(base.named_memories(cell))
    if any(not isinstance(value, float) for value in memories.values()):
        one = torch.zeros((1, 1, 1) if cell.step_mode == "m" else (1, 1), device="cpu")
        values = cell.materialize_states((one,), tuple(memories.values()), cell.step_mode)
        memories = dict(zip(memories, (float(value) for value in values), strict=True))
    return _whole if cell.step_mode == "m" else _by_steps, memories


def _multi_step_is_its_own(cls: type) -> bool:
    """Whether a class has a multi-step form that belongs to its single step.

    LIAFNode inherits that of LIFNode, which is another neuron; the form of the base class indexes its input step by
    step, whose backward pass is quadratic in T.
    """
    order = cls.__mro__
    forms = ("single_step_functional_forward", "multi_step_functional_forward")
    single, multi = (next(n for n, base in enumerate(order) if form in vars(base)) for form in forms)
    return multi <= single and order[multi] is not library("base").MemoryModule


def _functional(cell: Any) -> Any:
    base = library("base")
    plain = type(cell).forward is base.MemoryModule.forward
    return base.to_functional_forward(cell, None if plain else cell.forward)


def _whole(cell: Any, x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    outputs, after = _functional(cell)((x,), tuple(state))
    return outputs[0], list(after)


def _by_steps(cell: Any, x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    forward = _functional(cell)

    def step(x_t: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        outputs, after = forward((x_t,), state)
        return outputs[0], *after

    return run_steps(step, x, state)


def _sliding(cell: Any, x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Run a sliding PSN, whose queue holds the last inputs, flat and the oldest first."""
    forward, past = _functional(cell), cell.k - 1
    queue = [value.flatten() for value in reversed(state)]
    outputs = []
    for x_t in x.unbind(0):
        (y,), (queue,) = forward((x_t,), (queue,))
        outputs.append(y)
    last = [value.view_as(x[0]) for value in reversed(queue[len(queue) - past :])]
    return torch.stack(outputs), last


def _charge(cell: Any, x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Run a node that does not spike: its own forward pass always starts at 0."""
    cell = private(cell)

    def step(x_t: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        cell.v = v
        cell.neuronal_charge(x_t)
        return cell.v, cell.v

    return run_steps(step, x, state)


def _sequence(cell: Any, x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Run a cell that maps all time steps at once, from rest."""
    kind = type(cell).__name__
    cell = private(cell)
    cell.step_mode = "m"
    if isinstance(cell, library("base").MemoryModule):
        run = partial(_rested, cell)
        return (_gated(cell, x, run) if kind == "GatedLIFNode" else run(x)), []
    y = cell(x.clone() if "ILC" in kind else x)  # inter-layer connections write into their input
    return (torch.stack(y) if isinstance(y, list) else y), []


def _rested(cell: Any, x: Tensor) -> Tensor:
    outputs, _ = _functional(cell)((x,), tuple(library("base").extract_memories(cell)))
    return outputs[0]  # type: ignore[no-any-return]


def _gated(cell: Any, x: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
    """Run a gated LIF, which takes maps [T, B, C, H, W] only."""
    shape = (*x.shape[:2], -1, 1, 1) if cell.alpha.dim() == 0 or x.dim() < 3 else (*x.shape[:3], 1, -1)
    return run(x.reshape(shape)).reshape(x.shape)
