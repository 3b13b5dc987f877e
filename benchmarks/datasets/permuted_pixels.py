"""A data set whose pixels stand in another order: the same one in every image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.datasets.base import Dataset, Samples, Split, datasets
from benchmarks.datasets.fetch import ByHand, by_hand
from neurons.errors import OptionError

NAME = "permuted-pixels"
SEED = 92916
"""The seed of NumPy's RandomState(SEED).permutation(784) that many papers on permuted sequential MNIST share."""

by_hand[NAME] = ByHand("it is made of another data set, its option 'of': fetch that one")


@datasets.register(NAME)
def load(of: str = "fashion-mnist", seed: int = SEED, root: Path | None = None) -> Dataset:
    """Permuted pixels: another data set in memory with its pixels in one fixed random order, for sequence models.

    Read row by row these images are the sequences of the permuted sequential tasks, in which no neighbourhood is
    left. They are still [C, H, W], and all channels of a pixel stay together.

    Parameters
    ----------
    of : str
        Name of the data set.
    seed : int
        The order is ``numpy.random.RandomState(seed).permutation(H * W)``.
    root : path, optional
        Folder to search first.

    Raises
    ------
    OptionError
        For a data set that is read from files as it is needed, or is permuted itself.
    """
    if of == NAME:
        raise OptionError(f"dataset.of: {NAME} cannot be made of itself")
    if "path" in datasets.options(of):
        raise OptionError(f"dataset.of: {of} does not lie in memory, so its pixels cannot be permuted")
    if not 0 <= seed < 2**32:
        raise OptionError(f"dataset.seed must be from 0 to {2**32 - 1}, not {seed}")
    dataset = datasets.create(of, root=root)
    # RandomState: NumPy promises that its numbers stay the same for ever.
    order = torch.from_numpy(np.random.RandomState(seed).permutation(dataset.image_size**2))
    return replace(
        dataset,
        name=f"{NAME} of {of}",
        train=_permuted(dataset.train, order, of),
        test=_permuted(dataset.test, order, of),
        note=f"{dataset.note}; pixel i of an image is pixel order[i] of the original, where order is "
        f"numpy.random.RandomState({seed}).permutation({dataset.image_size**2})",
    )


def _permuted(split: Samples, order: torch.Tensor, of: str) -> Split:
    if not isinstance(split, Split):
        raise OptionError(f"dataset.of: {of} does not lie in memory, so its pixels cannot be permuted")
    return replace(split, images=permute(split.images, order))


def permute(images: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """Return images [B, C, H, W] whose pixel ``i`` is pixel ``order[i]`` of the given ones."""
    return images.flatten(2)[:, :, order].view(images.shape)
