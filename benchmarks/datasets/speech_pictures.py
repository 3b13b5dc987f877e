"""Pictures of made-up spoken words: time to the right, frequency upwards, brightness for spikes."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn import functional

from benchmarks.datasets.base import Dataset, Split, datasets
from benchmarks.datasets.drawing import at_least, check_seed
from benchmarks.datasets.spike_recordings import SpikeRecordings
from benchmarks.datasets.synthetic_speech import Speech

NAME = "speech-pictures"
SIZE, WORDS, TEST_SPEAKERS, TAKES = 28, 10, 10, 5
DURATION, BIN = 560, 20
CEILING = 2.0
"""Mean spikes of the cells under a pixel that are shown as full brightness."""


@datasets.register(NAME)
def load(speakers: int = 40, takes: int = TAKES, seed: int = 0, root: Path | None = None) -> Dataset:
    """Speech pictures: ten made-up words as 28x28 grey pictures of their spikes; the test is on other speakers.

    Recordings of 64 channels and 560 ms are those of ``synthetic-adding``'s speech. A column is 20 ms and a row a
    28th of the frequency axis, the highest one on top; brightness is the mean number of spikes of the channels that it
    covers, two of them and more being 1.

    Parameters
    ----------
    speakers : int
        Speakers of the training split; ten others speak in the test split.
    takes : int
        Recordings of each word by each speaker.
    seed : int
        Of the words, the speakers and the recordings.
    root : path, optional
        Not used: there are no files to find.

    Raises
    ------
    OptionError
        For a number outside its domain.
    """
    at_least(1, speakers=speakers, takes=takes)
    check_seed(seed)
    speech = Speech(seed, DURATION)
    train = speech.recordings(WORDS, range(TEST_SPEAKERS, TEST_SPEAKERS + speakers), takes, BIN)
    test = speech.recordings(WORDS, range(TEST_SPEAKERS), takes, BIN)
    return Dataset(
        name=NAME,
        train=_pictures(train),
        test=_pictures(test),
        classes=WORDS,
        channels=1,
        image_size=SIZE,
        source="drawn by a generator",
        licence="none needed",
        note=f"made up, no real speech: {WORDS} words, {speakers} speakers for training and {TEST_SPEAKERS} others for "
        f"the test, {takes} recordings of each word by each; seed {seed}",
    )


def _pictures(recordings: SpikeRecordings) -> Split:
    counts, labels = recordings.batch(slice(None))  # [N, T, channels]
    axis = functional.adaptive_avg_pool1d(counts, SIZE)
    pictures = (axis / CEILING).clamp(max=1).mT.flip(1).unsqueeze(1)
    return Split((255 * pictures).round().to(torch.uint8), labels)
