"""SVHN: house numbers from street pictures, cropped to single digits."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.datasets.base import Dataset, Split, datasets
from benchmarks.datasets.fetch import Remote, remotes
from benchmarks.datasets.packed import check_md5
from benchmarks.datasets.roots import find_form, missing_files
from neurons.errors import DataError

NAME = "svhn"
LICENCE = "for non-commercial use only, as the authors state"
FILES = {
    "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
    "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
}
"""MD5 of the files as published, which torchvision states too."""
SIZE = 32


def find(root: str | Path | None = None, own: bool = False) -> Path:
    """Return the folder with the two files."""
    return find_form(NAME, {".": partial(missing_files, files=FILES)}, root, own=own)


remotes[NAME] = Remote(
    files=FILES,
    url="http://ufldl.stanford.edu/housenumbers",
    licence=LICENCE,
    checksum="md5",
    find=find,
)


@datasets.register(NAME)
def load(root: Path | None = None) -> Dataset:
    """SVHN: 99,289 house-number digits in colour, 32x32, 10 classes, official split 73,257/26,032 without "extra".

    Raises
    ------
    DataError
        When the files are missing or altered.
    """
    folder = find(root)
    return Dataset(
        name=NAME,
        train=_split(folder / "train_32x32.mat"),
        test=_split(folder / "test_32x32.mat"),
        classes=10,
        channels=3,
        image_size=SIZE,
        source="Y. Netzer et al., Reading Digits in Natural Images with Unsupervised Feature Learning, NIPS 2011 "
        "workshop, http://ufldl.stanford.edu/housenumbers",
        licence=LICENCE,
        note="official split, without the additional training set; it names no validation split, which must be taken "
        "from the training images; neighbouring digits are in many pictures",
    )


def _split(path: Path) -> Split:
    """Read ``X`` [32, 32, 3, N] and ``y`` [N, 1] of a MATLAB file, in which 10 stands for the digit 0."""
    check_md5(path, FILES[path.name])
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content = loadmat(path, variable_names=("X", "y"))
    except (MatReadError, ValueError, TypeError, NotImplementedError, OSError) as error:
        raise DataError(f"{path} cannot be read as a MATLAB file: {error}") from error
    images, labels = content.get("X"), content.get("y")
    if images is None or labels is None or images.dtype != np.uint8 or images.shape[:3] != (SIZE, SIZE, 3):
        raise DataError(f"{path} is no SVHN file: X must be bytes [{SIZE}, {SIZE}, 3, N], with labels y")
    kinds = torch.from_numpy(labels.astype(np.int64)).flatten()
    if images.ndim != 4 or len(kinds) != images.shape[3] or not 1 <= int(kinds.min()) <= int(kinds.max()) <= 10:
        raise DataError(f"{path} is no SVHN file: y must be {images.shape[-1]} labels from 1 to 10")
    return Split(torch.from_numpy(np.ascontiguousarray(images.transpose(3, 2, 0, 1))), kinds % 10)
