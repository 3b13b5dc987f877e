"""Recordings of spikes, kept as events and counted in bins when they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from benchmarks.datasets.base import Indices
from neurons.errors import DataError, OptionError, ShapeError


@dataclass(frozen=True, eq=False)
class SpikeRecordings:
    """Recordings of equal duration, each a list of events, as spike counts [T, channels].

    Step ``i`` counts the spikes of a channel in the milliseconds from ``i * bin`` up to, and without,
    ``(i + 1) * bin``: several spikes in a bin add up. Bins are whole milliseconds and fill the duration exactly.

    Parameters
    ----------
    times : array of uint16, shape [events]
        Millisecond in which a spike falls, from 0 to ``duration - 1``.
    units : array of uint16, shape [events]
        Channel of each spike.
    starts, ends : array of int64, shape [N]
        The events of recording ``i`` are those from ``starts[i]`` up to, and without, ``ends[i]``.
    labels : Tensor of int64, shape [N]
        Class of each recording.
    channels : int
        Number of channels.
    duration : int
        Milliseconds of a recording.
    bin : int
        Milliseconds of a time step.

    Raises
    ------
    OptionError
        When ``bin`` does not divide ``duration``.
    ShapeError, DataError
        When the events do not fit the rest.
    """

    times: np.ndarray
    units: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    labels: Tensor
    channels: int
    duration: int
    bin: int

    def __post_init__(self) -> None:
        check_bin(self.bin, self.duration)
        if self.times.shape != self.units.shape or not len(self.starts) == len(self.ends) == len(self.labels):
            raise ShapeError(
                f"{len(self.times)} times need as many units, not {len(self.units)}, and {len(self.labels)} labels as "
                f"many starts and ends, not {len(self.starts)} and {len(self.ends)}"
            )
        if len(self.times) and (self.times.max() >= self.duration or self.units.max() >= self.channels):
            raise DataError(
                f"spikes must lie below {self.duration} ms and channel {self.channels}, "
                f"found {self.times.max()} ms and channel {self.units.max()}"
            )

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape [T, channels] of a recording."""
        return self.duration // self.bin, self.channels

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Return the spike counts of the recordings at ``indices`` as float32 [B, T, channels], and their labels."""
        places = torch.arange(len(self))[indices]
        steps, channels = self.sample_shape
        starts, ends = self.starts[places.numpy()], self.ends[places.numpy()]
        sizes = ends - starts
        first = sizes.cumsum() - sizes  # of each recording, among the events of this batch
        events = np.arange(sizes.sum()) + np.repeat(starts - first, sizes)
        cells = np.repeat(np.arange(len(places)) * (steps * channels), sizes)
        cells += (self.times[events] // self.bin).astype(np.int64) * channels + self.units[events]
        counts = torch.zeros(len(places) * steps * channels)
        counts.index_add_(0, torch.from_numpy(cells), torch.ones(()).expand(len(cells)))
        return counts.view(len(places), steps, channels), self.labels[places]

    def batches(self, chunks: Iterable[Indices]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the spike counts and labels at each of ``chunks``."""
        return map(self.batch, chunks)

    def subset(self, indices: Indices) -> SpikeRecordings:
        """Return the split that holds only the recordings at ``indices``, in that order; the events are shared."""
        places = torch.arange(len(self))[indices]
        rows = places.numpy()
        return replace(self, starts=self.starts[rows], ends=self.ends[rows], labels=self.labels[places])

    def training(self, seed: int, epoch: int) -> SpikeRecordings:
        """Return this split: recordings are read in training as they are in testing."""
        return self


def joined(
    times: list[np.ndarray], units: list[np.ndarray], labels: Tensor, channels: int, duration: int, bin: int
) -> SpikeRecordings:
    """Return the recordings that are given one by one, by the milliseconds and the channels of their spikes."""
    sizes = np.array([len(time) for time in times], np.int64)
    ends = sizes.cumsum()
    return SpikeRecordings(
        np.concatenate(times).astype(np.uint16, copy=False), np.concatenate(units).astype(np.uint16, copy=False),
        ends - sizes, ends, labels, channels, duration, bin,
    )  # fmt: skip


def check_bin(bin: int, duration: int) -> None:
    """Raise an OptionError unless bins of ``bin`` milliseconds fill ``duration`` milliseconds exactly."""
    if bin < 1 or duration % bin:
        raise OptionError(
            f"dataset.bin must divide the {duration} ms of a recording into equal whole milliseconds, {bin} does not"
        )
