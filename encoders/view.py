"""What place recognition looks at: images made small and alike in light."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from encoders.base import Encoder, Value, encoders
from neurons.errors import OptionError, ShapeError

GREY = 127.5 / 255.0
"""The middle of the range, to which ``gamma`` brings the mean of an image."""


@encoders.register("view")
class View(Encoder):
    """A small, normalised view of an image, repeated at every time step: pick or resize, gamma, patch normalisation.

    In this order:

    - ``pick``: of each pick x pick block of pixels, the one in row and column ceil(pick / 2) - 1, counted from 0 (LENS,
      Hines et al. 2025, does so on its chip);
    - ``size``: to size x size pixels, the mean of what each covers where it becomes smaller, bilinear where larger;
    - ``gamma``: p^g with g = ln(127.5) / ln(mean), p and mean in 0..255, so that the mean of the image goes to the
      middle, then clipped (VPRTempo, Hines et al. 2024; g = 1 where the mean is at most 1);
    - ``window``: (p - mean) / s.d. over a sliding window, border missing, 0 / 0 = 0, clipped to [-1, 1] and mapped to
      [0, 1], so that mid-grey is the average (Hussaini et al. 2022).

    Colours become grey by their mean.

    Parameters
    ----------
    size, pick, window : int, optional
        Nothing of the kind when left out; ``window`` is odd.
    gamma : bool
    """

    repeats = True
    resizes = True
    value: Value = "real"

    def __init__(
        self, size: int | None = None, pick: int | None = None, gamma: bool = False, window: int | None = None
    ) -> None:
        for name, given, least in (("size", size, 1), ("pick", pick, 2), ("window", window, 3)):
            if given is not None and given < least:
                raise OptionError(f"{name} must be at least {least}, not {given}")
        if window is not None and window % 2 == 0:
            raise OptionError(f"window must be odd, so that a pixel is in its middle, not {window}")
        self.size, self.pick, self.gamma, self.window = size, pick, gamma, window

    def encode(self, x: Tensor, T: int, generator: torch.Generator | None) -> Tensor:
        if x.dim() != 4:
            raise ShapeError(f"view takes images [B, C, H, W], not {list(x.shape)}")
        view = x.mean(dim=1, keepdim=True)
        if self.pick is not None:
            if min(view.shape[-2:]) < self.pick:
                raise OptionError(f"pick: blocks of {self.pick} pixels do not fit into images of {list(x.shape[-2:])}")
            start = math.ceil(self.pick / 2) - 1
            view = view[..., start :: self.pick, start :: self.pick]
        if self.size is not None:
            view = resized(view, self.size)
        if self.gamma:
            view = brightened(view)
        if self.window is not None:
            view = patch_normalised(view, self.window)
        return view.contiguous().unsqueeze(0).expand(T, *view.shape)


def resized(x: Tensor, size: int) -> Tensor:
    """Return images [B, C, H, W] at size x size: means over areas where smaller, bilinear where larger."""
    mode: Literal["area", "bilinear"] = "area" if min(x.shape[-2:]) >= size else "bilinear"
    return functional.interpolate(x, (size, size), mode=mode)


def brightened(x: Tensor) -> Tensor:
    """Return images [B, C, H, W] in [0, 1], each with the gamma that brings its mean to the middle of the range."""
    raw = x * 255.0
    mean = raw.mean(dim=(1, 2, 3), keepdim=True)
    power = torch.where(mean > 1.0, math.log(127.5) / mean.clamp(min=1.0 + 1e-6).log(), torch.ones_like(mean))
    return (raw.pow(power) / 255.0).clamp(0.0, 1.0)


def patch_normalised(x: Tensor, window: int) -> Tensor:
    """Return images [B, C, H, W] with each pixel measured by its surroundings, mapped from [-1, 1] to [0, 1]."""
    half = window // 2
    exact = x.to(torch.float64)
    count = functional.avg_pool2d(torch.ones_like(exact[:1, :1]), window, 1, half, divisor_override=1)
    total = functional.avg_pool2d(exact, window, 1, half, divisor_override=1)
    squares = functional.avg_pool2d(exact * exact, window, 1, half, divisor_override=1)
    mean = total / count
    deviation = (squares / count - mean * mean).clamp(min=0.0).sqrt()
    # below this the window is even, up to rounding
    flat = deviation < 1e-6
    normal = torch.where(flat, torch.zeros_like(exact), (exact - mean) / deviation.clamp(min=1e-6))
    return ((normal.clamp(-1.0, 1.0) + 1.0) / 2.0).to(x.dtype)
