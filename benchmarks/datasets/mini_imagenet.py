"""mini-ImageNet: 100 classes of ImageNet at 84x84 pixels, in the pickles in which people hand it on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.datasets.base import Dataset, Split, datasets
from benchmarks.datasets.fetch import ByHand, by_hand
from benchmarks.datasets.plain_pickle import read_plain_pickle
from benchmarks.datasets.roots import find_form, missing_files
from benchmarks.datasets.views import View
from neurons.errors import DataError

NAME = "mini-imagenet"
PARTS = {"train": 64, "val": 16, "test": 20}
"""Classes in each file."""
EACH, TRAIN = 600, 500
SIZE = 84
ADVICE = (
    "put mini-imagenet-cache-train.pkl, mini-imagenet-cache-val.pkl and mini-imagenet-cache-test.pkl, made from "
    "ImageNet as O. Vinyals et al. (NeurIPS 2016) and S. Ravi and H. Larochelle (ICLR 2017) say, in the data folder"
)


def _file(part: str) -> str:
    return f"mini-imagenet-cache-{part}.pkl"


def _lacks(folder: Path) -> list[str]:
    return missing_files(folder, map(_file, PARTS))


def find(root: str | Path | None = None, own: bool = False) -> Path:
    """Return the folder with the three pickles."""
    return find_form(NAME, {".": _lacks}, root, advice=ADVICE, own=own)


by_hand[NAME] = ByHand(ADVICE, find)


@datasets.register(NAME)
def load(root: Path | None = None) -> Dataset:
    """mini-ImageNet: 60,000 colour pictures of 100 ImageNet classes, 84x84; of each class 500 train, 100 test.

    For learning tasks one after the other, not for learning from few samples: the three files, of 64, 16 and 20
    classes, are put together, and every class has a part of the training and of the test split. Twenty tasks of five
    classes, 2,500 and 500 pictures each, are ``{name: split-tasks, of: mini-imagenet, tasks: 20, seed: 2022}``.

    Files are read without running what a pickle can ask for. All pictures stay in memory (1.3 GB).

    Raises
    ------
    DataError
        When a file is missing or damaged, or does not hold the pictures that it should.
    """
    folder = find(root)
    images = np.empty((sum(PARTS.values()) * EACH, SIZE, SIZE, 3), np.uint8)
    members: dict[str, np.ndarray] = {}
    start = 0
    for part, classes in PARTS.items():
        path = folder / _file(part)
        pictures, found = _read(path, classes)
        twice = sorted(set(found) & set(members))
        if twice:
            raise DataError(f"{path} has the class {twice[0]}, which another of the files has too")
        images[start : start + len(pictures)] = pictures
        members |= {name: start + places for name, places in found.items()}
        start += len(pictures)
    names = sorted(members)
    labels = np.empty(len(images), np.int64)
    for label, name in enumerate(names):
        labels[members[name]] = label
    whole = Split(torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels))
    train, test = (
        View(whole, torch.from_numpy(np.concatenate([members[name][part] for name in names])))
        for part in (slice(TRAIN), slice(TRAIN, None))
    )
    return Dataset(
        name=NAME,
        train=train,
        test=test,
        classes=len(names),
        channels=3,
        image_size=SIZE,
        source="O. Vinyals et al., Matching Networks for One Shot Learning, NeurIPS 2016, from ImageNet "
        "(O. Russakovsky et al., arXiv:1409.0575)",
        licence="that of ImageNet: non-commercial research and education (https://image-net.org/download)",
        note=f"classes in the order of their WordNet ids; no official split within classes: of each the first {TRAIN} "
        f"pictures in the order of its file are for training, the other {EACH - TRAIN} for the test",
    )


def _read(path: Path, classes: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the pictures of a file, uint8 [N, 84, 84, 3], and the places of each class among them."""
    try:
        with path.open("rb") as file:
            content = read_plain_pickle(file, path, ("u1", "i8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    known = {_text(key): value for key, value in content.items()} if isinstance(content, dict) else {}
    pictures, of_class = known.get("image_data"), known.get("class_dict")
    count = classes * EACH
    if not isinstance(pictures, np.ndarray) or pictures.dtype != np.uint8 or pictures.shape != (count, SIZE, SIZE, 3):
        shape = list(pictures.shape) if isinstance(pictures, np.ndarray) else "nothing"
        raise DataError(f"{path}: image_data must be bytes [{count}, {SIZE}, {SIZE}, 3], found {shape}")
    if not isinstance(of_class, dict) or len(of_class) != classes:
        raise DataError(f"{path}: class_dict must name the pictures of {classes} classes")
    found = {_text(name): _places(path, _text(name), places) for name, places in of_class.items()}
    if not np.array_equal(np.sort(np.concatenate(list(found.values()))), np.arange(count)):
        raise DataError(f"{path}: class_dict must put each of the {count} pictures in one class")
    return pictures, found


def _places(path: Path, name: str, places: Any) -> np.ndarray:
    numbers = np.asarray(places if isinstance(places, (list, tuple, np.ndarray)) else [])
    if numbers.shape != (EACH,) or numbers.dtype.kind not in "iu":
        raise DataError(f"{path}: class_dict must name {EACH} pictures of {name}")
    return numbers.astype(np.int64)


def _text(key: Any) -> str:
    return key.decode("latin1") if isinstance(key, bytes) else str(key)
