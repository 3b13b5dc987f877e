"""Handwritten digits of 8x8 pixels enlarged to the size of MNIST, for tasks that need no files."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn import functional

from benchmarks.datasets import digits
from benchmarks.datasets.base import Dataset, Split, datasets
from benchmarks.datasets.drawing import random_state

NAME = "digits-28"
SIZE, TRAIN = 28, 1_300


@datasets.register(NAME)
def load(root: Path | None = None) -> Dataset:
    """Digits-28: scikit-learn's 1,797 handwritten digits of 8x8 pixels, enlarged to 28x28; 1,300 train, 497 test.

    A stand-in for MNIST of its shape and its classes, not of its difficulty: pictures are bilinear enlargements.
    ``root`` is not used: there are no files to find.
    """
    small = digits.load()
    images = torch.cat([split.batch(slice(None))[0] for split in (small.train, small.test)])
    labels = torch.cat([small.train.labels, small.test.labels])
    large = functional.interpolate(images, size=(SIZE, SIZE), mode="bilinear", align_corners=False).clamp_(0, 1)
    order = torch.from_numpy(random_state(0).permutation(len(labels)))
    train, test = (Split(large[part], labels[part], 1.0) for part in (order[:TRAIN], order[TRAIN:]))
    return Dataset(
        name=NAME,
        train=train,
        test=test,
        classes=10,
        channels=1,
        image_size=SIZE,
        source=small.source,
        licence=small.licence,
        note=f"8x8 pixels enlarged bilinearly to 28x28; no official split: {TRAIN:,} for training drawn at random, "
        f"always the same ones, and the other {len(test)} for the test; the same writers occur in both",
    )
