"""notMNIST: letters in many fonts, in folders of pictures."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.datasets.base import Dataset, datasets
from benchmarks.datasets.fetch import ByHand, by_hand
from benchmarks.datasets.image_files import ImageFiles, image_names, labelled_files, sorted_files
from benchmarks.datasets.reading import Reading
from benchmarks.datasets.roots import find_form
from neurons.errors import DataError

NAME = "notmnist"
FOLDER = "notMNIST_small"
LETTERS = "ABCDEFGHIJ"
SIZE, EVERY = 28, 10
PARTS = "Train", "Test"
DAMAGED = {
    "A": "RGVtb2NyYXRpY2FCb2xkT2xkc3R5bGUgQm9sZC50dGY=.png",
    "F": "Q3Jvc3NvdmVyIEJvbGRPYmxpcXVlLnR0Zg==.png",
}
"""The two files of ``notMNIST_small`` that are no pictures."""
ADVICE = (
    "get notMNIST_small.tar.gz from http://yaroslavvb.blogspot.com/2011/09/notmnist-dataset.html and unpack it as "
    f"{FOLDER} in the data folder"
)


def _lacks(folder: Path) -> list[str]:
    """Return the folders of letters that are missing, or those of the splits where these are there."""
    parts = [part for part in PARTS if (folder / part).is_dir()]
    wanted = [f"{part}/{letter}" for part in PARTS for letter in LETTERS] if parts else list(LETTERS)
    return [name for name in wanted if not (folder / name).is_dir()]


def find(root: str | Path | None = None, own: bool = False) -> Path:
    """Return the folder with the folders A to J, or with ``Train`` and ``Test`` that have these."""
    return find_form(NAME, {FOLDER: _lacks, "notMNIST": _lacks, ".": _lacks}, root, advice=ADVICE, own=own)


by_hand[NAME] = ByHand(ADVICE, find)


@datasets.register(NAME)
def load(root: Path | None = None) -> Dataset:
    """notMNIST: letters A to J in about 18,700 grey pictures of fonts, 28x28, read as they are needed.

    Read from ``notMNIST_small`` with folders A to J, of which every tenth file of each in the order of names is for the
    test; or from a folder with ``Train`` and ``Test`` that each have these, a split that is kept.

    Raises
    ------
    DataError
        When a folder is missing or has no pictures.
    """
    folder = find(root)
    reading = Reading(SIZE, channels=1)
    if (folder / PARTS[0]).is_dir():
        train, test = (sorted_files(folder / part, LETTERS, reading) for part in PARTS)
        note = "the split of the folders Train and Test"
    else:
        train, test = _parted(folder, reading)
        note = (
            f"no official split: every {EVERY}th file of a letter, in the order of names, is for the test; two files "
            "that are no pictures are left out"
        )
    return Dataset(
        name=NAME,
        train=train,
        test=test,
        classes=len(LETTERS),
        channels=1,
        image_size=SIZE,
        source="Y. Bulatov, notMNIST dataset, 2011, http://yaroslavvb.blogspot.com/2011/09/notmnist-dataset.html",
        licence="none stated by the author; glyphs of fonts that are found on the web",
        note=note,
    )


def _parted(folder: Path, reading: Reading) -> tuple[ImageFiles, ImageFiles]:
    files: list[str] = []
    labels: list[int] = []
    held: list[bool] = []
    for label, letter in enumerate(LETTERS):
        names = [name for name in image_names(folder / letter) if name != DAMAGED.get(letter)]
        if len(names) < EVERY:
            raise DataError(f"{folder / letter} has {len(names)} pictures; a test split needs at least {EVERY}")
        files += [f"{letter}/{name}" for name in names]
        labels += [label] * len(names)
        held += [number % EVERY == EVERY - 1 for number in range(len(names))]
    whole = labelled_files(folder, files, labels, reading)
    test = torch.tensor(held)
    return whole.subset((~test).nonzero().flatten()), whole.subset(test.nonzero().flatten())
