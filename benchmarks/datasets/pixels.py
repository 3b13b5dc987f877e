"""Grey images read pixel by pixel, each pixel a number or a thermometer code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmarks.datasets.base import Indices
from neurons.errors import OptionError, ShapeError


@dataclass(frozen=True, eq=False)
class PixelSplit:
    """Labelled grey images as sequences of their pixels, row by row, kept as bytes; a sample is [T, C].

    Without thermometer code, C is 1 and the number of a pixel is its brightness, 0 to 1. With one, C is its number of
    channels, and of a pixel of brightness v the first round(C v) are 1, the others 0.

    Parameters
    ----------
    images : Tensor of uint8, shape [N, H, W]
        Brightness from 0 to 255.
    labels : Tensor of int64, shape [N]
        Class of each image, from 0.
    thermometer : int
        Channels of the thermometer code; 0 for none.

    Raises
    ------
    ShapeError
        When the tensors do not have these shapes.
    """

    images: Tensor
    labels: Tensor
    thermometer: int = 0

    def __post_init__(self) -> None:
        check_thermometer(self.thermometer)
        if self.images.dim() != 3 or self.images.dtype != torch.uint8 or len(self.images) != len(self.labels):
            raise ShapeError(
                f"images must be uint8 [N, H, W] with N labels, not {self.images.dtype} {list(self.images.shape)} with "
                f"{len(self.labels)}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def channels(self) -> int:
        """Numbers of a pixel."""
        return self.thermometer or 1

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape [T, C] of a sample."""
        return (self.images.shape[1] * self.images.shape[2], self.channels)

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Return the samples at ``indices`` as float32 [B, T, C] in [0, 1], and their labels."""
        x = self.images[indices].flatten(1).unsqueeze(-1) / 255
        if self.thermometer:
            x = (x > (torch.arange(self.thermometer) + 0.5) / self.thermometer).to(torch.float32)
        return x, self.labels[indices]

    def batches(self, chunks: Iterable[Indices]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the samples and labels at each of ``chunks``."""
        return map(self.batch, chunks)

    def subset(self, indices: Indices) -> PixelSplit:
        """Return the split that holds only the samples at ``indices``, in that order."""
        return replace(self, images=self.images[indices], labels=self.labels[indices])

    def training(self, seed: int, epoch: int) -> PixelSplit:
        """Return this split: images in memory are read in training as they are in testing."""
        return self


def check_thermometer(channels: int) -> None:
    """Raise an OptionError for a number of channels that no thermometer code has."""
    if not 0 <= channels <= 255:
        raise OptionError(f"dataset.thermometer must be from 0 (none) to 255 channels, not {channels}")
