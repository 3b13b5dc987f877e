"""Plain feed-forward networks: one layer after the other, nothing beside them."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field
from torch import Tensor, nn

from neurons import LeakyIntegrator
from neurons.errors import ShapeError
from step.models.base import Network, NetworkConfig


class FeedForwardConfig(NetworkConfig):
    """What multilayer perceptrons and convolutional networks have in common."""

    image_size: int = Field(28, ge=1)
    channels: int = Field(1, ge=1)
    classes: int = Field(10, ge=2)
    norm: bool = True
    """Batch norm before every neuron."""
    bias: bool = True
    """Bias of the layers that no norm follows (a norm brings its own)."""
    readout_tau: float | None = Field(None, gt=1)
    """Time constant of a leaky integrator behind the linear read-out, in time steps; none when left out. Conventional
    twins, which have no time, have no integrator."""


class FeedForward(Network):
    """Base of networks that are a chain: ``layers`` holds everything, in the order in which it runs."""

    config: FeedForwardConfig
    layers: nn.Sequential

    def readout(self, features: int) -> list[nn.Module]:
        """Return the last layers: linear, and the leaky integrator where one is asked for."""
        c = self.config
        layers: list[nn.Module] = [nn.Linear(features, c.classes, bias=c.bias)]
        if c.readout_tau is not None and not self.neuron.conventional:
            layers.append(LeakyIntegrator(c.readout_tau))
        return layers

    def forward(self, x: Tensor) -> Tensor:
        """Map [T, B, ...] to class scores [T, B, classes]."""
        if x.dim() < 3 or not self.takes(x.shape[2:]):
            c = self.config
            name = getattr(type(self), "registered_name", type(self).__name__)
            raise ShapeError(
                f"this {name} takes [T, B, {c.channels}, {c.image_size}, {c.image_size}], not {list(x.shape)}"
            )
        return self.layers(x)

    def takes(self, shape: Sequence[int]) -> bool:
        """Whether one time step of a sample may have this shape."""
        c = self.config
        return tuple(shape) == (c.channels, c.image_size, c.image_size)
