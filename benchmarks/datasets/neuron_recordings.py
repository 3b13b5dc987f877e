"""Recordings of one neuron, its input spikes, output spikes and voltage, and windows of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from benchmarks.datasets.base import Indices
from benchmarks.datasets.drawing import random_state
from neurons.errors import DataError, OptionError, ShapeError

VOLTAGE_CAP = -55.0
"""Millivolts at which the voltage is cut off, so that the shape of spikes is not learned (D. Beniaguev, I. Segev,
M. London, Single cortical neurons as deep artificial neural networks, Neuron 109, 2021)."""
VOLTAGE_OFFSET, VOLTAGE_SCALE = -67.7, 0.1
"""What is learned is (voltage - offset) * scale, in their code and in that of A. Spieler et al., ICLR 2024."""


@dataclass(frozen=True, eq=False)
class Recording:
    """Simulations of equal duration, in steps of a millisecond; input spikes are kept as a list.

    Parameters
    ----------
    starts : numpy.ndarray of int64, shape [S * L + 1]
        Where in ``inputs`` the spikes of each step begin, of one simulation after the other.
    inputs : numpy.ndarray of int, shape [input spikes]
        Input channel of each spike.
    signs : numpy.ndarray of float32, shape [C]
        What a spike of each channel is: 1 where it excites, -1 where it inhibits.
    spikes : numpy.ndarray of bool, shape [S, L]
        Output spikes.
    voltage : numpy.ndarray of float32, shape [S, L]
        Voltage of the soma in millivolts, not cut off.
    """

    starts: np.ndarray
    inputs: np.ndarray
    signs: np.ndarray
    spikes: np.ndarray
    voltage: np.ndarray

    def __post_init__(self) -> None:
        simulations, duration = self.spikes.shape
        if self.voltage.shape != self.spikes.shape or self.starts.shape != (simulations * duration + 1,):
            raise ShapeError(
                f"voltage [S, L] and starts [S * L + 1] must fit spikes {list(self.spikes.shape)}, not "
                f"{list(self.voltage.shape)} and {list(self.starts.shape)}"
            )

    @property
    def duration(self) -> int:
        """Steps of a simulation."""
        return self.spikes.shape[1]

    def window(self, simulation: int, time: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Return inputs [steps, C] and targets [steps, 2] from ``time`` on: spike 0 or 1, and the scaled voltage.

        What follows the end of the simulation has no inputs, and NaN for targets.
        """
        stop = min(time + steps, self.duration)
        row = simulation * self.duration
        edges = self.starts[row + time : row + stop + 1]
        channels = self.inputs[edges[0] : edges[-1]]
        x = np.zeros((steps, len(self.signs)), np.float32)
        x[np.repeat(np.arange(stop - time), np.diff(edges)), channels] = self.signs[channels]
        y = np.full((steps, 2), np.nan, np.float32)
        y[: stop - time, 0] = self.spikes[simulation, time:stop]
        y[: stop - time, 1] = scaled(self.voltage[simulation, time:stop])
        return x, y


def recording(
    simulations: np.ndarray, times: np.ndarray, channels: np.ndarray, signs: np.ndarray, spikes: np.ndarray,
    voltage: np.ndarray,
) -> Recording:  # fmt: skip
    """Make a recording of input spikes in any order; a channel that spikes twice in a step spikes once.

    Parameters
    ----------
    simulations, times, channels : numpy.ndarray of int, shape [input spikes]
        Where each input spike belongs.
    signs, spikes, voltage
        See :class:`Recording`.
    """
    count, duration = spikes.shape
    width = len(signs)
    keys = (simulations.astype(np.int64) * duration + times) * width + channels
    keys.sort()
    keys = keys[np.diff(keys, prepend=-1) != 0]
    steps, inputs = np.divmod(keys, width)
    starts = np.searchsorted(steps, np.arange(count * duration + 1))
    return Recording(starts, inputs.astype(np.int32), signs.astype(np.float32), spikes, voltage.astype(np.float32))


