"""Residual policies: what travels on the shortcut, and hence where the neurons of a branch stand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from neurons import NeuronFactory
from step.models.layers import Spiking

Residual = Literal["spike", "membrane"]
"""``"spike"``: branches end in a neuron, the stream holds sums of spikes (SEW style).
``"membrane"``: branches begin with a neuron, the stream is real-valued."""


def branch(
    layer: Callable[[int, int], nn.Module], widths: Sequence[int], neuron: NeuronFactory, residual: Residual
) -> nn.Sequential:
    """Chain layers on tokens with a neuron after (spike residual) or before (membrane residual) each of them.

    Parameters
    ----------
    layer : callable
        Makes a layer of so many inputs and outputs.
    widths : sequence of int
        Channels before, between and after the layers.
    """
    layers = [layer(inputs, outputs) for inputs, outputs in pairwise(widths)]
    if residual == "spike":
        pairs = zip(layers, widths[1:], strict=True)
        return nn.Sequential(*(Spiking(each, neuron(features=outputs)) for each, outputs in pairs))
    # All but the last are followed by the neuron of the next, so the two may run as one.
    inner = [Spiking(each, neuron(features=outputs)) for each, outputs in zip(layers[:-1], widths[1:-1], strict=True)]
    return nn.Sequential(neuron(features=widths[0]), *inner, layers[-1])


class Block(nn.Module):
    """x + attention(x), then x + mlp(x); the branches follow the residual policy."""

    def __init__(self, attention: nn.Module, mlp: nn.Module) -> None:
        super().__init__()
        self.attention = attention
        self.mlp = mlp

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x)
        return x + self.mlp(x)
