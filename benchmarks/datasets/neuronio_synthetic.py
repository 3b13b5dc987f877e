"""Synthetic NeuronIO: inputs, output spikes and voltage of a small neuron that is simulated here."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.datasets.base import datasets
from benchmarks.datasets.drawing import at_least, check_seed, random_state
from benchmarks.datasets.neuron_recordings import Recording, Windows, drawn_windows, recording, sliding_windows
from benchmarks.datasets.sequence import SequenceDataset
from benchmarks.datasets.teacher_neuron import TeacherNeuron
from neurons.errors import OptionError

NAME = "neuronio-synthetic"
PARTS = ("train", "validation", "test")
BLOCK = 100
"""Steps whose dense inputs are in memory at a time."""


@datasets.register(NAME)
def load(
    branches: int = 8,
    synapses: int = 8,
    simulations: int = 192,
    validation: int = 32,
    test: int = 64,
    duration: int = 2_000,
    windows: int = 1_024,
    steps: int = 500,
    burn_in: int = 150,
    skip: int = 200,
    excitation: float = 5.0,
    inhibition: float = 5.0,
    modulation: float = 0.8,
    neuron_seed: int = 0,
    seed: int = 0,
    root: Path | None = None,
) -> SequenceDataset:
    """Synthetic NeuronIO: a small neuron with NMDA-like branches, simulated here; its spikes and voltage are asked for.

    The shape of NeuronIO at a size that is simulated in seconds, and no substitute for it: 64 excitatory and 64
    inhibitory inputs, on 8 branches, of :class:`~benchmarks.datasets.teacher_neuron.TeacherNeuron`, whose equations
    stand there. Inputs are Poisson spikes in steps of 1 ms, of which inhibitory ones are -1. Their rates go up and down
    slowly: that of branch k is :math:`r e^{m z_k - m^2/2}` with :math:`z_k` the sum of one fluctuation that all
    branches share and one of its own, Ornstein-Uhlenbeck processes of 150 ms with a third and two thirds of the
    variance; excitation and inhibition fluctuate independently. Voltages become numbers as in NeuronIO:
    minus -67.7 mV, times 0.1.

    Training draws windows of 500 ms at random places, anew for every epoch; validation and test windows slide over
    simulations of their own, and their first 150 ms are not asked for.

    Parameters
    ----------
    branches, synapses : int
        Branches, and excitatory and as many inhibitory synapses on each, one for every input.
    simulations, validation, test : int
        Simulations of each split.
    duration : int
        Milliseconds of a simulation.
    windows : int
        Training windows in an epoch.
    steps : int
        Milliseconds of a window.
    burn_in : int
        Milliseconds at the start of a validation or test window that are not asked for.
    skip : int
        Milliseconds at the start of a simulation that are never asked for.
    excitation, inhibition : float
        Mean rate r of an input, in spikes a second. With the standard values the neuron fires about 6 times a second.
    modulation : float
        m, how much rates go up and down.
    neuron_seed : int
        Seed of the neuron's weights.
    seed : int
        Seed of the inputs.
    root : path, optional
        Not used: nothing is read.

    Raises
    ------
    OptionError
        When a number is outside its domain.
    """
    at_least(1, simulations=simulations, validation=validation, test=test, duration=duration)
    check_seed(seed)
    for name, rate in (("excitation", excitation), ("inhibition", inhibition)):
        if not 0 <= rate <= 1000:
            raise OptionError(f"dataset.{name} must be from 0 to 1000 spikes a second, not {rate}")
    if not 0 <= modulation <= 3:
        raise OptionError(f"dataset.modulation must be from 0 to 3, not {modulation}")
    neuron = TeacherNeuron(branches, synapses, neuron_seed)
    counts = dict(zip(PARTS, (simulations, validation, test), strict=True))
    # Windows are checked before anything is simulated.
    made: dict[str, Recording] = {}
    splits: dict[str, Windows] = {}
    for name, count in counts.items():
        sizes = (1, count, duration)
        if name == "train":
            splits[name] = drawn_windows(
                lambda _: made["train"], sizes, neuron.inputs, count=windows, steps=steps, skip=skip, draw_from=1,
                in_memory=True,
            )  # fmt: skip
        else:
            splits[name] = sliding_windows(
                lambda _, name=name: made[name],  # type: ignore[misc]
                sizes, neuron.inputs, steps=steps, burn_in=burn_in, skip=skip, in_memory=True,
            )  # fmt: skip
    for number, (name, count) in enumerate(counts.items()):
        random = random_state(seed, number)
        made[name] = simulate(neuron, random, count, duration, (excitation, inhibition), modulation)
    rate = made["train"].spikes.mean() * 1000
    return SequenceDataset(
        name=NAME,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        classes=2,
        channels=neuron.inputs,
        image_size=1,
        steps=steps,
        task="neuron-io",
        source="made here: a simulated neuron with NMDA-like branches",
        licence="none needed: made here",
        note=f"synthetic, not NeuronIO: {branches} branches, {neuron.inputs} inputs, {rate:.1f} output spikes a second "
        f"in training; validation and test windows drop {burn_in} ms of burn-in and {skip} ms of each simulation",
    )


def simulate(
    neuron: TeacherNeuron, random: np.random.RandomState, count: int, duration: int, rates: tuple[float, float],
    modulation: float,
) -> Recording:  # fmt: skip
    """Return ``count`` simulations of ``duration`` ms with fluctuating inputs.

    Parameters
    ----------
    neuron : TeacherNeuron
    random : numpy.random.RandomState
    count, duration : int
    rates : tuple of float
        Mean rate of an excitatory and of an inhibitory input, in spikes a second.
    modulation : float
        How much the rates go up and down.
    """
    chances = input_chances(neuron, random, count, duration, rates, modulation)
    events, sums = [], []
    for first in range(0, duration, BLOCK):
        chance = chances[first : first + BLOCK]
        x = (random.random_sample((*chance.shape, neuron.synapses)) < chance[..., None]).reshape(len(chance), count, -1)
        times, rows, channels = np.nonzero(x)
        events.append(np.stack([rows, times + first, channels]))
        sums.append(neuron.synaptic(x))
    rows, times, channels = np.concatenate(events, 1)
    return recording(rows, times, channels, neuron.signs, *neuron.run(np.concatenate(sums)))


def input_chances(
    neuron: TeacherNeuron, random: np.random.RandomState, count: int, duration: int, rates: tuple[float, float],
    modulation: float,
) -> np.ndarray:  # fmt: skip
    """Return the chance of a spike of an input in a step, [duration, count, 2, branches]: excitatory, inhibitory."""
    shape = (duration, count, 2, neuron.branches)
    shared, own = fluctuation(random, (*shape[:3], 1)), fluctuation(random, shape)
    z = np.sqrt(1 / 3) * shared + np.sqrt(2 / 3) * own
    return np.array(rates)[:, None] / 1000 * np.exp(modulation * z - modulation**2 / 2)


def fluctuation(random: np.random.RandomState, shape: tuple[int, ...], constant: float = 150.0) -> np.ndarray:
    """Return Ornstein-Uhlenbeck processes of mean 0 and variance 1 along the first axis, stationary from the start."""
    keep = np.exp(-1 / constant)
    z = random.standard_normal(shape)
    z[1:] *= np.sqrt(1 - keep**2)
    for before, now in pairwise(z):
        now += keep * before
    return z
