"""A neuron of another library as a STEP neuron: the library computes, the state is the caller's."""

from __future__ import annotations

import copy
import inspect
from abc import abstractmethod
from collections.abc import Mapping
from types import MethodType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from neurons.adapters.options import Options, one_line
from neurons.base import Neuron, State
from neurons.errors import ShapeError, StepError


class ForeignNeuron(Neuron):
    """Base of the neurons of other libraries; each of their classes gets a subclass of its own.

    What a module of the other library remembers from step to step is handed in and taken out on every call, so
    that nothing stays behind in it: no reset is needed, and none is called.

    Class attributes
    ----------------
    eager_reason : str
        Why no kernel of ours runs it.
    threshold_option : str
        Which option is the threshold; empty where there is none.

    Parameters
    ----------
    cell : nn.Module
        The module of the other library; its parameters train.
    state : mapping of str to float
        Names and resting values of what it remembers.
    """

    threshold_option: ClassVar[str] = ""

    def __init__(self, cell: nn.Module, state: Mapping[str, float]) -> None:
        super().__init__()
        self.cell = cell
        self.state = dict(state)  # type: ignore[misc]

    @abstractmethod
    def advance(self, x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Run the cell over the time steps of ``x`` [T, B, ...] and leave nothing in it."""

    @property
    def steps(self) -> int | None:
        """The number of time steps that the cell was made for; None where it takes any."""
        return None

    def run(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Run over the time steps of ``x``; see :meth:`neurons.Neuron.run`.

        Raises
        ------
        ShapeError
            For an input that the cell does not take, an output of another shape, or a state for a neuron that
            looks at all time steps at once.
        """
        self._check_input(x)
        if state is not None:
            if not self.streams:
                raise ShapeError(
                    f"{self.name} looks at all its time steps at once and cannot go on from a state; run all at once"
                )
            self._checked(state, x)
        if self.steps not in (None, x.shape[0]):
            raise ShapeError(f"{self.name} was made for T = {self.steps} time steps, not {x.shape[0]}")
        start = self.resting_state(x) if state is None else state
        try:
            y, last = self.advance(x, [start[name] for name in self.state])
        except (StepError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            raise ShapeError(f"{self.name} fails on the input {list(x.shape)}: {one_line(error)}") from error
        if y.shape != x.shape:
            raise ShapeError(
                f"{self.name} turns {list(x.shape)} into {list(y.shape)}; a neuron keeps the shape of its input, "
                "so give it equal sizes for input and output"
            )
        return y.to(x.dtype), dict(zip(self.state, last, strict=True))

    def step(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Advance by one time step."""
        if not self.streams:
            raise ShapeError(f"{self.name} looks at all its time steps at once and has no single one")
        y, last = self.advance(x[None], list(state))
        return y[0], *last

    def cost(self) -> dict[str, float]:
        """Return the operations of one update, counted while the cell runs; see :mod:`neurons.adapters.cost`."""
        from neurons.adapters.cost import counted_cost

        return counted_cost(self)

    @property
    def name(self) -> str:
        """The registered name."""
        return str(getattr(self, "registered_name", type(self).__name__))


def neuron_class(base: type[ForeignNeuron], options: Options, library: str, **attributes: Any) -> type[ForeignNeuron]:
    """Return the subclass of ``base`` for one foreign class: its constructor takes the options of that class."""
    cls = options.cls
    signature = options.signature()

    def __init__(self: ForeignNeuron, /, **given: Any) -> None:
        base.__init__(self, options.build(given))  # type: ignore[call-arg]
        self.to(torch.get_default_device())

    __init__.__signature__ = signature  # type: ignore[attr-defined]
    body = {
        "__init__": __init__,
        "__doc__": f"{cls.__name__} of {library}, run by {library}.",
        "__module__": base.__module__,
        "registered_name": options.neuron,
        "eager_reason": f"it is {library}'s own {cls.__name__}",
        **attributes,
    }
    return type(cls.__name__, (base,), body)


def private(cell: nn.Module) -> Any:
    """Return a copy that shares parameters and submodules, but keeps to itself what it sets on itself."""
    clone = copy.copy(cell)
    vars(clone)["_buffers"] = dict(cell._buffers)
    for name, value in vars(cell).items():
        if inspect.ismethod(value) and isinstance(value.__self__, type(cell)):
            vars(clone)[name] = MethodType(value.__func__, clone)
    return clone
