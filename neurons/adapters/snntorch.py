"""Every neuron of snnTorch as a STEP neuron: ``snntorch:Leaky``.

snnTorch (Eshraghian et al., Proc. IEEE 111:1016, 2023) lets the caller hold the state, which is what is done here.
It also keeps a list of all neurons ever made, so that they are never freed and ``snntorch.utils.reset`` finds them:
the neurons made here are taken off that list.

Its own surrogates fire strictly above the threshold; a surrogate of STEP fires at the threshold too.
"""

from __future__ import annotations

import importlib
import inspect
from contextlib import suppress
from functools import cache
from typing import Any

from torch import Tensor, nn

from neurons.adapters.foreign import ForeignNeuron, neuron_class, private
from neurons.adapters.options import Options
from neurons.errors import OptionError, StepError, UnknownNameError, suggest
from neurons.loop import run_steps
from neurons.surrogate import Surrogate

_HIDDEN = ("init_hidden", "output", "device", "dtype")
_REAL = ("alpha", "beta", "V", "R", "C", "time_step", "threshold")
_BASES = ("SpikingNeuron", "LIF")
_AT_ONCE = ("StateLeaky", "LinearLeaky", "LeakyParallel", "AssociativeLeaky")
"""Layers that map all time steps at once."""


@cache
def library() -> Any:
    """Return the package ``snntorch``.

    Raises
    ------
    StepError
        When it is missing.
    """
    try:
        return importlib.import_module("snntorch")
    except ImportError as error:
        raise StepError(f"snnTorch cannot be imported ({error}); run: pip install 'snntorch>=1.0'") from None


def names() -> list[str]:
    """Return the names of snnTorch's neuron classes."""
    return sorted(
        name for name, value in vars(library()).items()
        if isinstance(value, type) and issubclass(value, nn.Module) and name not in _BASES
        and value.__module__.startswith("snntorch._neurons.")
    )  # fmt: skip


@cache
def neuron(name: str) -> type[ForeignNeuron]:
    """Return the STEP class for a neuron class of ``snntorch``."""
    if name not in names():
        raise UnknownNameError(f"snnTorch has no neuron {name!r}{suggest(name, names())}")
    cls = getattr(library(), name)
    options = Options(f"snntorch:{name}", cls, "spike_grad", translated, _HIDDEN, _REAL)
    thresholds = [option for option in ("delta_threshold", "threshold") if option in options.parameters]
    return neuron_class(
        SnnTorchNeuron, options, "snnTorch",
        output="real" if name == "AssociativeLeaky" else "binary",
        streams=name not in _AT_ONCE,
        threshold_option=thresholds[0] if thresholds else "",
    )  # fmt: skip


class SnnTorchNeuron(ForeignNeuron):
    """A neuron of snnTorch.

    Attributes
    ----------
    reads : int
        Which of the values that the cell returns is the output: 0 the spikes, -1 the potential.
    """

    reads = 0

    def __init__(self, cell: Any) -> None:
        _prepare(cell)
        super().__init__(cell, dict.fromkeys(_states(cell), 0.0) if self.streams else {})
        if _graded(cell):
            self.output = "real"  # type: ignore[misc]

    def advance(self, x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        cell = private(self.cell)
        if not self.streams:
            if type(cell).__name__ == "StateLeaky":  # takes [T, B, C] only
                return cell(x.flatten(2))[0].view(x.shape), []
            y = cell(x)
            return (y[0] if isinstance(y, tuple) else y), []
        pair = type(cell).__name__ == "DeltaLeaky"  # takes and returns its two states as one

        def step(x_t: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
            # its own surrogates return float32 whatever they are given
            if pair:
                y, after = cell(x_t, state)
                return y, *(value.to(x.dtype) for value in after)
            values = [value.to(x.dtype) for value in cell(x_t, *state)]
            return values[self.reads], *values[len(values) - len(state) :]

        return run_steps(step, x, state)


def translated(surrogate: Surrogate) -> Any:
    """Return a surrogate for snnTorch, which takes anything callable on the distance from the threshold."""
    return surrogate


def _states(cell: Any) -> list[str]:
    if type(cell).__name__ == "DeltaLeaky":
        return ["mem", "mem_prev"]
    return list(inspect.signature(type(cell).forward).parameters)[2:]  # after self and the input


def _graded(cell: Any) -> bool:
    factor = getattr(cell, "graded_spikes_factor", None)
    return factor is not None and (isinstance(factor, nn.Parameter) or bool((factor != 1).any()))


def _prepare(cell: Any) -> None:
    kind = type(cell).__name__
    with suppress(ValueError):
        library().SpikingNeuron.instances.remove(cell)
    if kind == "RSynaptic" and not cell.reset_delay:
        raise OptionError("snntorch:RSynaptic never resets with reset_delay=False; leave it at True")
    for one, other in (("input_size", "hidden_size"), ("in_channels", "out_channels")):
        sizes = getattr(cell, one, None), getattr(cell, other, None)
        if None not in sizes and sizes[0] != sizes[1]:
            raise OptionError(
                f"snntorch:{kind} must have equal {one} and {other}: a neuron keeps the shape of its input"
            )
    if hasattr(cell, "V") and hasattr(cell, "recurrent"):
        _own_weight(cell)


def _own_weight(cell: Any) -> None:
    """Leave the one weight of a one-to-one recurrence in one place; it stands in two, where a file cannot hold it."""
    weight = cell.V
    del cell.V
    if not isinstance(weight, nn.Parameter):
        del cell.recurrent.V
        cell.recurrent.register_buffer("V", weight)
