"""How many weights a convolution input meets: taps, in exact integers, one dimension at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor


@dataclass(frozen=True)
class Geometry:
    """Sizes of a convolution of any dimension.

    Parameters
    ----------
    size, out : tuple of int
        Spatial sizes of input and output.
    kernel, stride, padding, dilation : tuple of int
    outputs : int
        Output channels that one input channel reaches: C_out / groups.
    transposed : bool
    """

    size: tuple[int, ...]
    out: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    outputs: int
    transposed: bool = False

    @property
    def nominal_fan_out(self) -> float:
        """Mean operations of one input when positions on the padding are counted too."""
        positions = self.size if self.transposed else self.out
        return math.prod(positions) * math.prod(self.kernel) * self.outputs / math.prod(self.size)

    @property
    def stride_fan_out(self) -> int:
        """C_out prod ceil(k / stride): the largest number of outputs that one input can reach (undilated)."""
        strides = (1,) * len(self.kernel) if self.transposed else self.stride
        return self.outputs * math.prod(math.ceil(k / s) for k, s in zip(self.kernel, strides, strict=True))

    @property
    def kernel_fan_out(self) -> int:
        """C_out prod k: as if every weight of the kernel met the input."""
        return self.outputs * math.prod(self.kernel)

    def taps(self) -> Tensor:
        """Return how many outputs of one channel each input position reaches: float64, shape ``size``."""
        return _taps(self)

    def exact_fan_out(self, event_map: Tensor) -> float:
        """Return the operations of events counted in ``event_map`` (shape ``size``, summed over batch and channels)."""
        taps = self.taps().to(event_map.device)
        return float((event_map.double() * taps).sum()) * self.outputs

    @property
    def dense_fan_out(self) -> float:
        """Operations of a channel whose every position is non-zero."""
        return float(self.taps().sum()) * self.outputs


@lru_cache(maxsize=256)
def _taps(geometry: Geometry) -> Tensor:
    grid = torch.ones((), dtype=torch.float64)
    g = geometry
    for n, m, k, s, p, d in zip(g.size, g.out, g.kernel, g.stride, g.padding, g.dilation, strict=True):
        line = _line_transposed(n, m, k, s, p, d) if g.transposed else _line(n, m, k, s, p, d)
        grid = grid.unsqueeze(-1) * line
    return grid


def _line(n: int, m: int, k: int, s: int, p: int, d: int) -> Tensor:
    reached = torch.arange(m).unsqueeze(1) * s - p + torch.arange(k) * d
    return torch.bincount(reached[(reached >= 0) & (reached < n)], minlength=n).double()


def _line_transposed(n: int, m: int, k: int, s: int, p: int, d: int) -> Tensor:
    reached = torch.arange(n).unsqueeze(1) * s - p + torch.arange(k) * d
    return ((reached >= 0) & (reached < m)).sum(1).double()


def spread(value: int | Sequence[int], dimensions: int) -> tuple[int, ...]:
    """Return one entry for each dimension: ``1`` and ``[1]`` both stand for all."""
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * dimensions if len(values) == 1 else values
