"""What a data set is: two splits of labelled images, and what must be said about them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from neurons.errors import DataError, ShapeError
from neurons.registry import Registry

datasets: Registry[Dataset] = Registry("dataset", "datasets")
"""Functions ``load(root: Path | None = None) -> Dataset`` by name; ``root`` is the folder to search first."""

Indices = Tensor | Sequence[int] | slice


class Samples(Protocol):
    """What a split must be able to do, whether its samples lie in memory or are read when they are asked for.

    A sample may have any shape; images are [C, H, W].
    """

    @property
    def labels(self) -> Tensor:
        """Class of each sample, from 0: int64 [N]."""

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""

    def __len__(self) -> int: ...

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Return the samples at ``indices`` as float32 [B, *sample_shape] in [0, 1] and their labels as int64 [B]."""

    def batches(self, chunks: Iterable[Indices]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield ``batch(indices)`` for each of ``chunks``; the next one is read ahead where reading takes time."""

    def subset(self, indices: Indices) -> Samples:
        """Return the split that holds only the samples at ``indices``, in that order."""

    def training(self, seed: int, epoch: int) -> Samples:
        """Return the split as epoch ``epoch`` of a training with this seed reads it, with random crops for example.

        What a sample becomes depends on the seed, the epoch and the sample alone.
        """


@dataclass(frozen=True, eq=False)
class Split:
    """Labelled images in memory, stored as they come (small) and scaled to [0, 1] when asked for.

    Parameters
    ----------
    images : Tensor, shape [N, C, H, W]
        Raw values, uint8 or floating point, from 0 to ``full_scale``.
    labels : Tensor of int64, shape [N]
        Class of each image, from 0.
    full_scale : float
        Raw value that stands for 1.

    Raises
    ------
    ShapeError
        When the tensors do not have these shapes and types.
    """

    images: Tensor
    labels: Tensor
    full_scale: float = 255.0

    def __post_init__(self) -> None:
        if self.images.dim() != 4 or not (self.images.dtype == torch.uint8 or self.images.is_floating_point()):
            raise ShapeError(
                "images must be a uint8 or floating-point tensor [N, C, H, W], "
                f"not {self.images.dtype} {list(self.images.shape)}"
            )
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            raise ShapeError(
                f"labels must be an int64 tensor [{len(self.images)}], one for each image, "
                f"not {self.labels.dtype} {list(self.labels.shape)}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape [C, H, W] of an image."""
        return tuple(self.images.shape[1:])

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Return the images at ``indices`` as float32 [B, C, H, W] in [0, 1] and their labels as int64 [B]."""
        return self.images[indices].to(torch.float32) / self.full_scale, self.labels[indices]

    def subset(self, indices: Indices) -> Split:
        """Return the split that holds only the samples at ``indices``, in that order."""
        return Split(self.images[indices], self.labels[indices], self.full_scale)

    def batches(self, chunks: Iterable[Indices]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the images and labels at each of ``chunks``."""
        return map(self.batch, chunks)

    def training(self, seed: int, epoch: int) -> Split:
        """Return this split: images in memory are read in training as they are in testing."""
        return self


@dataclass(frozen=True, eq=False)
class Dataset:
    """A classification data set with its splits and its papers.

    Parameters
    ----------
    name : str
        Registered name.
    train, test : Samples
        Disjoint samples; the test split is for the last measurement only, never for choosing a model.
    classes : int
        Number of classes.
    channels, image_size : int
        Images are [channels, image_size, image_size].
    source : str
        Where the data come from.
    licence : str
        Terms of the data.
    note : str
        What a reader of a result must know, such as who made the split.
    validation : Samples, optional
        Samples to choose a model by, where the data bring their own; else a protocol holds out a part of ``train``.

    Raises
    ------
    DataError
        When the splits do not fit the rest.
    """

    name: str
    train: Samples
    test: Samples
    classes: int
    channels: int
    image_size: int
    source: str
    licence: str
    note: str
    validation: Samples | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return (self.channels, self.image_size, self.image_size)

    @property
    def splits(self) -> dict[str, Samples]:
        """The splits by name."""
        own = {} if self.validation is None else {"validation": self.validation}
        return {"train": self.train, **own, "test": self.test}

    def __post_init__(self) -> None:
        for name, split in self.splits.items():
            if split.sample_shape != self.shape:
                raise DataError(
                    f"{self.name}: {name} samples must have the shape {list(self.shape)}, "
                    f"not {list(split.sample_shape)}"
                )
            if len(split) == 0:
                raise DataError(f"{self.name}: the {name} split is empty")
            self._check_labels(name, split.labels)

    def _check_labels(self, name: str, labels: Tensor) -> None:
        if not 0 <= int(labels.min()) <= int(labels.max()) < self.classes:
            raise DataError(
                f"{self.name}: {name} labels must be 0 to {self.classes - 1}, "
                f"found {int(labels.min())} to {int(labels.max())}"
            )
