"""Sequences: samples whose own time steps a network goes through."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from benchmarks.datasets.base import Dataset, Indices
from neurons.errors import DataError, ShapeError
from neurons.lengths import check_lengths

Task = Literal["classification", "labelling", "regression", "neuron-io"]
"""What is asked: a class at the last step, a class at some steps, numbers at the last step, or the spikes and the
voltage of a neuron at every step."""

UNASKED = -100
"""Label of a step at which nothing is asked (the one that torch's cross-entropy leaves out)."""


@dataclass(frozen=True, eq=False)
class SequenceSplit:
    """Sequences in memory, stored as they come and scaled when asked for.

    Parameters
    ----------
    values : Tensor, shape [N, T, C]
        Of any type; what follows the end of a shorter sequence is 0.
    labels : Tensor, shape [N, ...]
        What :class:`SequenceDataset` says for its task.
    full_scale : float
        Raw value that stands for 1.
    lengths : Tensor of int64, shape [N], optional
        Steps of each sequence; T for all when left out.

    Raises
    ------
    ShapeError
        When the shapes do not fit.
    """

    values: Tensor
    labels: Tensor
    full_scale: float = 1.0
    lengths: Tensor | None = None

    def __post_init__(self) -> None:
        if self.values.dim() != 3 or len(self.labels) != len(self.values):
            raise ShapeError(
                f"sequences are [N, T, C] with N labels, not {list(self.values.shape)} with {len(self.labels)}"
            )
        check_lengths(self.lengths, len(self.values), self.values.shape[1])

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape [T, C] of a sequence."""
        return tuple(self.values.shape[1:])

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Return the sequences at ``indices`` as float32 [B, T, C], and their labels."""
        return self.values[indices].to(torch.float32) / self.full_scale, self.labels[indices]

    def batches(self, chunks: Iterable[Indices]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the sequences and labels at each of ``chunks``."""
        return map(self.batch, chunks)

    def subset(self, indices: Indices) -> SequenceSplit:
        """Return the split that holds only the sequences at ``indices``, in that order."""
        lengths = None if self.lengths is None else self.lengths[indices]
        return SequenceSplit(self.values[indices], self.labels[indices], self.full_scale, lengths)

    def training(self, seed: int, epoch: int) -> SequenceSplit:
        """Return this split: sequences in memory are read in training as they are in testing."""
        return self


@dataclass(frozen=True, eq=False)
class SequenceDataset(Dataset):
    """Sequences [T, C] with what is asked about them.

    Labels are int64 [N] from 0 for ``classification``; int64 [N, T] for ``labelling``, -100 where nothing is asked;
    floating point [N, K] for ``regression``; floating point [N, T, 2] for ``neuron-io``, spike (0 or 1) and scaled
    voltage. A split whose sequences differ in length has the attribute ``lengths``, int64 [N].

    Parameters
    ----------
    steps : int
        Time steps of a sample, T; of the longest one where they differ.
    task : {"classification", "labelling", "regression", "neuron-io"}
        What is asked.
    dt : float
        Milliseconds of a time step; 1 where time has no unit.
    """

    steps: int = field(kw_only=True)
    task: Task = "classification"
    dt: float = 1.0

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape [T, C] of one sample."""
        return (self.steps, self.channels)

    def __post_init__(self) -> None:
        if self.image_size != 1:
            raise DataError(f"{self.name}: a sequence has no image_size, so it must be 1, not {self.image_size}")
        super().__post_init__()
        for split in self.splits.values():
            check_lengths(getattr(split, "lengths", None), len(split), self.steps)

    def _check_labels(self, name: str, labels: Tensor) -> None:
        if self.task == "classification":
            super()._check_labels(name, labels)
        elif self.task == "labelling":
            super()._check_labels(name, labels[labels != UNASKED])
        right = {
            "classification": (1, False), "labelling": (2, False), "regression": (2, True), "neuron-io": (3, True),
        }[self.task]  # fmt: skip
        if (labels.dim(), labels.is_floating_point()) != right:
            kind = "floating-point" if right[1] else "whole"
            raise DataError(
                f"{self.name}: {name} labels for {self.task} are {kind} numbers of {right[0]} dimensions, not "
                f"{labels.dtype} {list(labels.shape)}"
            )
