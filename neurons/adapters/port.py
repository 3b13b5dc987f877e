"""A STEP neuron computed by another library: ``backend: spikingjelly``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from neurons.adapters.foreign import ForeignNeuron
from neurons.adapters.snntorch import SnnTorchNeuron
from neurons.adapters.spikingjelly import SpikingJellyNeuron
from neurons.base import Neuron, State
from neurons.cost import update_cost


@dataclass(frozen=True)
class Equivalent:
    """How one STEP neuron, with its options, is said in another library.

    Parameters
    ----------
    cls : str
        Class of the other library.
    options : mapping
        Options of that class, as in ``spikingjelly:LIFNode``.
    state : mapping of str to str
        Our name of a state variable to the other library's; all of them.
    parameters : mapping of str to str
        Our name of a learned parameter to the other library's. Their gradients are equal.
    gain : float
        Factor on the input.
    adjust : callable, optional
        Sets on the module what its constructor does not take.
    potential_out : bool
        Whether the output is the potential instead of the spikes.
    """

    cls: str
    options: Mapping[str, Any]
    state: Mapping[str, str]
    parameters: Mapping[str, str] = field(default_factory=dict)
    gain: float = 1.0
    adjust: Callable[[Any], None] | None = None
    potential_out: bool = False


class Ported(ForeignNeuron):
    """A STEP neuron that a module of another library computes.

    It counts as the STEP neuron: same name, output, states, starting point and operations of an update. The states
    have our names and mean what they mean in the other library, where snnTorch's potential may be that before the
    reset; so a state is carried on by the backend that made it.
    """

    def __init__(self, native: Neuron, equivalent: Equivalent, foreign: ForeignNeuron, backend: str) -> None:
        self.streams = native.streams  # type: ignore[misc]
        cell = foreign.cell
        super().__init__(cell)  # type: ignore[call-arg]
        if equivalent.adjust is not None:
            equivalent.adjust(cell)
        with torch.no_grad():
            for ours, theirs in equivalent.parameters.items():
                cell.get_parameter(theirs).copy_(value_of(native, ours))
        self.backend = backend
        self.registered_name = native.registered_name
        self.eager_reason = f"it runs on {backend}"  # type: ignore[misc]
        self.output = native.output  # type: ignore[misc]
        self.gain = equivalent.gain
        self.reads = -1 if equivalent.potential_out else 0
        self._cost = update_cost(native)
        self._inside = list(self.state)
        self._ours = {theirs: ours for ours, theirs in equivalent.state.items()}
        self.state = dict(native.state)  # type: ignore[misc]

    def run(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Run over the time steps of ``x``; see :meth:`neurons.Neuron.run`."""
        return super().run(x if self.gain == 1.0 else x * self.gain, state)

    def advance(self, x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        given = dict(zip(self.state, state, strict=True))
        # the library's class stands behind this one in the order of the bases
        y, last = super().advance(x, [given[self._ours[name]] for name in self._inside])  # type: ignore[safe-super]
        found = {self._ours[name]: value for name, value in zip(self._inside, last, strict=True)}
        return y, [found[name] for name in self.state]

    def cost(self) -> dict[str, float]:
        """Return the operations of one update, which are those of the native neuron."""
        return dict(self._cost)

    def extra_repr(self) -> str:
        return f"backend={self.backend!r}"


class PortedToSpikingJelly(Ported, SpikingJellyNeuron):
    """A STEP neuron that a node of SpikingJelly computes."""


class PortedToSnnTorch(Ported, SnnTorchNeuron):
    """A STEP neuron that a neuron of snnTorch computes."""


def value_of(native: Neuron, name: str) -> Tensor:
    """Return a parameter by its name; of a list of scalars (``weights`` of sliding-psn) all of them."""
    value = getattr(native, name)
    return torch.stack(list(value)) if isinstance(value, nn.ParameterList) else value
