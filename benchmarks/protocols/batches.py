"""Encoded batches of a data split, the same in every epoch that is run again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.augment import Augment
from benchmarks.datasets.base import Samples
from encoders import Encoder


@dataclass(frozen=True)
class Batches:
    """Some samples of a split, encoded batch by batch.

    What epoch ``n`` yields depends on the seed and ``n`` alone, not on the epochs before it, so that a run that
    is resumed sees the batches that it would have seen.

    Parameters
    ----------
    split : Samples
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
    classes : int, optional
        Classes of the data set, where known; mixing labels needs them.
    augment : Augment, optional
        Changes the images of every batch before they are encoded, and where it mixes them, the labels.
    """

    split: Samples
    indices: Tensor
    encoder: Encoder
    T: int
    batch: int
    shuffle: bool
    seed: int
    classes: int | None = None
    augment: Augment | None = None

    def __len__(self) -> int:
        full, rest = divmod(len(self.indices), self.batch)
        return full + (rest > (1 if self.shuffle else 0))

    @property
    def samples(self) -> int:
        """Number of samples."""
        return len(self.indices)

    def epoch(self, number: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield ``(x, labels)``, x [T, B, ...] and labels [B] ([B, classes] where mixed), for epoch ``number``."""
        for images, labels, generator in self.images(number):
            yield self.encode(images, generator), labels

    def images(self, number: int = 0) -> Iterator[tuple[Tensor, Tensor, torch.Generator]]:
        """Yield what ``epoch`` encodes: images [B, ...] in [0, 1], labels, and the generator to encode them with."""
        generator = torch.Generator().manual_seed((self.seed << 20) + number)
        drawn = Augment.generator(self.seed, number)
        order = torch.randperm(self.samples, generator=generator) if self.shuffle else torch.arange(self.samples)
        split = self.split.training(self.seed, number) if self.shuffle else self.split
        for images, labels in split.batches(self.indices[order].split(self.batch)[: len(self)]):
            if self.augment is not None:
                images, labels = self.augment(images, labels, number, drawn)
            yield images, labels, generator

    def encode(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Encode images [B, ...] to [T, B, ...]."""
        return self.encoder(images, self.T, generator=generator)
