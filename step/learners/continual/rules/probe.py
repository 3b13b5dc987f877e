"""What reaches a layer: the input of the network alone, or what neurons sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from neurons import Neuron, neurons_in
from step.learners.continual.rules.product import instrumented
from step.learners.continual.rules.taps import Layer
from step.models import Network


@dataclass(frozen=True)
class Place:
    """Where a layer stands in a network.

    Attributes
    ----------
    static : bool
        No neuron stands before it: a constant input of the network is constant there too.
    rows : int
        Rows (of a linear layer) or maps (of a convolution) that it sees for one sample and time step.
    neuron : str or None
        Path of the neuron that runs next, to whose current the layer adds; None behind the last one.
    """

    static: bool
    rows: int
    neuron: str | None = None


def probe(network: Network, layers: Mapping[str, Layer], x: Tensor) -> dict[str, Place]:
    """Return the places of the layers that an input [T, B, ...] reaches.

    One sample of zeros runs through a copy of the network in evaluation mode whose neurons answer not-a-number, which
    spreads to all that comes after them.
    """
    found: dict[str, Place] = {}
    waiting: list[str] = []

    def call(path: str, layer: Layer, given: Tensor) -> Tensor:
        found[path] = Place(bool(given.isfinite().all()), rows(layer, given))
        waiting.append(path)
        return layer.forward(given)

    def unknown(path: str, neuron: Neuron, given: Tensor) -> Tensor:
        found.update({layer: replace(found[layer], neuron=path) for layer in waiting})
        waiting.clear()
        # The shape of the answer is asked for at finite input: a cell may have a width of its own.
        return torch.full_like(type(neuron).forward(neuron, given.nan_to_num()), torch.nan)

    copy = instrumented(network, layers, call).eval()
    for path, neuron in neurons_in(copy):
        neuron.forward = partial(unknown, path, neuron)  # type: ignore[method-assign]
    with torch.no_grad():
        copy(torch.zeros_like(x[:1, :1]))
    return found


def rows(layer: Layer, x: Tensor) -> int:
    """Return how many rows or maps an input of a layer holds."""
    return x.shape[0] if isinstance(layer, nn.Conv2d) else x.numel() // x.shape[-1]


def named(neuron: Neuron, path: str) -> str:
    """Return the name of a neuron and its place, for messages."""
    return f"{getattr(type(neuron), 'registered_name', type(neuron).__name__)!r} (at {path})"
