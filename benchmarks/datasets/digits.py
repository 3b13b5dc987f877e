"""Handwritten digits of 8x8 pixels, which come with scikit-learn: small enough to train on in a minute."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.datasets.base import Dataset, Split, datasets

GREY_LEVELS = 16.0
"""Largest raw value: a pixel counts the set bits of a 4x4 block."""


@datasets.register("digits")
def load(root: Path | None = None) -> Dataset:
    """Digits: 1,797 handwritten digits, 8x8 pixels of 17 grey levels, 10 classes; comes with scikit-learn.

    ``root`` is not used: there are no files to find. The pictures are the test part of the "Optical
    Recognition of Handwritten Digits" data (E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, 1998).
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.from_numpy(bunch.images).to(torch.uint8).unsqueeze(1)
    labels = torch.from_numpy(bunch.target).to(torch.int64)
    test = every_fifth_of_each_class(labels)
    return Dataset(
        name="digits",
        train=Split(images[~test], labels[~test], GREY_LEVELS),
        test=Split(images[test], labels[test], GREY_LEVELS),
        classes=10,
        channels=1,
        image_size=8,
        source="scikit-learn load_digits (UCI Optical Recognition of Handwritten Digits, https://doi.org/10.24432/C50P49)",
        licence="CC BY 4.0 (UCI), distributed with scikit-learn (BSD-3-Clause)",
        note=(
            "scikit-learn's set has no official split: within each class every fifth sample in file order is test "
            "(1,442 train, 355 test); the same writers occur in both, so accuracy is higher than on new writers"
        ),
    )


def every_fifth_of_each_class(labels: torch.Tensor) -> torch.Tensor:
    """Return a mask [N] that is true for the 5th, 10th, 15th ... sample of each class in the given order."""
    mask = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        mask[(labels == label).nonzero().flatten()[4::5]] = True
    return mask
