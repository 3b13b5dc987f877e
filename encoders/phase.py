"""Phase encoding: the bits of the value, one per time step, weighted by their place."""

from __future__ import annotations

import torch
from torch import Tensor

from encoders.base import Encoder, Value, encoders

BITS = 8


@encoders.register("phase")
class Phase(Encoder):
    """Phase: the 8 bits of p = floor(256 x), the most significant first, each times its weight.

    Step t = 1, 2, ... sends bit b = (t - 1) mod 8, counted from the most significant, times 2^-(b + 1), so that
    one period of 8 steps adds up to p / 256. x = 1 is sent as p = 255. With T < 8 only the first T bits are
    sent; with T > 8 the period starts again. No gradient reaches the input.

    Source: "phase" encoding of STEP (https://arxiv.org/abs/2505.11151). The weights are those of its text,
    1/2 for the first bit; its published code starts at 1, twice as large throughout.
    """

    value: Value = "real"

    def encode(self, x: Tensor, T: int, generator: torch.Generator | None) -> Tensor:
        exact = torch.promote_types(x.dtype, torch.float32)
        levels = torch.floor(x.detach().to(exact) * 2**BITS).clamp_(max=2**BITS - 1).to(torch.int64)
        bit = (torch.arange(T, device=x.device) % BITS).view(T, *[1] * x.dim())
        bits = (levels >> (BITS - 1 - bit)) & 1
        return (bits * 0.5 ** (bit + 1).to(exact)).to(x.dtype)
