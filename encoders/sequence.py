"""Sequences that are network input as they are."""

from __future__ import annotations

import torch
from torch import Tensor

from encoders.base import Encoder, Value, encoders
from neurons.errors import ShapeError


@encoders.register("sequence")
class Sequence(Encoder):
    """Sequence: the samples are sequences already; step t of a sample is its input at time step t.

    The number of time steps is that of the data. Values may be any finite numbers: spikes, counts, signed spikes or
    measurements.
    """

    value: Value = "real"
    own_steps = True
    bounded = False

    def encode(self, x: Tensor, T: int, generator: torch.Generator | None) -> Tensor:
        if x.dim() < 3 or x.shape[1] != T:
            raise ShapeError(f"Sequence takes sequences [B, T, ...] of T = {T} steps, not {list(x.shape)}")
        return x.transpose(0, 1)
