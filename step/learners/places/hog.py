"""Histograms of oriented gradients."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from neurons.errors import OptionError

_CLIP = 0.2


def hog(images: Tensor, cell: int = 4, bins: int = 9, block: int = 2) -> Tensor:
    """Return histograms of oriented gradients [B, features] of images [B, C, H, W] (Dalal and Triggs, CVPR 2005).

    As in the paper: gradients by [-1, 0, 1] without smoothing, orientations without sign in ``bins`` over 180 degrees,
    votes by magnitude shared between the two nearest bins, cells of cell x cell pixels, blocks of block x block cells
    that overlap by all but one cell, each scaled by L2-Hys (length 1, clipped at 0.2, length 1 again). Unlike there,
    votes are not shared between cells, colours become grey by their mean, and pixels beyond the last whole cell are
    left out.

    Parameters
    ----------
    images : Tensor, shape [B, C, H, W]
    cell : int
        Side of a cell in pixels.
    bins : int
        Orientations.
    block : int
        Side of a block in cells; fewer where the image has fewer.

    Raises
    ------
    OptionError
        When no cell fits into the images.
    """
    grey = images.mean(dim=1, keepdim=True)
    down, across = (side // cell for side in grey.shape[-2:])
    if not down or not across:
        raise OptionError(f"cell: cells of {cell} x {cell} pixels do not fit into images of {list(grey.shape[-2:])}")
    padded = functional.pad(grey, (1, 1, 1, 1), mode="replicate")
    dx = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
    dy = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    size = (dx * dx + dy * dy).sqrt()
    # from 0 up to bins, measured from the centre of bin 0
    angle = torch.remainder(torch.atan2(dy, dx), math.pi) * (bins / math.pi) - 0.5
    low = angle.floor()
    share = angle - low
    votes = torch.zeros(len(grey), bins, *grey.shape[-2:], dtype=grey.dtype, device=grey.device)
    votes.scatter_add_(1, torch.remainder(low, bins).long(), size * (1 - share))
    votes.scatter_add_(1, torch.remainder(low + 1, bins).long(), size * share)
    cells = functional.avg_pool2d(votes, cell) * cell**2
    tall, wide = min(block, down), min(block, across)
    blocks = cells.unfold(2, tall, 1).unfold(3, wide, 1).permute(0, 2, 3, 1, 4, 5).flatten(3)
    return _scaled(_scaled(blocks).clamp(max=_CLIP)).flatten(1)


def _scaled(blocks: Tensor) -> Tensor:
    return blocks / (blocks.square().sum(-1, keepdim=True) + 1e-6).sqrt()
