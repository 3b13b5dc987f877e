"""MNIST: the full set with its official split."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from benchmarks.datasets.base import Dataset, Split, datasets
from benchmarks.datasets.fetch import Remote, remotes
from benchmarks.datasets.idx import read_idx
from benchmarks.datasets.roots import find_form, missing_files
from neurons.errors import DataError

NAME = "mnist"
LICENCE = "none stated by the authors; usually cited as CC BY-SA 3.0"
FILES = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}
"""MD5 of the files as published, which torchvision states too."""
TORCHVISION = "MNIST/raw"
SIZE = 28
COUNTS = {
    "train": (5_923, 6_742, 5_958, 6_131, 5_842, 5_421, 5_918, 6_265, 5_851, 5_949),
    "t10k": (980, 1_135, 1_032, 1_010, 982, 892, 958, 1_028, 974, 1_009),
}
"""Images of each class; files of other sets, such as Fashion-MNIST, have the same names."""


def find(root: str | Path | None = None, own: bool = False) -> Path:
    """Return the folder with the four files: that of the data set, or the one in which torchvision keeps them."""
    lacks = partial(missing_files, files=FILES)
    return find_form(NAME, {TORCHVISION: lacks, ".": lacks}, root, own=own)


remotes[NAME] = Remote(
    files=FILES,
    url="https://ossci-datasets.s3.amazonaws.com/mnist",
    licence=LICENCE,
    checksum="md5",
    find=find,
)


@datasets.register(NAME)
def load(root: Path | None = None) -> Dataset:
    """MNIST: 70,000 handwritten digits, 28x28 grey pixels, 10 classes, official split 60,000/10,000.

    The images of each class are counted; checksums are not compared: distributions compress the files anew.

    Raises
    ------
    DataError
        When the files are missing, truncated or those of another set.
    """
    folder = find(root)
    return Dataset(
        name=NAME,
        train=_split(folder, "train"),
        test=_split(folder, "t10k"),
        classes=10,
        channels=1,
        image_size=SIZE,
        source="Y. LeCun, C. Cortes and C. Burges, The MNIST database of handwritten digits, "
        "http://yann.lecun.com/exdb/mnist/",
        licence=LICENCE,
        note="official split; it names no validation split, which must be taken from the training images",
    )


def _split(folder: Path, part: str) -> Split:
    paths = folder / f"{part}-images-idx3-ubyte.gz", folder / f"{part}-labels-idx1-ubyte.gz"
    images, labels = (read_idx(path) for path in paths)
    kinds, counts = labels.to(torch.int64).flatten(), COUNTS[part]
    if tuple(images.shape) != (sum(counts), SIZE, SIZE):
        raise DataError(
            f"{paths[0]} is not that of MNIST: it must hold {sum(counts):,} images {SIZE}x{SIZE}, not "
            f"{' x '.join(map(str, images.shape))} bytes"
        )
    if kinds.bincount(minlength=len(counts)).tolist() != list(counts):
        raise DataError(f"{paths[1]} is not that of MNIST: it has other numbers of the ten digits")
    return Split(images.unsqueeze(1), kinds)
