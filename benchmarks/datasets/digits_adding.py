"""Digits-Adding: two handwritten digits of 8x8 pixels one after the other, to be added."""

from __future__ import annotations

from pathlib import Path

from benchmarks.datasets import digits
from benchmarks.datasets.base import Samples, datasets
from benchmarks.datasets.drawing import check_seed
from benchmarks.datasets.pairs import adding
from benchmarks.datasets.pixel_sequence import By, sequences
from benchmarks.datasets.sequence import SequenceDataset

NAME = "digits-adding"
DIGITS = 10


@datasets.register(NAME)
def load(
    by: By = "row",
    train_pairs: int = 6_400,
    validation_pairs: int = 2_000,
    test_pairs: int = 4_000,
    seed: int = 0,
    root: Path | None = None,
) -> SequenceDataset:
    """Digits-Adding: two handwritten digits of 8x8 pixels, read one after the other; the label is their sum.

    The digits are those of ``digits``, which come with scikit-learn; the task is that of SHD-Adding (A. Spieler et al.,
    The Expressive Leaky Memory Neuron, ICLR 2024, arXiv:2306.16922), on real data that need no files.

    Parameters
    ----------
    by : {"row", "pixel"}
        What a step is: a row of 8 pixels (16 steps) or one pixel (128 steps).
    train_pairs : int
        Pairs of an epoch, drawn anew in each.
    validation_pairs, test_pairs : int
        Fixed pairs.
    seed : int
        Of all pairs.
    root : path, optional
        Not used: there are no files to find.

    Raises
    ------
    OptionError
        When a number is outside its domain.
    """
    check_seed(seed)
    images = digits.load()
    held_out = digits.every_fifth_of_each_class(images.train.labels)
    items: dict[str, Samples] = {
        name: sequences(split, by, "digits")
        for name, split in (
            ("train", images.train.subset((~held_out).nonzero().flatten())),
            ("validation", images.train.subset(held_out.nonzero().flatten())),
            ("test", images.test),
        )
    }
    counts = {"train": train_pairs, "validation": validation_pairs, "test": test_pairs}
    steps, channels = items["train"].sample_shape
    return SequenceDataset(
        name=NAME,
        **adding(items, DIGITS, counts, seed),
        classes=2 * DIGITS - 1,
        channels=channels,
        image_size=1,
        source=f"pairs of {images.source}",
        licence=images.licence,
        note=f"{images.note}; every fifth training digit of a class is kept for validation "
        f"({len(items['train']):,} and {len(items['validation'])}), and no pair mixes splits; training pairs are drawn "
        "anew in every epoch, validation and test pairs are always the same ones",
        steps=2 * steps,
        task="classification",
    )
