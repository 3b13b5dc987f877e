"""Made-up spoken words: spikes of channels along a frequency axis, with words, speakers and takes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.datasets.drawing import random_state
from benchmarks.datasets.spike_recordings import SpikeRecordings, joined

CHANNELS = 64
TRACKS, KNOTS = 3, 5
WIDTH = 0.035
"""Standard deviation of the tuning of a channel, as a share of the frequency axis."""
PEAK, BACKGROUND = 60.0, 1.0
"""Spikes a second of a channel at the centre of a track of amplitude 1, and of a channel that hears nothing."""
FREQUENCIES, AMPLITUDES = (0.1, 0.9), (0.5, 1.0)
SHIFTS, STRETCHES, SPEEDS = (-0.02, 0.02), (0.95, 1.05), (0.9, 1.1)
WORD, SPEAKER, TAKE = 11, 12, 13
"""First part of the keys of what is drawn."""


@dataclass(frozen=True)
class Speech:
    """A world of words and speakers.

    A word is three tracks, like the formants of speech, whose frequency (0 to 1, along the channels) and amplitude go
    straight from one of five random knots to the next. A speaker shifts the frequencies, stretches them about the
    middle, and speaks faster or slower: what is said after the recording ends is lost, and a track holds its last value
    when it is said before. Spikes are Poisson, drawn in steps of a millisecond; a channel's rate is the background plus
    the sum over the tracks of the peak rate, times the amplitude, times a Gaussian of the distance in frequency.

    Parameters
    ----------
    seed : int
        Of the whole world: word ``i``, speaker ``j`` and take ``k`` are the same ones however many there are.
    duration : int
        Milliseconds of a recording.
    """

    seed: int = 0
    duration: int = 600

    def rates(self, word: int, speaker: int) -> np.ndarray:
        """Return the spikes a second of every channel in every millisecond, [duration, 64]."""
        drawn = random_state(WORD, self.seed, word)
        frequencies = drawn.uniform(*FREQUENCIES, (TRACKS, KNOTS))
        amplitudes = drawn.uniform(*AMPLITUDES, (TRACKS, KNOTS))
        drawn = random_state(SPEAKER, self.seed, speaker)
        shift, stretch, speed = (drawn.uniform(*limits) for limits in (SHIFTS, STRETCHES, SPEEDS))
        said = speed * (np.arange(self.duration) + 0.5) / self.duration * (KNOTS - 1)
        axis = (np.arange(CHANNELS) + 0.5) / CHANNELS
        rates = np.full((self.duration, CHANNELS), BACKGROUND)
        for frequency, amplitude in zip(frequencies, amplitudes, strict=True):
            centre = 0.5 + stretch * (np.interp(said, range(KNOTS), frequency) - 0.5) + shift
            height = PEAK * np.interp(said, range(KNOTS), amplitude)
            rates += height[:, None] * np.exp(-((axis - centre[:, None]) ** 2) / (2 * WIDTH**2))
        return rates

    def take(self, word: int, speaker: int, number: int, sums: np.ndarray) -> np.ndarray:
        """Return the spikes of one recording, as places in the flattened [duration, 64]; ``sums`` are of its rates.

        A Poisson process is a Poisson number of spikes, each placed independently in proportion to the rate.
        """
        random = random_state(TAKE, self.seed, word, speaker, number)
        return np.searchsorted(sums, random.uniform(0, sums[-1], random.poisson(sums[-1])), side="right")

    def recordings(self, words: int, speakers: Iterable[int], takes: int, bin: int) -> SpikeRecordings:
        """Return ``takes`` recordings of every word by every speaker, labelled with the word."""
        spikes, labels = [], []
        speakers = list(speakers)
        for word in range(words):
            for speaker in speakers:
                sums = (self.rates(word, speaker) / 1_000).cumsum()  # a step lasts a thousandth of a second
                spikes += [self.take(word, speaker, number, sums) for number in range(takes)]
                labels += [word] * takes
        times, units = [places // CHANNELS for places in spikes], [places % CHANNELS for places in spikes]
        return joined(times, units, torch.tensor(labels), CHANNELS, self.duration, bin)