def scaled(voltage: np.ndarray) -> np.ndarray:
    """Return the voltage that is learned: cut off, shifted and scaled."""
    return (np.minimum(voltage, VOLTAGE_CAP) - VOLTAGE_OFFSET) * VOLTAGE_SCALE


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of recordings that are read when they are asked for: x [B, T, C] and targets [B, T, 2].

    Targets are the output spike, 0 or 1, and the scaled voltage; NaN where nothing is asked.

    Parameters
    ----------
    read : callable
        Returns the recording of a number; it should remember some.
    places : Tensor of int64, shape [N, 3]
        Recording, simulation and first step of each window.
    sizes : tuple of int
        Recordings, simulations in each, and steps of a simulation.
    steps, channels : int
        Steps of a window, and inputs of the neuron.
    burn_in : int
        Steps at the start of each window at which nothing is asked.
    most_spikes : int, optional
        Nothing is asked of simulations with more output spikes.
    skip : int
        Steps at the start of a simulation that windows drawn in training leave out.
    draw_from : int, optional
        In training windows are drawn anew for every epoch, from that many recordings at a time; as they are when left
        out.
    in_memory : bool
        Whether reading costs nothing, so that the targets of all windows may be gathered.
    """

    read: Callable[[int], Recording]
    places: Tensor
    sizes: tuple[int, int, int]
    steps: int
    channels: int
    burn_in: int = 0
    most_spikes: int | None = None
    skip: int = 0
    draw_from: int | None = None
    in_memory: bool = False

    def __len__(self) -> int:
        return len(self.places)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape [T, C] of a window."""
        return (self.steps, self.channels)

    @cached_property
    def labels(self) -> Tensor:
        """Targets of all windows, float32 [N, T, 2]; where they lie in files, a tensor of that shape without values."""
        if not self.in_memory:
            return torch.empty(len(self), self.steps, 2, device="meta")
        return torch.stack([torch.from_numpy(self._window(place)[1]) for place in self.places.tolist()])

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Return the windows at ``indices`` as float32 [B, T, C], and their targets, float32 [B, T, 2]."""
        pairs = [self._window(place) for place in self.places[indices].tolist()]
        x, y = (np.stack(parts) for parts in zip(*pairs, strict=True))
        return torch.from_numpy(x), torch.from_numpy(y)

    def batches(self, chunks: Iterable[Indices]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the windows and targets at each of ``chunks``."""
        return map(self.batch, chunks)

    def subset(self, indices: Indices) -> Windows:
        """Return the split that holds only the windows at ``indices``, in that order."""
        return replace(self, places=self.places[indices])

    def training(self, seed: int, epoch: int) -> Windows:
        """Return as many windows, drawn for this epoch at random places, with nothing left unasked."""
        if self.draw_from is None:
            return self
        return replace(self, places=self._drawn(seed, epoch), burn_in=0, most_spikes=None)

    def _drawn(self, seed: int, epoch: int) -> Tensor:
        files, simulations, duration = self.sizes
        random = random_state(seed, epoch)
        chosen = random.permutation(files)[: self.draw_from]
        count = len(self)
        places = (
            chosen[random.randint(len(chosen), size=count)],
            random.randint(simulations, size=count),
            random.randint(self.skip, duration - self.steps, size=count),
        )
        return torch.from_numpy(np.stack(places, 1))

    def _window(self, place: list[int]) -> tuple[np.ndarray, np.ndarray]:
        file, simulation, time = place
        found = self.read(file)
        if found.spikes.shape != self.sizes[1:] or len(found.signs) != self.channels:
            raise DataError(
                f"recording {file} has {found.spikes.shape[0]} simulations of {found.duration} steps and "
                f"{len(found.signs)} inputs, not {self.sizes[1]}, {self.sizes[2]} and {self.channels}"
            )
        x, y = found.window(simulation, time, self.steps)
        y[: self.burn_in] = np.nan
        if self.most_spikes is not None and found.spikes[simulation].sum() > self.most_spikes:
            y[:] = np.nan
        return x, y


def drawn_windows(
    read: Callable[[int], Recording], sizes: tuple[int, int, int], channels: int, *, count: int, steps: int,
    skip: int, draw_from: int, in_memory: bool = False,
) -> Windows:  # fmt: skip
    """Return a training split of ``count`` windows in every epoch, at random places after the first ``skip`` steps.

    Raises
    ------
    OptionError
        When the simulations are too short for that.
    """
    if count < 1 or steps < 1 or skip < 0 or draw_from < 1:
        raise OptionError(
            "dataset.windows, steps and files must be at least 1 and skip at least 0, not "
            f"{count}, {steps}, {draw_from} and {skip}"
        )
    if skip + steps >= sizes[2]:
        raise OptionError(
            f"dataset.steps: windows of {steps} steps after the first {skip} do not fit into simulations of {sizes[2]}"
        )
    empty = torch.zeros(count, 3, dtype=torch.int64)
    windows = Windows(read, empty, sizes, steps, channels, skip=skip, draw_from=draw_from, in_memory=in_memory)
    return replace(windows, places=windows._drawn(0, 0))


def sliding_windows(
    read: Callable[[int], Recording], sizes: tuple[int, int, int], channels: int, *, steps: int, burn_in: int,
    skip: int, most_spikes: int | None = None, in_memory: bool = False,
) -> Windows:  # fmt: skip
    """Return windows that ask for every step after the first ``skip`` once, each ``burn_in`` steps after its start.

    Raises
    ------
    OptionError
        When the burn-in is longer than what is skipped, or than a window.
    """
    if not 0 <= burn_in < steps:
        raise OptionError(f"dataset.burn_in must be from 0 to steps - 1 = {steps - 1}, not {burn_in}")
    if not burn_in <= skip < sizes[2]:
        raise OptionError(
            f"dataset.skip must be at least burn_in = {burn_in} and below the {sizes[2]} steps of a simulation, not "
            f"{skip}"
        )
    times = torch.arange(skip - burn_in, sizes[2] - burn_in, steps - burn_in)
    places = torch.cartesian_prod(torch.arange(sizes[0]), torch.arange(sizes[1]), times)
    return Windows(
        read, places, sizes, steps, channels, burn_in=burn_in, most_spikes=most_spikes, in_memory=in_memory
    )  # fmt: skip
