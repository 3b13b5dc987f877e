"""Direct encoding: the first layer of the network is the encoder."""

from __future__ import annotations

import torch
from torch import Tensor

from encoders.base import Encoder, Value, encoders


@encoders.register("direct")
class Direct(Encoder):
    """Direct: the value itself at every time step, S_t = x.

    The output is a view of the input, repeated without a copy (stride 0 over time): clone it before writing to
    it. Gradients reach the input.

    Source: "direct" encoding of STEP (https://arxiv.org/abs/2505.11151).
    """

    value: Value = "real"
    repeats = True

    def encode(self, x: Tensor, T: int, generator: torch.Generator | None) -> Tensor:
        return x.unsqueeze(0).expand(T, *x.shape)
