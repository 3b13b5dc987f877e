"""Sequences of different lengths in one batch: what they must satisfy, and what stands at their last steps."""

from __future__ import annotations

import torch
from torch import Tensor

from neurons.errors import ShapeError


def check_lengths(lengths: Tensor | None, count: int, steps: int) -> None:
    """Make sure that there is a length for each of ``count`` sequences of at most ``steps`` steps, or none at all.

    Raises
    ------
    ShapeError
        When the lengths are not ``count`` whole numbers from 1 to ``steps``.
    """
    if lengths is None or lengths.numel() == count == 0:
        return
    if lengths.shape != (count,) or lengths.is_floating_point() or not 1 <= lengths.min() <= lengths.max() <= steps:
        found = f" from {lengths.min().item():g} to {lengths.max().item():g}" if lengths.numel() else ""
        raise ShapeError(
            f"lengths must be {count} whole numbers from 1 to {steps}, one for each sequence, "
            f"not {lengths.dtype} {list(lengths.shape)}{found}"
        )


def at_last_step(values: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Return what [T, B, ...] holds at the last step of every sequence, [1, B, ...].

    Parameters
    ----------
    values : Tensor, shape [T, B, ...]
    lengths : Tensor of int64, shape [B], optional
        Steps of each sequence; T for all when left out.

    Raises
    ------
    ShapeError
        When there is not one length from 1 to T for each sequence.
    """
    if lengths is None:
        return values[-1:]
    steps, count = values.shape[:2]
    check_lengths(lengths, count, steps)
    return values[lengths - 1, torch.arange(count, device=values.device)].unsqueeze(0)
