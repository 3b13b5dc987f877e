"""Layers one after the other and a read-out, and cells that run all time steps at once."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

from torch import Tensor, nn

from neurons import NeuronFactory, State
from neurons.compiler.operator import direct
from neurons.lengths import at_last_step
from neurons.loop import run_steps
from neurons.plain import is_plain
from step.models.sequence.base import Cell, SequenceNetwork
from step.models.sequence.budget import BudgetConfig, fitted


class Stacked(SequenceNetwork):
    """Base of networks that are a chain of layers with a read-out that knows no time.

    Set ``layers``, [T, B, features] to [T, B, width], and ``readout``.
    """

    config: BudgetConfig
    layers: nn.Module
    readout: nn.Module

    def __init__(self, config: BudgetConfig, neuron: NeuronFactory) -> None:
        super().__init__(fitted(type(self), config, neuron), neuron)

    def forward(self, x: Tensor) -> Tensor:
        """Map [T, B, ...] to outputs [T, B, classes]."""
        return self.readout(self.layers(self.inputs(x)))  # type: ignore[no-any-return]

    def last(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the outputs at the last step of every sample, [1, B, classes]; read out there only."""
        return self.readout(at_last_step(self.layers(self.inputs(x)), lengths))  # type: ignore[no-any-return]


class AtOnce(Cell):
    """A cell with a form for all time steps at once, beside ``step``, which is its reference.

    The reference runs where dispatch modes, transforms or a profiler look on, and under ``neurons.plain.plain()``:
    its cost is that of a network that gets one time step after the other.
    """

    @abstractmethod
    def at_once(self, x: Tensor, state: State | None, *, keep: bool) -> tuple[Tensor, State]:
        """Run over the time steps of ``x`` from ``state`` (rest for None); without ``keep`` the state may be empty."""

    def prepared_step(self) -> Callable[..., tuple[Tensor, ...]]:
        """Return ``step`` with what does not change from step to step worked out."""
        return self.step  # type: ignore[return-value]

    def forward(self, x: Tensor) -> Tensor:
        return self._run(x, None, keep=False)[0]

    def run(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        return self._run(x, state, keep=True)

    def _run(self, x: Tensor, state: State | None, *, keep: bool) -> tuple[Tensor, State]:
        self._check_input(x)
        if state is not None:
            self._checked(state, x)
        if direct(x) and not is_plain():
            return self.at_once(x, state, keep=keep)
        start = self.resting_state(x) if state is None else state
        output, last = run_steps(self.prepared_step(), x, [start[name] for name in self.state])
        return output, dict(zip(self.state, last, strict=True))
