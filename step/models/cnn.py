"""Convolutional network: convolutions with neurons between them, pooling, and a linear read-out."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator
from torch import nn

from neurons import NeuronFactory
from step.models.base import models
from step.models.feedforward import FeedForward, FeedForwardConfig
from step.models.layers import ConvNorm, Folded


class CNNConfig(FeedForwardConfig):
    """Sizes of a convolutional network.

    ``cifar-hlop`` is the network for CIFAR-100 in ten tasks of Hebbian orthogonal projection (Xiao et al., ICLR 2024):
    0.37 M weights in its convolutions, 41 k in the ten rows of the read-out of each task.
    """

    SIZES: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cifar-hlop": {"image_size": 32, "channels": 3, "widths": (64, 128, 256), "classes": 100}
    }

    widths: tuple[Annotated[int, Field(ge=1)], ...] = Field((32, 64), min_length=1)
    """Channels of each stage."""
    kernel: int = Field(3, ge=1)
    """Side of all kernels, an odd number, so that a convolution keeps the size of its map."""
    pool: Literal["average", "max", "none"] = "average"
    """What halves the map, 2x2, after the neuron of each stage. Spikes stay spikes behind a maximum; NIR knows the
    average only."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, not {self.kernel}")
        if self.pool != "none" and self.image_size < 2 ** len(self.widths):
            raise ValueError(
                f"an image of {self.image_size} pixels cannot be halved by {len(self.widths)} stages; "
                "use fewer widths or pool: none"
            )
        return self

    @property
    def map_size(self) -> int:
        """Side of the map that the read-out sees."""
        return self.image_size if self.pool == "none" else self.image_size // 2 ** len(self.widths)


@models.register("cnn")
class CNN(FeedForward):
    """Convolutional network: stages convolution - norm - neuron - 2x2 pooling, then a linear read-out."""

    Config = CNNConfig
    config: CNNConfig

    def __init__(self, config: CNNConfig, neuron: NeuronFactory) -> None:
        super().__init__(config, neuron)
        c = config
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise((c.channels, *c.widths)):
            layers.append(ConvNorm(inputs, outputs, c.kernel, norm=c.norm, bias=c.bias and not c.norm))
            layers.append(neuron(features=outputs, axis=-3))
            if c.pool != "none":
                layers.append(Folded(nn.AvgPool2d(2) if c.pool == "average" else nn.MaxPool2d(2)))
        self.layers = nn.Sequential(*layers, nn.Flatten(2), *self.readout(c.widths[-1] * c.map_size**2))
