"""Multilayer perceptron: linear layers with neurons between them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, ClassVar

from pydantic import Field
from torch import nn

from neurons import NeuronFactory
from step.models.base import models
from step.models.feedforward import FeedForward, FeedForwardConfig
from step.models.layers import LinearNorm


class MLPConfig(FeedForwardConfig):
    """Sizes of a multilayer perceptron.

    ``pmnist`` is the network for permuted digits of Hebbian orthogonal projection (Xiao et al., ICLR 2024): one
    read-out for all tasks, no biases and no norms, 1.275 M weights.
    """

    SIZES: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "pmnist": {"image_size": 28, "channels": 1, "hidden": (800, 800), "norm": False, "bias": False}
    }

    hidden: tuple[Annotated[int, Field(ge=1)], ...] = Field((256,), min_length=1)
    """Neurons of each hidden layer."""


@models.register("mlp")
class MLP(FeedForward):
    """Multilayer perceptron: hidden layers linear - norm - neuron, then a linear read-out; any sample is flattened."""

    Config = MLPConfig
    config: MLPConfig

    def __init__(self, config: MLPConfig, neuron: NeuronFactory) -> None:
        super().__init__(config, neuron)
        c = config
        layers: list[nn.Module] = [nn.Flatten(2)]
        for inputs, outputs in pairwise((c.channels * c.image_size**2, *c.hidden)):
            layers += [LinearNorm(inputs, outputs, norm=c.norm, bias=c.bias and not c.norm), neuron(features=outputs)]
        self.layers = nn.Sequential(*layers, *self.readout(c.hidden[-1]))

    def takes(self, shape: Sequence[int]) -> bool:
        """Whether a sample has as many values as the network has inputs."""
        return math.prod(shape) == self.config.channels * self.config.image_size**2
