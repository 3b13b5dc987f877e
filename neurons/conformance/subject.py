"""The neuron under test, and inputs that it takes and answers to."""

from __future__ import annotations

import copy
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neurons.base import Neuron, State
from neurons.errors import OptionError
from neurons.loop import run_steps

Way = Callable[[Neuron, Tensor, State | None], tuple[Tensor, State]]

STEPS = 20
BATCH = 3
WIDTH = 7
_ELSEWHERE = (Path(torch.__file__).parent, Path(__file__).parent.parent)
"""Where an error passes by on its way out of a neuron."""
_GAINS = (1.0, 0.3, 3.0, 0.1, 10.0, 0.03, 30.0, 100.0, 1000.0)


def fused(neuron: Neuron, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
    """Run as networks do: on a fused kernel where there is one."""
    return neuron.run(x, state)


def eager(neuron: Neuron, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
    """Run in the loop over ``step``, the reference; a neuron with a ``run`` of its own has no other way."""
    if type(neuron).run is not Neuron.run:
        return neuron.run(x, state)
    start = neuron.resting_state(x) if state is None else state
    output, last = run_steps(neuron.step, x, [start[name] for name in neuron.state])
    return output, dict(zip(neuron.state, last, strict=True))


class Subject:
    """A neuron under test.

    Parameters
    ----------
    maker : Neuron, or callable that returns one
        A neuron is copied before it runs; the given one is left as it is.

    Attributes
    ----------
    neuron : Neuron
        To look at; :meth:`fresh` returns copies to run.
    T : int
        Number of time steps to test with; the only one possible for a neuron that was made for it.
    width : int
        Number of neurons [T, B, width]; that of the parameters of a neuron that has some for each.
    gain : float
        Factor of the input at which the neuron neither sleeps nor fires all the time, as far as there is one.
    error : str
        Why no input was taken; empty when all is well.
    """

    def __init__(self, maker: Neuron | Callable[[], Neuron]) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            made = copy.deepcopy(maker) if isinstance(maker, Neuron) else maker()
        if not isinstance(made, Neuron):
            raise OptionError(f"a neuron derives from neurons.Neuron; this is a {type(made).__name__}")
        self.neuron = made.cpu()
        self.T, self.width, self.gain, self.error = STEPS, WIDTH, 1.0, ""
        self._fit()
        if not self.error:
            self._tune()

    def fresh(self, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Neuron:
        """Return a copy that has not run yet."""
        return copy.deepcopy(self.neuron).to(device=device, dtype=dtype)

    def current(
        self, T: int | None = None, batch: int = BATCH, *, seed: int = 0, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Return a random input [T, batch, width], the same for the same seed; more excitation than inhibition."""
        generator = torch.Generator().manual_seed(seed)
        steps = self.T if self.fixed or T is None else T
        x = torch.randn(steps, batch, self.width, generator=generator, dtype=torch.float64) * 1.5 + 0.5
        return (self.gain * x).to(dtype)

    @property
    def fixed(self) -> bool:
        """Whether the neuron runs for one number of time steps only."""
        return self.T != STEPS

    @property
    def own_run(self) -> bool:
        """Whether the neuron has a ``run`` of its own, which need not repeat ``step``."""
        return type(self.neuron).run is not Neuron.run

    @property
    def ways(self) -> dict[str, Way]:
        """The ways in which the neuron can run."""
        return {"run": eager} if self.own_run else {"run": fused, "the loop over step": eager}

    def _fit(self) -> None:
        """Find a number of steps and of neurons that fits: some neurons are made for one."""
        made_for = getattr(self.neuron, "T", None)
        steps = [STEPS, *_count(made_for)]
        widths = [WIDTH, *_count(getattr(self.neuron, "features", None))]
        widths += [value.shape[-1] for value in self.neuron.parameters() if value.dim() and value.shape[-1] > 1]
        errors = []
        for T in dict.fromkeys(steps):
            for width in dict.fromkeys(widths):
                self.T, self.width = T, width
                try:
                    with torch.no_grad():
                        eager(self.fresh(), self.current())
                    return
                except Exception as error:  # whatever a step that is being written may raise
                    errors.append(error)
        self.error = describe(errors[0])

    def _tune(self) -> None:
        if self.neuron.conventional or self.neuron.output == "real":
            return
        best = (2.0, 1.0)
        for gain in _GAINS:
            self.gain = gain
            with torch.no_grad():
                rate = float((eager(self.fresh(), self.current())[0] != 0).double().mean())
            best = min(best, (abs(rate - 0.35), gain))
            if 0.05 <= rate <= 0.7:
                return
        self.gain = best[1]


def _count(value: object) -> list[int]:
    return [value] if isinstance(value, int) and value > 0 else []


def describe(error: BaseException) -> str:
    """Return an error as one line, with the place in the file that wrote it."""
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not any(Path(frame.filename).is_relative_to(folder) for folder in _ELSEWHERE):
            return f"{text} ({Path(frame.filename).name}, line {frame.lineno})"
    return text


def where(found: Tensor, right: Tensor, near: float = 0.0) -> str:
    """Return where two tensors [T, B, ...] or [B, ...] of the same shape differ first, by more than ``near``."""
    differ = ~found.isclose(right, rtol=near, atol=near, equal_nan=True)
    place = differ.nonzero()[0].tolist()
    names = ("t", "b", "n") if len(place) == 3 else ("b", "n")
    at = ", ".join(f"{name}={i}" for name, i in zip(names, place, strict=False))
    return f"at {at}: {found[tuple(place)].item():.6g} instead of {right[tuple(place)].item():.6g}"


def named(found: tuple[Tensor, Mapping[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """Yield the output and the states of a run with their names."""
    yield "the output", found[0]
    for name, value in found[1].items():
        yield f"the state {name!r}", value


def difference(found: tuple[Tensor, State], right: tuple[Tensor, State], near: float = 0.0) -> str:
    """Return in which part and where two runs differ first; empty when they are equal, or ``near`` to it."""
    for (name, value), (_, reference) in zip(named(found), named(right), strict=True):
        if value.shape != reference.shape:
            return f"{name} has the shape {list(value.shape)} instead of {list(reference.shape)}"
        if not value.isclose(reference, rtol=near, atol=near, equal_nan=True).all():
            return f"{name} differs {where(value, reference, near)}"
    return ""


def detached(found: tuple[Tensor, State]) -> tuple[Tensor, State]:
    """Return a run without its graph, in memory of its own."""
    return found[0].detach().clone(), {name: value.detach().clone() for name, value in found[1].items()}


def plain(value: Any) -> Any:
    """Return a copy of an attribute that can be compared later."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    try:
        return copy.deepcopy(value)
    except Exception:  # what cannot be copied cannot be watched
        return value
