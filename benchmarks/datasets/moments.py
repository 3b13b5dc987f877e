"""Mean and standard deviation of the pixels of a split, by which networks standardise their input."""

from __future__ import annotations

import torch

from benchmarks.datasets.base import Samples

CHUNK = 4_096


def moments(split: Samples) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of the pixels in [0, 1] over all samples, one of each for every channel.

    These are what the encoder ``standardised`` takes. All samples are read once.
    """
    channels = split.sample_shape[0]
    sums, squares, count = torch.zeros(channels).double(), torch.zeros(channels).double(), 0
    for x, _ in split.batches(torch.arange(len(split)).split(CHUNK)):
        flat = x.transpose(0, 1).flatten(1)
        sums += flat.sum(1).double()
        squares += flat.square().sum(1).double()
        count += flat.shape[1]
    mean = sums / count
    return tuple(mean.tolist()), tuple((squares / count - mean.square()).clamp(min=0).sqrt().tolist())


def said(split: Samples) -> str:
    """Return the moments of a split in words, for the note of a data set."""
    mean, sd = (", ".join(f"{value:.4f}" for value in values) for values in moments(split))
    return f"training pixels have mean {mean} and standard deviation {sd}"
