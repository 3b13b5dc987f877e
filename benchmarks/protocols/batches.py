"""Encoded batches of a data split, the same in every epoch that is run again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.augment import Augment
from benchmarks.datasets.base import Samples
from encoders import Encoder


class Batch(NamedTuple):
    """Encoded samples.

    Attributes
    ----------
    x : Tensor, shape [T, B, ...]
    labels : Tensor, shape [B, ...]
    lengths : Tensor of int64, shape [B], optional
        Steps of each sample where they differ; ``x`` ends with the longest of them.
    """

    x: Tensor
    labels: Tensor
    lengths: Tensor | None


class Drawn(NamedTuple):
    """Samples that are still to be encoded.

    Attributes
    ----------
    images : Tensor, shape [B, ...]
    labels : Tensor, shape [B, ...]
    generator : torch.Generator
        To encode them with.
    lengths : Tensor of int64, shape [B], optional
        Steps of each sample where they differ.
    """

    images: Tensor
    labels: Tensor
    generator: torch.Generator
    lengths: Tensor | None


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
        for drawn in self.images(number):
            yield self.encode(drawn.images, drawn.generator), drawn.labels

    def items(self, number: int = 0) -> Iterator[Batch]:
        """Yield the batches of epoch ``number`` with the lengths of their samples, each as long as its longest."""
        for drawn in self.images(number):
            yield self.item(drawn)

    def item(self, drawn: Drawn) -> Batch:
        """Encode samples; where their lengths differ the input ends with the longest."""
        x = self.encode(drawn.images, drawn.generator)
        if drawn.lengths is None:
            return Batch(x, drawn.labels, None)
        longest = int(drawn.lengths.max())
        return Batch(x[:longest], drawn.labels, drawn.lengths)

    def images(self, number: int = 0) -> Iterator[Drawn]:
        """Yield what ``epoch`` encodes: samples, labels, and the generator to encode them with."""
        generator = torch.Generator().manual_seed((self.seed << 20) + number)
        drawn = Augment.generator(self.seed, number)
        order = torch.randperm(self.samples, generator=generator) if self.shuffle else torch.arange(self.samples)
        split = self.split.training(self.seed, number) if self.shuffle else self.split
        chunks = self.indices[order].split(self.batch)[: len(self)]
        lengths: Tensor | None = getattr(split, "lengths", None)
        for chunk, (images, labels) in zip(chunks, split.batches(chunks), strict=True):
            if self.augment is not None:
                images, labels = self.augment(images, labels, number, drawn)
            yield Drawn(images, labels, generator, None if lengths is None else lengths[chunk])

    def encode(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Encode images [B, ...] to [T, B, ...]."""
        return self.encoder(images, self.T, generator=generator)
