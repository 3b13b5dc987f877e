"""Samples that are drawn by a generator: new ones in every epoch of a training, the same ones in every evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.datasets.base import Indices, Samples
from neurons.errors import OptionError

Draw = Callable[[np.random.RandomState, int], Samples]
"""Makes a split of so many samples, all chance coming from the generator."""

FIXED, EPOCH = 1, 2
"""First part of the key of a split that never changes, and of the draw of an epoch."""


def random_state(*key: int) -> np.random.RandomState:
    """Return the generator that belongs to whole numbers from 0 to 2**64 - 1, in their order.

    NumPy promises that the numbers of a RandomState stay the same for ever.
    """
    return np.random.RandomState([half for number in key for half in (number & 0xFFFFFFFF, number >> 32)])


def at_least(minimum: int, **options: int) -> None:
    """Raise an OptionError for an option of a data set that is below ``minimum``."""
    for name, value in options.items():
        if value < minimum:
            raise OptionError(f"dataset.{name} must be at least {minimum}, not {value}")


def check_seed(seed: int) -> None:
    """Raise an OptionError for a seed that generators do not take."""
    if not 0 <= seed < 2**64:
        raise OptionError(f"dataset.seed must be from 0 to {2**64 - 1}, not {seed}")


@dataclass(frozen=True, eq=False)
class Stream:
    """An endless stream of samples, of which every epoch of a training reads ``count`` new ones.

    Outside a training it is one fixed draw, which is what ``labels``, ``batch`` and ``batches`` show.

    Parameters
    ----------
    draw : callable
        ``draw(random, count)`` makes samples.
    count : int
        Samples of an epoch.
    key : tuple of int
        What tells this stream from others, such as the seed of the data.
    places : Tensor of int64, optional
        Those of the ``count`` samples that belong to this split; all when left out.
    """

    draw: Draw
    count: int
    key: tuple[int, ...]
    places: Tensor | None = None
    fixed: Samples = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fixed", self._drawn(random_state(FIXED, *self.key)))

    def _drawn(self, random: np.random.RandomState) -> Samples:
        samples = self.draw(random, self.count)
        return samples if self.places is None else samples.subset(self.places)

    @property
    def labels(self) -> Tensor:
        """Labels of the fixed draw."""
        return self.fixed.labels

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape [T, C] of a sample."""
        return self.fixed.sample_shape

    def __len__(self) -> int:
        return len(self.fixed)

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Return samples of the fixed draw as float32 [B, T, C], and their labels."""
        return self.fixed.batch(indices)

    def batches(self, chunks: Iterable[Indices]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield samples and labels of the fixed draw for each of ``chunks``."""
        return self.fixed.batches(chunks)

    def subset(self, indices: Indices) -> Stream:
        """Return the stream that keeps only the samples at ``indices`` of every epoch, in that order."""
        places = torch.arange(self.count) if self.places is None else self.places
        return Stream(self.draw, self.count, self.key, places[indices])

    def training(self, seed: int, epoch: int) -> Samples:
        """Return the samples that epoch ``epoch`` of a training with this seed reads."""
        return self._drawn(random_state(EPOCH, *self.key, seed, epoch))


def streams(draw: Callable[[str], Draw], counts: Mapping[str, int], *key: int) -> dict[str, Any]:
    """Return an endless ``train`` split and fixed ``validation`` and ``test`` splits, each drawn for itself.

    Parameters
    ----------
    draw : callable
        Makes the drawing of the split of that name.
    counts : mapping
        Samples of each split.
    *key : int
        What tells these splits from those of other data sets of this kind.
    """
    fixed = {
        name: draw(name)(random_state(FIXED, *key, number), counts[name])
        for number, name in enumerate(("validation", "test"), start=1)
    }
    return {"train": Stream(draw("train"), counts["train"], (*key, 0)), **fixed}
