"""Latency encoding: the larger the value, the earlier its one spike."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from encoders.base import Encoder, Value, encoders
from neurons.errors import OptionError

Amplitude = Literal["inverse", "one"]


@encoders.register("latency")
class Latency(Encoder):
    """Latency (time to first spike): one spike at step t* = 1 + floor((1 - x) T); 0 never spikes.

    Steps count from 1, so that 1 spikes at the first step and values in (0, 1/T] at the last. No gradient
    reaches the input.

    Parameters
    ----------
    amplitude : {"inverse", "one"}
        Height of the spike: 1/t*, which repeats in the height what the time already says and makes the output
        real-valued, or 1, which makes it binary.

    Source: "TTFS" encoding of STEP, with amplitude 1/t* (https://arxiv.org/abs/2505.11151).
    """

    def __init__(self, *, amplitude: Amplitude = "inverse") -> None:
        if amplitude not in get_args(Amplitude):
            raise OptionError(f"amplitude is 'inverse' or 'one', not {amplitude!r}")
        self.amplitude = amplitude

    @property
    def value(self) -> Value:
        return "real" if self.amplitude == "inverse" else "binary"

    def encode(self, x: Tensor, T: int, generator: torch.Generator | None) -> Tensor:
        # T + 1 - ceil(xT) is the same number, and keeps small values: 1 - x would round them away.
        exact = torch.promote_types(x.dtype, torch.float32)
        first = T + 1 - torch.ceil(x.detach().to(exact) * T)
        steps = torch.arange(1, T + 1, device=x.device, dtype=exact).view(T, *[1] * x.dim())
        spikes = (first == steps).to(exact)
        return (spikes / steps if self.amplitude == "inverse" else spikes).to(x.dtype)
