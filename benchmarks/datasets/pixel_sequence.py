"""Images read pixel by pixel or row by row."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from benchmarks.datasets import permuted_pixels
from benchmarks.datasets.base import Dataset, Samples, Split, datasets
from benchmarks.datasets.fetch import ByHand, by_hand
from benchmarks.datasets.sequence import SequenceDataset, SequenceSplit
from neurons.errors import OptionError

NAME = "pixel-sequence"
By = Literal["pixel", "row"]

by_hand[NAME] = ByHand("it is made of another data set, its option 'of': fetch that one")


@datasets.register(NAME)
def load(
    of: str = "fashion-mnist", by: By = "pixel", permuted: bool = False, root: Path | None = None
) -> SequenceDataset:
    """Pixel sequence: the images of another data set in memory, read pixel by pixel or row by row.

    Sequential MNIST and its permuted form (Q. V. Le, N. Jaitly and G. E. Hinton, A Simple Way to Initialize Recurrent
    Networks of Rectified Linear Units, arXiv:1504.00941) and sequential CIFAR-10 are of this kind.

    Parameters
    ----------
    of : str
        Name of the data set.
    by : {"pixel", "row"}
        What a step is: a pixel with its channels, rows from top to bottom and each from left to right; or a row
        with all its pixels, the channels of a pixel beside each other.
    permuted : bool
        Put the pixels in another order first, that of ``permuted-pixels`` with its standard seed.
    root : path, optional
        Folder to search first.

    Raises
    ------
    OptionError
        When ``of`` does not lie in memory or is no set of images.
    """
    images = _images(of, permuted, root)
    splits = {name: sequences(split, by, of) for name, split in images.splits.items()}
    steps, channels = splits["train"].sample_shape
    order = "row by row" if by == "row" else "pixel by pixel"
    return SequenceDataset(
        name=f"{NAME} of {images.name}",
        train=splits["train"],
        test=splits["test"],
        validation=splits.get("validation"),
        classes=images.classes,
        channels=channels,
        image_size=1,
        source=images.source,
        licence=images.licence,
        note=f"{images.note}; read {order} from the upper left, {steps} steps of {channels} values",
        steps=steps,
        task="classification",
    )


def _images(of: str, permuted: bool, root: Path | None) -> Dataset:
    if of == NAME:
        raise OptionError(f"dataset.of: {NAME} cannot be made of itself")
    options = datasets.options(of)
    if permuted:
        return permuted_pixels.load(of, root=root)
    if "path" in options or any(parameter.default is parameter.empty for parameter in options.values()):
        raise OptionError(f"dataset.of: {of} is not a set of images in memory, so it cannot be read as sequences")
    return datasets.create(of, root=root)


def sequences(split: Samples, by: By, of: str) -> SequenceSplit:
    """Return a split of images [C, H, W] as sequences, [H * W, C] by pixel and [H, W * C] by row.

    Raises
    ------
    OptionError
        When the images do not lie in memory.
    """
    if not isinstance(split, Split):
        raise OptionError(f"dataset.of: {of} is not a set of images in memory, so it cannot be read as sequences")
    if by not in ("pixel", "row"):
        raise OptionError(f"dataset.by is pixel or row, not {by!r}")
    pixels = split.images.permute(0, 2, 3, 1)  # [N, H, W, C]
    return SequenceSplit(pixels.flatten(1, 2) if by == "pixel" else pixels.flatten(2), split.labels, split.full_scale)
