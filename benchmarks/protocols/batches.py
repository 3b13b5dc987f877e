"""Encoded batches of a data split, the same in every epoch that is run again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.datasets.base import Split
from encoders import Encoder


@dataclass(frozen=True)
class Batches:
    """Some samples of a split, encoded batch by batch.

    What epoch ``n`` yields depends on the seed and ``n`` alone, not on the epochs before it, so that a run that
    is resumed sees the batches that it would have seen.

    Parameters
    ----------
    split : Split
    indices : Tensor of int64
        Samples of the split that belong here.
    encoder : Encoder
    T : int
        Time steps.
    batch : int
        Samples in a batch.
    shuffle : bool
        New order in every epoch; the last, shorter batch is then left out when it holds a single sample, which
        batch norm could not normalise.
    seed : int
    """

    split: Split
    indices: Tensor
    encoder: Encoder
    T: int
    batch: int
    shuffle: bool
    seed: int

    def __len__(self) -> int:
        full, rest = divmod(len(self.indices), self.batch)
        return full + (rest > (1 if self.shuffle else 0))

    @property
    def samples(self) -> int:
        """Number of samples."""
        return len(self.indices)

    def epoch(self, number: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield ``(x, labels)``, x [T, B, ...] and labels [B], for epoch ``number``."""
        generator = torch.Generator().manual_seed((self.seed << 20) + number)
        order = torch.randperm(self.samples, generator=generator) if self.shuffle else torch.arange(self.samples)
        for start in range(0, len(self) * self.batch, self.batch):
            images, labels = self.split.batch(self.indices[order[start : start + self.batch]])
            yield self.encoder(images, self.T, generator=generator), labels
