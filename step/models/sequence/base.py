"""What networks for sequences have in common: inputs of any shape, and recurrent layers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from neurons import Neuron, State
from neurons.errors import ShapeError
from step.models.base import Network, NetworkConfig


class SequenceConfig(NetworkConfig):
    """What the data decide."""

    channels: int = Field(1, ge=1)
    image_size: int = Field(1, ge=1)
    """Side of an image that is shown at every time step; 1 for sequences of numbers."""
    classes: int = Field(10, ge=1)
    """Number of outputs."""
    input_dropout: float = Field(0.0, ge=0, lt=1)
    """Probability with which a number that comes in is dropped in training; what stays is divided by 1 - p."""

    @property
    def features(self) -> int:
        """Numbers that come in at a time step."""
        return self.channels * self.image_size**2


class SequenceNetwork(Network):
    """Base of networks for sequences: [T, B, ...] to [T, B, classes], every output from this step and those before."""

    takes_neuron: ClassVar[bool] = False
    config: SequenceConfig

    def inputs(self, x: Tensor) -> Tensor:
        """Return the input [T, B, ...] as [T, B, features], in training with dropout, drawn for every number of a step.

        Raises
        ------
        ShapeError
            When a step has another number of features.
        """
        features = self.config.features
        if x.dim() < 3 or math.prod(x.shape[2:]) != features:
            name = getattr(type(self), "registered_name", type(self).__name__)
            raise ShapeError(f"this {name} takes [T, B, {features}], not {list(x.shape)}")
        x = x.flatten(2)
        p = self.config.input_dropout
        return F.dropout(x, p) if p and self.training else x


class Cell(Neuron):
    """A recurrent layer with a width of its own: [T, B, inputs] to [T, B, outputs]; its states are [B, size].

    Write ``step(x, *state) -> (output, *state)`` in plain torch, and override ``run`` where there is a fused kernel.

    Parameters
    ----------
    inputs : int
        Numbers that come in at a time step.
    sizes : mapping of str to int
        Numbers of each state.
    """

    conventional: ClassVar[bool] = False
    output = "real"
    counted_inside: ClassVar[bool] = True
    is_layer = True
    eager_reason = "its step mixes channels by matrix products"

    def __init__(self, inputs: int, sizes: Mapping[str, int]) -> None:
        super().__init__()
        self.inputs = inputs
        self.sizes = dict(sizes)
        self.state = dict.fromkeys(sizes, 0.0)  # type: ignore[misc]

    def resting_state(self, x: Tensor) -> State:
        """Return zeros [B, size] for every state."""
        return {name: x.new_zeros(x.shape[1], size) for name, size in self.sizes.items()}

    def _check_input(self, x: Tensor) -> None:
        super()._check_input(x)
        if x.dim() != 3 or x.shape[2] != self.inputs:
            raise ShapeError(f"this {type(self).__name__} takes [T, B, {self.inputs}], not {list(x.shape)}")

    def _checked(self, state: State, x: Tensor) -> None:
        if set(state) != set(self.sizes):
            raise ShapeError(f"{type(self).__name__} has the state {sorted(self.sizes)}, not {sorted(state)}")
        for name, value in state.items():
            right = [x.shape[1], self.sizes[name]]
            if list(value.shape) != right:
                raise ShapeError(
                    f"state {name!r} of {type(self).__name__} must have the shape {right}, not {list(value.shape)}"
                )
