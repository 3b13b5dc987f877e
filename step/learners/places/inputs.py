"""What learners of places do with views before they learn: rows of pixels, and what is said where they do not fit."""

from __future__ import annotations

import torch
from torch import Tensor

from neurons.errors import DataError, ShapeError


def rows_of_references(references: Tensor) -> Tensor:
    """Return references [R, P, C, H, W] as rows [R, P, inputs] of float32.

    Raises
    ------
    ShapeError
        When they are not of that shape, or there is no place.
    """
    if references.dim() != 5 or 0 in references.shape:
        raise ShapeError(f"references are views [traverses, places, C, H, W], not {list(references.shape)}")
    return references.flatten(2).to(torch.float32)


def rows_of_queries(queries: Tensor, inputs: int) -> Tensor:
    """Return queries [B, C, H, W] as rows [B, inputs] of float32.

    Raises
    ------
    ShapeError
        When they are not of that shape or have other sizes than the references.
    """
    if queries.dim() != 4 or queries[:1].numel() != inputs:
        raise ShapeError(
            f"queries are views [B, C, H, W] of {inputs} pixels, as the references were, not {list(queries.shape)}"
        )
    return queries.flatten(1).to(torch.float32)


def joined(known: Tensor, more: Tensor) -> Tensor:
    """Return references [R, P, ...] with further places behind them.

    Raises
    ------
    ShapeError
        When numbers of traverses or sizes differ.
    """
    if len(known) != len(more) or known.shape[2:] != more.shape[2:]:
        raise ShapeError(
            f"further places need as many traverses and pixels as the map has, {[len(known), *known.shape[2:]]}, "
            f"not {[len(more), *more.shape[2:]]}"
        )
    return torch.cat([known, more], dim=1)


def unit(x: Tensor) -> Tensor:
    """Return rows of length 1; those of length 0 stay."""
    return x / x.square().sum(-1, keepdim=True).sqrt().clamp(min=1e-12)


def centred(x: Tensor) -> Tensor:
    """Return rows with mean 0."""
    return x - x.mean(dim=-1, keepdim=True)


def need_map(known: bool, name: str) -> None:
    """Raise a DataError where nothing was mapped yet."""
    if not known:
        raise DataError(f"{name} knows no places yet: map some, or load a map")
