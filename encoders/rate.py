"""Rate encoding: the value is the probability of a spike."""

from __future__ import annotations

import torch
from torch import Tensor

from encoders.base import Encoder, Value, encoders


@encoders.register("rate")
class Rate(Encoder):
    """Rate: independent spikes with probability x at every time step, S_t ~ Bernoulli(x).

    0 never spikes and 1 always does. Over T steps the mean rate of a value has the standard deviation
    sqrt(x(1 - x) / T). No gradient reaches the input.

    Source: "rate" encoding of STEP (https://arxiv.org/abs/2505.11151).
    """

    value: Value = "binary"
    random = True

    def encode(self, x: Tensor, T: int, generator: torch.Generator | None) -> Tensor:
        # Uniform numbers of half precision are too coarse: small probabilities would come out wrong.
        draw = torch.promote_types(x.dtype, torch.float32)
        uniform = torch.rand(T, *x.shape, generator=generator, device=x.device, dtype=draw)
        return (uniform < x).to(x.dtype)
