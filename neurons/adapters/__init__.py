"""Neurons of other libraries, STEP neurons run by other libraries, and the exchange format that they share.

``spikingjelly:LIFNode`` and ``snntorch:Leaky`` name any neuron class of those libraries wherever a neuron is named;
``backend: spikingjelly`` runs a neuron of our own there. Both are imported when they are first used.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch

from neurons.base import Neuron
from neurons.errors import OptionError, UnknownNameError

NATIVE = "native"
LIBRARIES = {
    "spikingjelly": "any neuron class of SpikingJelly with its own options, for example spikingjelly:LIFNode",
    "snntorch": "any neuron class of snnTorch with its own options, for example snntorch:Leaky",
}


def neuron_class(name: str) -> type[Neuron]:
    """Return the class behind ``library:Class``.

    Raises
    ------
    UnknownNameError
        When there is no such library or class.
    StepError
        When the library is not installed.
    """
    library, _, cls = name.partition(":")
    if library not in LIBRARIES:
        known = " or ".join(LIBRARIES)
        raise UnknownNameError(f"unknown neuron {name!r}: before the colon stands {known}")
    return _adapter(library).neuron(cls)  # type: ignore[no-any-return]


def _adapter(library: str) -> Any:
    return importlib.import_module(f"neurons.adapters.{library}")


def backends(name: str) -> list[str]:
    """Return the libraries that have the STEP neuron ``name`` too."""
    from neurons.adapters.equivalents import EQUIVALENTS

    return [library for library, table in EQUIVALENTS.items() if name in table]


def ported(name: str, backend: str, make: Callable[[], Neuron]) -> Neuron:
    """Return a STEP neuron as another library computes it.

    The initial values of its parameters are those of the native one, and torch's random numbers go on as if the native
    one had been made: a network with one seed starts from the same weights on every backend.

    Parameters
    ----------
    name : str
        Registered name.
    backend : str
        Name of the library.
    make : callable
        Makes the native neuron.

    Raises
    ------
    OptionError
        When the other library cannot do it with these options; the message says what it can do.
    """
    from neurons.adapters.equivalents import EQUIVALENTS
    from neurons.adapters.port import PortedToSnnTorch, PortedToSpikingJelly

    if backend not in backends(name):
        raise OptionError(no_backend(name, backend))
    cls = {"spikingjelly": PortedToSpikingJelly, "snntorch": PortedToSnnTorch}[backend]
    with torch.device("cpu"):
        native = make()
        with torch.random.fork_rng(devices=[]):
            equivalent = EQUIVALENTS[backend][name](native)
            foreign = _adapter(backend).neuron(equivalent.cls)(**equivalent.options)
            neuron: Neuron = cls(native, equivalent, foreign, backend)
    return neuron.to(torch.get_default_device())


def no_backend(name: str, backend: str = "") -> str:
    """Return the message that a neuron does not run on a backend."""
    able = ", ".join([NATIVE, *backends(name)])
    return f"neuron {name!r} has no backend{f' {backend!r}' if backend else ''}; it runs on: {able}"
