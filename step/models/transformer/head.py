"""The read-out of spiking transformers."""

from __future__ import annotations

from torch import Tensor, nn

from neurons import NeuronFactory


class Head(nn.Module):
    """Mean over tokens, a neuron where the stream is real-valued, then a linear layer: [T, B, N, C] to [T, B, classes].

    Parameters
    ----------
    dim, classes : int
    neuron : NeuronFactory, optional
        Stands between the mean and the linear layer (membrane residual); none when left out.
    """

    def __init__(self, dim: int, classes: int, neuron: NeuronFactory | None = None) -> None:
        super().__init__()
        self.neuron = nn.Identity() if neuron is None else neuron(features=dim)
        self.linear = nn.Linear(dim, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.linear(self.neuron(tokens.mean(dim=2)))
