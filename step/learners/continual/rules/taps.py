"""Presynaptic activity of a layer: a row for every product of its weights, as Hebbian rules and projections see it.

A linear layer sees the rows of its input. A convolution sees patches: every position of its output map is one row, the
padding included, at the stride and in the order of ``weight.flatten(1)``, so that ``weight.flatten(1) @ row`` is the
output there. An input that is one and the same at all time steps is taken once.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Layer: TypeAlias = nn.Linear | nn.Conv2d


def once(x: Tensor) -> Tensor:
    """Return one time step of an input [T, ...] that is the same memory at all of them, else ``x`` itself."""
    return x[:1] if x.dim() > 1 and x.shape[0] > 1 and x.stride(0) == 0 else x


def rows_of(layer: Layer, x: Tensor, count: int | None = None, generator: torch.Generator | None = None) -> Tensor:
    """Return presynaptic rows [R, n] of a layer for its input, n the inputs of one of its neurons.

    Parameters
    ----------
    layer : nn.Linear or nn.Conv2d
    x : Tensor, shape [..., n] or [N, C, H, W]
        Input of the layer, time folded into the batch or not.
    count : int, optional
        Draw so many rows at most, without repetition; all when left out. Of a map only these patches are unfolded.
    generator : torch.Generator, optional
        Source of the draw, on the CPU.
    """
    x = once(x)
    if isinstance(layer, nn.Linear):
        flat = x.reshape(-1, x.shape[-1])
        chosen = _drawn(len(flat), count, generator)
        return flat if chosen is None else flat[chosen.to(flat.device)]
    high, wide = map_size(layer, x)
    return patches_of(layer, x, _drawn(len(x) * high * wide, count, generator))


def map_size(layer: nn.Conv2d, x: Tensor) -> tuple[int, int]:
    """Return height and width of the output of a convolution for maps [N, C, H, W]."""
    left, right, above, below = _around(layer)
    (kernel_h, kernel_w), (stride_h, stride_w), (gap_h, gap_w) = layer.kernel_size, layer.stride, layer.dilation
    high = (x.shape[2] + above + below - gap_h * (kernel_h - 1) - 1) // stride_h + 1
    wide = (x.shape[3] + left + right - gap_w * (kernel_w - 1) - 1) // stride_w + 1
    return high, wide


def patches_of(layer: nn.Conv2d, x: Tensor, chosen: Tensor | None = None) -> Tensor:
    """Return the patches [R, n] of maps [N, C, H, W], or only the chosen ones of them."""
    high, wide = map_size(layer, x)
    x = padded(layer, x)
    if chosen is None:
        patches = F.unfold(x, layer.kernel_size, layer.dilation, 0, layer.stride)  # type: ignore[arg-type]
        return patches.transpose(1, 2).flatten(0, 1)
    (kernel_h, kernel_w), (stride_h, stride_w), (gap_h, gap_w) = layer.kernel_size, layer.stride, layer.dilation
    chosen = chosen.to(x.device)
    sample, place = chosen // (high * wide), chosen % (high * wide)
    down = (place // wide * stride_h)[:, None] + torch.arange(kernel_h, device=x.device) * gap_h
    right = (place % wide * stride_w)[:, None] + torch.arange(kernel_w, device=x.device) * gap_w
    found = x[sample[:, None, None], :, down[:, :, None], right[:, None, :]]  # [R, kh, kw, C]
    return found.permute(0, 3, 1, 2).flatten(1)


def error_rows(layer: Layer, delta: Tensor) -> Tensor:
    """Return the errors of a layer's output as rows [R, outputs], in the order of :func:`rows_of`."""
    if isinstance(layer, nn.Conv2d):
        delta = delta.permute(0, 2, 3, 1)
    return delta.reshape(-1, delta.shape[-1])


def padded(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """Return maps with the padding of a convolution around them."""
    around = _around(layer)
    if not any(around):
        return x
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return F.pad(x, around, mode)


def plain_padding(layer: nn.Conv2d) -> bool:
    """Whether the padding of a convolution is zeros, as many on both sides."""
    return layer.padding_mode == "zeros" and not isinstance(layer.padding, str)


def _around(layer: nn.Conv2d) -> tuple[int, int, int, int]:
    """Return the padding left, right, above and below."""
    if layer.padding == "valid":
        return 0, 0, 0, 0
    if layer.padding == "same":
        down, right = (gap * (size - 1) for gap, size in zip(layer.dilation, layer.kernel_size, strict=True))
        return right // 2, right - right // 2, down // 2, down - down // 2
    down, right = (int(size) for size in layer.padding)
    return right, right, down, down


def _drawn(total: int, count: int | None, generator: torch.Generator | None) -> Tensor | None:
    if count is None or total <= count:
        return None
    return torch.randperm(total, generator=generator)[:count]
