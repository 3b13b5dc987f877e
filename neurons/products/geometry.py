"""Sizes of a product and how it is cut into blocks that fit in the first cache."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neurons.products.source import ROWS, WIDE

_CHUNK = 256
"""Output pixels that one thread works at: their sums and lists fit in the second cache."""
_HELD = 1 << 18
"""Bytes of sums that one thread works at in the gradient of the weights."""
_ITEMS = 16
"""Pieces of work to aim at, whatever the number of threads."""


@dataclass(frozen=True)
class Geometry:
    """A product of maps [B, H, W, C] with weights [N, C, kh, kw]; a linear layer has H tokens, W = 1 and a 1x1 kernel.

    Attributes
    ----------
    batch, height, width, inputs : int
        Of the map of spikes.
    outputs : int
    kernel, stride, padding : tuple of int
        Down and across.
    """

    batch: int
    height: int
    width: int
    inputs: int
    outputs: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)

    @property
    def map(self) -> tuple[int, int]:
        """Height and width of the output."""
        (kh, kw), (sy, sx), (py, px) = self.kernel, self.stride, self.padding
        return (self.height + 2 * py - kh) // sy + 1, (self.width + 2 * px - kw) // sx + 1

    @property
    def places(self) -> int:
        """Output pixels of all maps."""
        return self.batch * self.map[0] * self.map[1]

    @property
    def taps(self) -> int:
        """Weights of one input channel and one output channel."""
        return self.kernel[0] * self.kernel[1]

    @property
    def panels(self) -> int:
        """Pieces of at most 32 outputs."""
        return -(-self.outputs // WIDE)

    @property
    def slice(self) -> int:
        """Channels of one list of a pixel."""
        return slice_of(self.inputs)

    @property
    def slices(self) -> int:
        """Lists of a pixel."""
        return -(-self.inputs // self.slice)

    @property
    def span(self) -> int:
        """Neighbouring pixels whose lists are read as one."""
        return max(1, min(self.kernel[1], ROWS // self.inputs)) if self.slices == 1 else 1

    @property
    def blocks(self) -> int:
        """Panels of weights, one after the other, that make one sum."""
        kh, kw = self.kernel
        return kh * (-(-kw // self.span) if self.slices == 1 else kw * self.slices)

    @property
    def rows(self) -> int:
        """Rows of one panel of weights."""
        return self.span * self.inputs if self.slices == 1 else self.slice

    @property
    def chunk(self) -> int:
        """Output pixels of one piece of work."""
        return min(_CHUNK, self.places)

    @property
    def groups(self) -> int:
        """Pieces of work that share a chunk."""
        return min(self.panels, -(-_ITEMS // -(-self.places // self.chunk)))

    @property
    def tile(self) -> tuple[int, int]:
        """Rows and columns of a tile of gradients: the largest that fits, its margins included."""
        reach = [(kernel - 1) // stride for kernel, stride in zip(self.kernel, self.stride, strict=True)]
        grid = (self.width - 1 + self.padding[1]) // self.stride[1] - self.padding[1] // self.stride[1] + 1
        best, found = 0.0, (1, 1)
        for cuts in range(1, grid + 1):
            columns = -(-grid // cuts)
            rows = max(1, ROWS // (columns + reach[1]) - reach[0])
            if (rows + reach[0]) * (columns + reach[1]) <= ROWS and rows * grid / cuts > best:
                best, found = rows * grid / cuts, (rows, columns)
        return found

    @property
    def tiles(self) -> int:
        """Lists of one input channel in the gradient of the weights: one for each tile and class of pixels."""
        rows, columns = self.tile
        spans = []
        for size, padding, stride in zip((self.height, self.width), self.padding, self.stride, strict=True):
            spans.append((size - 1 + padding) // stride - padding // stride + 1)
        reach = (self.kernel[0] - 1) // self.stride[0]
        down = -(-(self.batch * (spans[0] + reach) - reach) // rows)
        return down * -(-spans[1] // columns) * self.stride[0] * self.stride[1]

    @property
    def gradient_groups(self) -> int:
        """Groups of input channels whose sums stay in the second cache."""
        return min(self.inputs, -(-self.inputs * self.taps * WIDE * 4 // _HELD))

    @property
    def splits(self) -> int:
        """Parts of all tiles, summed apart and then in order, so that there is work for all threads."""
        return min(self.tiles, -(-_ITEMS // (self.panels * self.gradient_groups)))

    def fits(self) -> bool:
        """Whether every place can be named by 31 bits, and there is something to do."""
        sizes = (self.batch, self.height, self.width, self.inputs, self.outputs, *self.map)
        if min(sizes) < 1 or min(self.padding) < 0 or min(self.stride) < 1:
            return False
        rows = max(self.width + 2 * self.padding[1], 1) * self.inputs
        return rows * WIDE * 4 < 1 << 31 and self.batch * self.height * self.width * self.inputs < 1 << 31


def slice_of(channels: int) -> int:
    """Return how many of a pixel's channels make one list: all, or equal parts that fit in a panel."""
    parts = -(-channels // ROWS)
    return channels if parts == 1 else -(-channels // (parts * 16)) * 16


@functools.lru_cache(maxsize=256)
def rows_of(geometry: Geometry, channels_last: bool) -> Tensor:
    """Return the row of the panels in which each number of an output's weights lies, in the order of memory."""
    kh, kw = geometry.kernel
    y, x, c = np.meshgrid(np.arange(kh), np.arange(kw), np.arange(geometry.inputs), indexing="ij")
    if geometry.slices == 1:
        across = -(-kw // geometry.span)
        block, row = y * across + x // geometry.span, x % geometry.span * geometry.inputs + c
    else:
        block, row = (y * kw + x) * geometry.slices + c // geometry.slice, c % geometry.slice
    at = block * geometry.rows + row  # [kh, kw, C]
    return torch.from_numpy((at if channels_last else at.transpose(2, 0, 1)).astype(np.int32).ravel())
