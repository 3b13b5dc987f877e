"""What the input of a layer of ELM neurons must be."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from neurons.compiler.operator import unseen
from neurons.errors import DataError, ShapeError


def check_input(name: str, x: Tensor, features: int, axis: int) -> None:
    """Refuse an input [T, B, ...] of other channels, or one that is not finite.

    Raises
    ------
    ShapeError
        When the axis of the channels, counted from the last, is not there or has another size than ``features``.
    DataError
        For NaN or infinity; not looked for where a dispatch mode or a tracer looks on.
    """
    if x.dim() < 2 - axis or x.shape[axis] != features:
        raise ShapeError(
            f"{name} was made for {features} channels on axis {axis}, not for {list(x.shape)}; "
            "set its options features and axis"
        )
    # One pass over the input and no mask in memory; a sum that overflows is looked at again.
    if unseen(x) and not math.isfinite(float(x.detach().sum())) and not bool(torch.isfinite(x).all()):
        step = int((~torch.isfinite(x)).flatten(1).any(1).nonzero()[0])
        raise DataError(f"the input of {name} holds NaN or infinity, first at time step {step}")
