"""Adding tasks: two samples one after the other, and the sum of the numbers that they stand for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.datasets.base import Indices, Samples
from benchmarks.datasets.drawing import Draw, at_least, streams
from neurons.errors import DataError


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of sequences of one split, one after the other in time, labelled with the sum of their numbers.

    Parameters
    ----------
    items : Samples
        Sequences [T, C] of equal length.
    numbers : Tensor of int64, shape [N]
        The number that each of them stands for.
    first, second : Tensor of int64, shape [P]
        Place of the first and of the second item of each pair.
    """

    items: Samples
    numbers: Tensor
    first: Tensor
    second: Tensor

    @property
    def labels(self) -> Tensor:
        """Sum of the two numbers of each pair, int64 [P]."""
        return self.numbers[self.first] + self.numbers[self.second]

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape [2 T, C] of a pair."""
        steps, channels = self.items.sample_shape
        return 2 * steps, channels

    def __len__(self) -> int:
        return len(self.first)

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Return the pairs at ``indices`` as float32 [B, 2 T, C], and their labels."""
        first, second = self.first[indices], self.second[indices]
        # Interleaved, the two items of a pair lie one after the other in memory: joining them is a change of shape.
        values, _ = self.items.batch(torch.stack((first, second), 1).flatten())
        return values.view(len(first), *self.sample_shape), self.numbers[first] + self.numbers[second]

    def batches(self, chunks: Iterable[Indices]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the pairs and labels at each of ``chunks``."""
        return map(self.batch, chunks)

    def subset(self, indices: Indices) -> Pairs:
        """Return the split that holds only the pairs at ``indices``, in that order."""
        return replace(self, first=self.first[indices], second=self.second[indices])

    def training(self, seed: int, epoch: int) -> Pairs:
        """Return this split: the pairs are fixed."""
        return self


def pairing(items: Samples, numbers: Tensor) -> Draw:
    """Return what draws pairs of ``items``, both independently, uniformly and with replacement.

    Raises
    ------
    DataError
        When there are none.
    """
    if not len(items):
        raise DataError("there are no samples to make pairs of: a split is empty")

    def draw(random: np.random.RandomState, count: int) -> Samples:
        places = torch.from_numpy(random.randint(0, len(items), (2, count), dtype=np.int64))
        return Pairs(items, numbers, places[0], places[1])

    return draw


def adding(items: Mapping[str, Samples], modulus: int, counts: Mapping[str, int], *key: int) -> dict[str, Any]:
    """Return the splits of an adding task: endless pairs to train on, fixed ones to validate and to test.

    Parameters
    ----------
    items : mapping
        Split name (``train``, ``validation``, ``test``) to the sequences that are paired; no pair mixes splits.
    modulus : int
        A sequence of class ``c`` stands for the number ``c % modulus``.
    counts : mapping
        Pairs of each split; of ``train`` in an epoch.
    *key : int
        What tells these pairs from those of other data sets of this kind.
    """
    at_least(1, **{f"{name}_pairs": count for name, count in counts.items()})
    return streams(lambda name: pairing(items[name], items[name].labels % modulus), counts, *key)
