"""Memory tasks that are generated: copying symbols, adding two numbers, and an exclusive or across a delay."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.datasets.base import datasets
from benchmarks.datasets.drawing import Draw, at_least, check_seed, streams
from benchmarks.datasets.sequence import UNASKED, SequenceDataset, SequenceSplit, Task
from neurons.errors import OptionError

SYMBOLS, RECALLED = 8, 10
BLANK, DELIMITER = SYMBOLS, SYMBOLS + 1
BLOCK = 256
"""Samples whose spikes are drawn at a time."""
COPY, ADDING, XOR = 21, 22, 23
"""First part of the keys, so that the tasks do not share their draws."""


@datasets.register("copy-memory")
def copy_memory(
    T: int = 100,
    train_samples: int = 6_400,
    validation_samples: int = 1_000,
    test_samples: int = 2_000,
    seed: int = 0,
    root: Path | None = None,
) -> SequenceDataset:
    """Copy memory: ten symbols are shown, and after a delay and a signal all ten are to be named in their order.

    As in M. Arjovsky, A. Shah and Y. Bengio, Unitary Evolution Recurrent Neural Networks, ICML 2016, after
    S. Hochreiter and J. Schmidhuber, Long Short-Term Memory, 1997: ten symbols out of eight, drawn uniformly with
    replacement, ``T - 1`` blanks, a delimiter and ten blanks, ``T + 20`` steps in all, one-hot in ten channels. The
    last ten steps are asked for the symbols.

    Parameters
    ----------
    T : int
        Steps from the last symbol to the delimiter.
    train_samples : int
        Samples of an epoch, drawn anew in each.
    validation_samples, test_samples : int
        Fixed samples.
    seed : int
        Of all samples.
    root : path, optional
        Not used: there are no files to find.

    Raises
    ------
    OptionError
        When a number is outside its domain.
    """
    at_least(1, T=T)
    return _generated(
        "copy-memory", partial(draw_copy, T=T), (train_samples, validation_samples, test_samples), (COPY, seed, T),
        steps=T + 2 * RECALLED, channels=SYMBOLS + 2, classes=SYMBOLS, task="labelling",
        paper="M. Arjovsky et al., ICML 2016",
        note="only the last ten steps are asked and scored, with the eight symbols as classes: chance is 12.5 %; in "
        "the paper blanks are asked for and scored at all other steps too",
    )  # fmt: skip


def draw_copy(random: np.random.RandomState, count: int, T: int) -> SequenceSplit:
    """Draw samples of the copy task: one-hot uint8 [count, T + 20, 10], labels [count, T + 20]."""
    symbols = torch.from_numpy(random.randint(0, SYMBOLS, (count, RECALLED), dtype=np.int64))
    shown = torch.full((count, T + 2 * RECALLED), BLANK)
    shown[:, :RECALLED] = symbols
    shown[:, RECALLED + T - 1] = DELIMITER
    labels = torch.full_like(shown, UNASKED)
    labels[:, -RECALLED:] = symbols
    values = torch.zeros(*shown.shape, SYMBOLS + 2, dtype=torch.uint8).scatter_(2, shown[:, :, None], 1)
    return SequenceSplit(values, labels)


@datasets.register("adding-problem")
def adding_problem(
    T: int = 100,
    train_samples: int = 6_400,
    validation_samples: int = 1_000,
    test_samples: int = 2_000,
    seed: int = 0,
    root: Path | None = None,
) -> SequenceDataset:
    """Adding problem: of a sequence of random numbers two are marked, and their sum is to be told at the end.

    As in M. Arjovsky, A. Shah and Y. Bengio, Unitary Evolution Recurrent Neural Networks, ICML 2016, after
    S. Hochreiter and J. Schmidhuber, Long Short-Term Memory, 1997: channel 0 is uniform in [0, 1), channel 1 is 1 at
    one step of the first half and at one of the second half, else 0.

    Parameters
    ----------
    T : int
        Steps of a sample.
    train_samples : int
        Samples of an epoch, drawn anew in each.
    validation_samples, test_samples : int
        Fixed samples.
    seed : int
        Of all samples.
    root : path, optional
        Not used: there are no files to find.

    Raises
    ------
    OptionError
        When a number is outside its domain.
    """
    at_least(2, T=T)
    return _generated(
        "adding-problem", partial(draw_adding, T=T), (train_samples, validation_samples, test_samples),
        (ADDING, seed, T),
        steps=T, channels=2, classes=1, task="regression",
        paper="M. Arjovsky et al., ICML 2016",
        note="always answering 1, the mean, has a mean squared error of 1/6: the mark of having learnt nothing",
    )  # fmt: skip


def draw_adding(random: np.random.RandomState, count: int, T: int) -> SequenceSplit:
    """Draw samples of the adding problem: float32 [count, T, 2], labels float32 [count, 1]."""
    numbers = torch.from_numpy(random.random_sample((count, T)).astype(np.float32))
    half = T // 2
    places = torch.from_numpy(np.stack((random.randint(0, half, count), random.randint(half, T, count)), 1))
    marks = torch.zeros(count, T).scatter_(1, places, 1.0)
    return SequenceSplit(torch.stack((numbers, marks), 2), numbers.gather(1, places).sum(1, keepdim=True))


@datasets.register("delayed-xor")
def delayed_xor(
    delay: int = 100,
    cue: int = 10,
    channels: int = 20,
    rate: float = 0.5,
    noise: float = 0.05,
    train_samples: int = 6_400,
    validation_samples: int = 1_000,
    test_samples: int = 2_000,
    seed: int = 0,
    root: Path | None = None,
) -> SequenceDataset:
    """Delayed XOR: two bits are shown as bursts of spikes with a delay between them; the label is their exclusive or.

    In the manner of the delayed spiking XOR of H. Zheng et al., Temporal dendritic heterogeneity incorporated with
    spiking neural networks for learning multi-timescale dynamics, Nature Communications 15, 277, 2024. A sample is
    ``cue`` steps of the first bit, ``delay`` steps and ``cue`` steps of the second bit. A bit is shown by one half of
    the channels, the lower one for 0 and the upper one for 1, which fires with probability ``rate`` in each step; all
    others, and all channels in the delay, fire with probability ``noise``. Either bit alone says nothing about the
    label.

    Parameters
    ----------
    delay, cue : int
        Steps between the bits, and of each bit.
    channels : int
        An even number.
    rate, noise : float
        Probability of a spike in a step, of a channel that shows a bit and of all others.
    train_samples : int
        Samples of an epoch, drawn anew in each.
    validation_samples, test_samples : int
        Fixed samples.
    seed : int
        Of all samples.
    root : path, optional
        Not used: there are no files to find.

    Raises
    ------
    OptionError
        When a number is outside its domain.
    """
    at_least(0, delay=delay)
    at_least(1, cue=cue)
    if channels < 2 or channels % 2:
        raise OptionError(f"dataset.channels must be an even number of at least 2, not {channels}")
    if not 0 <= noise < rate <= 1:
        raise OptionError(f"dataset.noise and dataset.rate must be 0 <= noise < rate <= 1, not {noise} and {rate}")
    return _generated(
        "delayed-xor", partial(draw_xor, delay=delay, cue=cue, channels=channels, rate=rate, noise=noise),
        (train_samples, validation_samples, test_samples), (XOR, seed, delay),
        steps=2 * cue + delay, channels=channels, classes=2, task="classification",
        paper="H. Zheng et al., Nature Communications 15, 277, 2024",
        note="not the recipe of the paper but one of the same kind; each label has about half of the samples",
    )  # fmt: skip


def draw_xor(
    random: np.random.RandomState, count: int, delay: int, cue: int, channels: int, rate: float, noise: float
) -> SequenceSplit:
    """Draw samples of the delayed XOR: spikes uint8 [count, 2 cue + delay, channels], labels [count]."""
    bits = random.randint(0, 2, (count, 2))
    shows = (np.arange(channels) >= channels // 2) == bits[:, :, None]  # [count, 2, channels]
    spikes = np.empty((count, 2 * cue + delay, channels), np.uint8)
    for start in range(0, count, BLOCK):  # in blocks, because random numbers take eight bytes each
        block = spikes[start : start + BLOCK]
        numbers = random.random_sample(block.shape)
        block[:] = numbers < noise
        for bit, steps in enumerate((slice(None, cue), slice(cue + delay, None))):
            showing = np.where(shows[start : start + BLOCK, bit, None], rate, noise)
            block[:, steps] = numbers[:, steps] < showing
    return SequenceSplit(torch.from_numpy(spikes), torch.from_numpy(bits[:, 0] ^ bits[:, 1]).long())


def _generated(
    name: str,
    draw: Draw,
    samples: tuple[int, int, int],
    key: tuple[int, ...],
    *,
    steps: int,
    channels: int,
    classes: int,
    task: Task,
    paper: str,
    note: str,
) -> SequenceDataset:
    counts = dict(zip(("train", "validation", "test"), samples, strict=True))
    at_least(1, **{f"{split}_samples": count for split, count in counts.items()})
    check_seed(key[1])
    return SequenceDataset(
        name=name,
        **streams(lambda split: draw, counts, *key),
        classes=classes,
        channels=channels,
        image_size=1,
        source=f"generated by benchmarks.datasets.memory_tasks, after {paper}",
        licence="none needed: generated data",
        note=f"{note}; training samples are drawn anew in every epoch, validation and test samples are always the same "
        "ones",
        steps=steps,
        task=task,
    )
