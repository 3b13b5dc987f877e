"""Fashion-MNIST: the full set with its official split."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.datasets.base import Dataset, Split, datasets
from benchmarks.datasets.fetch import Remote, remotes
from benchmarks.datasets.idx import read_idx
from benchmarks.datasets.roots import find

NAME = "fashion-mnist"
LICENCE = "MIT, Copyright (c) 2017 Zalando SE"

FILES = {
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""Sha256 of the decompressed content: distributions compress the files anew."""

remotes[NAME] = Remote(
    files=FILES,
    url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
    debian_package="dataset-fashion-mnist",
    debian_folder="usr/share/datasets/fashion-mnist",
    licence=LICENCE,
)


@datasets.register(NAME)
def load(root: Path | None = None) -> Dataset:
    """Fashion-MNIST: 70,000 grey pictures of clothes, 28x28, 10 classes, official split 60,000/10,000.

    The content of every file is checked against the published one.

    Raises
    ------
    DataError
        When the files are missing, truncated or altered.
    """
    folder = find(NAME, FILES, root)
    return Dataset(
        name=NAME,
        train=_split(folder, "train"),
        test=_split(folder, "t10k"),
        classes=10,
        channels=1,
        image_size=28,
        source="H. Xiao, K. Rasul and R. Vollgraf, https://github.com/zalandoresearch/fashion-mnist, arXiv:1708.07747",
        licence=LICENCE,
        note="official split; it names no validation split, which must be taken from the training images",
    )


def _split(folder: Path, part: str) -> Split:
    files = (f"{part}-images-idx3-ubyte.gz", f"{part}-labels-idx1-ubyte.gz")
    images, labels = (read_idx(folder / file, FILES[file]) for file in files)
    return Split(images.unsqueeze(1), labels.to(torch.int64))
