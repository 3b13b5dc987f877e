"""Residual policies: what travels on the shortcut, and hence where the neurons of a branch stand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from neurons import NeuronFactory

Residual = Literal["spike", "membrane"]
"""``"spike"``: branches end in a neuron, the stream holds sums of spikes (SEW style).
``"membrane"``: branches begin with a neuron, the stream is real-valued."""


def branch(layers: list[Callable[[], nn.Module]], neuron: NeuronFactory, residual: Residual) -> nn.Sequential:
    """Chain layers with a neuron after (spike residual) or before (membrane residual) each of them."""
    modules: list[nn.Module] = []
    for layer in layers:
        modules += [layer(), neuron()] if residual == "spike" else [neuron(), layer()]
    return nn.Sequential(*modules)


class Block(nn.Module):
    """x + attention(x), then x + mlp(x); the branches follow the residual policy."""

    def __init__(self, attention: nn.Module, mlp: nn.Module) -> None:
        super().__init__()
        self.attention = attention
        self.mlp = mlp

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x)
        return x + self.mlp(x)
