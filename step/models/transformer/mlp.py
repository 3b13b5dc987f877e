"""The token-wise perceptron of spiking transformers."""

from __future__ import annotations

from torch import nn

from neurons import NeuronFactory
from step.models.layers import LinearNorm
from step.models.transformer.residual import Residual, branch


def mlp(dim: int, hidden: int, neuron: NeuronFactory, residual: Residual = "spike") -> nn.Sequential:
    """Two linear layers with norm and neuron: dim to hidden to dim, on tokens [T, B, N, C].

    Spike residual: neuron(norm(W2 neuron(norm(W1 x)))); membrane residual: norm(W2 neuron(norm(W1 neuron(x)))).
    """
    return branch(LinearNorm, [dim, hidden, dim], neuron, residual)
