"""CIFAR-10 and CIFAR-100 in all the forms in which their authors publish them, packed or unpacked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from benchmarks.datasets.base import Dataset, Split, datasets
from benchmarks.datasets.fetch import Remote, remotes
from benchmarks.datasets.packed import check_md5, read_packed
from benchmarks.datasets.plain_pickle import read_plain_pickle
from benchmarks.datasets.roots import Lacks, find_form, missing_files
from neurons.errors import DataError

SIZE = 32
PIXELS = 3 * SIZE * SIZE
URL = "https://www.cs.toronto.edu/~kriz"
SOURCE = f"A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009, {URL}/cifar.html"
LICENCE = "none stated by the authors, who ask to cite the report"


@dataclass(frozen=True)
class Form:
    """One of the forms of a data set: a folder, or the archive of it.

    Attributes
    ----------
    folder, archive : str
        Name of the folder and of the archive that holds it.
    archive_md5 : str
        Published checksum of the archive.
    train, test : mapping
        File to its MD5, empty where none is published.
    labels : tuple of str
        Names of the labels in the order of a binary record, or the keys of a pickle.
    """

    folder: str
    archive: str
    archive_md5: str
    train: Mapping[str, str]
    test: Mapping[str, str]
    labels: tuple[str, ...]

    @property
    def files(self) -> dict[str, str]:
        """All files with their checksums."""
        return {**self.train, **self.test}

    @property
    def binary(self) -> bool:
        """Whether the files are plain records, not pickles."""
        return all(file.endswith(".bin") for file in self.files)


@dataclass(frozen=True)
class Cifar:
    """A data set of the family.

    Attributes
    ----------
    name : str
    classes : mapping
        Kind of label to the number of its classes.
    train, test : int
        Images in each split, the same number of every class.
    forms : tuple of Form
    """

    name: str
    classes: Mapping[str, int]
    train: int
    test: int
    forms: tuple[Form, ...]

    def find(self, root: str | Path | None = None, own: bool = False) -> Path:
        """Return the folder or archive that is read."""
        places: dict[str, Lacks] = {form.folder: partial(missing_files, files=form.files) for form in self.forms}
        places |= {form.archive: _no_file for form in self.forms}
        places["."] = partial(_missing_of_all, forms=self.forms)
        return find_form(self.name, places, root, own=own)


CIFAR10 = Cifar(
    "cifar10", {"labels": 10}, 50_000, 10_000,
    (
        Form(
            "cifar-10-batches-py", "cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a",
            {
                "data_batch_1": "c99cafc152244af753f735de768cd75f",
                "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
                "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
                "data_batch_4": "634d18415352ddfa80567beed471001a",
                "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            },
            {"test_batch": "40351d587109b95175f43aff81a1287e"},
            ("labels",),
        ),
        Form(
            "cifar-10-batches-bin", "cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530",
            {f"data_batch_{number}.bin": "" for number in range(1, 6)}, {"test_batch.bin": ""}, ("labels",),
        ),
    ),
)  # fmt: skip

CIFAR100 = Cifar(
    "cifar100", {"coarse": 20, "fine": 100}, 50_000, 10_000,
    (
        Form(
            "cifar-100-python", "cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85",
            {"train": "16019d7e3df5f24257cddd939b257f8d"}, {"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
            ("coarse_labels", "fine_labels"),
        ),
        Form(
            "cifar-100-binary", "cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8",
            {"train.bin": ""}, {"test.bin": ""}, ("coarse_labels", "fine_labels"),
        ),
    ),
)  # fmt: skip

for _set in (CIFAR10, CIFAR100):
    remotes[_set.name] = Remote(
        files={_set.forms[0].archive: _set.forms[0].archive_md5},
        url=URL,
        licence=LICENCE,
        checksum="md5",
        find=_set.find,
    )


@datasets.register("cifar10")
def load_cifar10(root: Path | None = None) -> Dataset:
    """CIFAR-10: 60,000 colour pictures of 10 kinds of things, 32x32, official split 50,000/10,000.

    Read from ``cifar-10-batches-py``, ``cifar-10-batches-bin`` or the archive of either, as it is.

    Raises
    ------
    DataError
        When the files are missing, truncated or altered.
    """
    return _load(CIFAR10, "labels", root)


@datasets.register("cifar100")
def load_cifar100(labels: Literal["fine", "coarse"] = "fine", root: Path | None = None) -> Dataset:
    """CIFAR-100: 60,000 colour pictures of 100 kinds of things, 32x32, official split 50,000/10,000.

    Read from ``cifar-100-python``, ``cifar-100-binary`` or the archive of either, as it is.

    Parameters
    ----------
    labels : {"fine", "coarse"}
        The 100 classes, or the 20 superclasses of five each.
    root : path, optional
        Folder to search first.

    Raises
    ------
    DataError
        When the files are missing, truncated or altered.
    """
    return _load(CIFAR100, labels, root)


def _load(which: Cifar, kind: str, root: Path | None) -> Dataset:
    path = which.find(root)
    form = next(form for form in which.forms if _holds(form, path))
    contents = _contents(form, path)
    train, test = (
        _split(which, form, {path / file: contents[file] for file in files}, kind, total)
        for files, total in ((form.train, which.train), (form.test, which.test))
    )
    unchecked = form.binary and path.is_dir()
    return Dataset(
        name=which.name,
        train=train,
        test=test,
        classes=which.classes[kind],
        channels=3,
        image_size=SIZE,
        source=SOURCE,
        licence=LICENCE,
        note="official split; it names no validation split, which must be taken from the training images"
        + (f"; the {which.classes[kind]} superclasses" if kind == "coarse" else "")
        + ("; unpacked binary files, of which no checksum is published: counts checked only" if unchecked else ""),
    )


def _holds(form: Form, path: Path) -> bool:
    return path.name == form.archive if path.is_file() else not missing_files(path, form.files)


def _contents(form: Form, path: Path) -> dict[str, bytes]:
    """Return the content of every file, checked where a checksum is published."""
    if path.is_file():
        if form.binary:
            check_md5(path, form.archive_md5)
        contents = read_packed(path, {f"{form.folder}/{file}": file for file in form.files})
    else:
        contents = {file: _read(path / file) for file in form.files}
    for file, md5 in form.files.items():
        if md5 and hashlib.md5(contents[file], usedforsecurity=False).hexdigest() != md5:
            raise DataError(
                f"{path / file} is not the published file: its MD5 is not {md5}; delete {path} and fetch it again"
            )
    return contents


def _split(which: Cifar, form: Form, contents: Mapping[Path, bytes], kind: str, total: int) -> Split:
    """Put the files of a split together, and check how many images of every class it has."""
    parts = [(_records if form.binary else _pickled)(content, path, form) for path, content in contents.items()]
    images = torch.cat([images for images, _ in parts])
    kinds = torch.cat([labels for _, labels in parts], dim=1)
    where = next(iter(contents)).parent
    for (name, classes), labels in zip(which.classes.items(), kinds, strict=True):
        counts = labels.bincount(minlength=classes)
        if len(counts) != classes or (counts * classes != total).any():
            raise DataError(
                f"{where}: {', '.join(path.name for path in contents)} must have {total // classes:,} images of each "
                f"of {classes} classes ({name}), found {len(labels):,} images, {int(counts.min()):,} to "
                f"{int(counts.max()):,} of each of {len(counts)} classes"
            )
    return Split(images, kinds[list(which.classes).index(kind)])


def _records(content: bytes, path: Path, form: Form) -> tuple[Tensor, Tensor]:
    """Read records of label bytes and the red, green and blue plane; return images and labels [kinds, N]."""
    size = len(form.labels) + PIXELS
    if not content or len(content) % size:
        raise DataError(
            f"{path} is truncated or no CIFAR file: its {len(content):,} bytes are no whole number of records of "
            f"{size:,} bytes"
        )
    records = torch.frombuffer(bytearray(content), dtype=torch.uint8).view(-1, size)
    images = records[:, len(form.labels) :].reshape(-1, 3, SIZE, SIZE)
    return images, records[:, : len(form.labels)].T.to(torch.int64)


def _pickled(content: bytes, path: Path, form: Form) -> tuple[Tensor, Tensor]:
    """Read a dict with ``data`` [N, 3072] and lists of labels; return images and labels [kinds, N]."""
    found = read_plain_pickle(content, path)
    keys = (
        {key.decode("latin1") if isinstance(key, bytes) else key: key for key in found}
        if isinstance(found, dict)
        else {}
    )
    missing = [key for key in ("data", *form.labels) if key not in keys]
    if missing:
        raise DataError(f"{path} is no CIFAR file: it lacks {', '.join(missing)}")
    data, labels = found[keys["data"]], [found[keys[key]] for key in form.labels]
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != PIXELS:
        raise DataError(f"{path} is no CIFAR file: its data must be an array of bytes [N, {PIXELS}]")
    for key, each in zip(form.labels, labels, strict=True):
        if not isinstance(each, list) or len(each) != len(data) or not _are_labels(each):
            raise DataError(f"{path} is no CIFAR file: its {key} must be a list of {len(data)} numbers from 0 to 255")
    return torch.from_numpy(data).view(-1, 3, SIZE, SIZE), torch.tensor(labels, dtype=torch.int64)


def _are_labels(values: Iterable[object]) -> bool:
    return all(isinstance(value, int) and 0 <= value <= 255 for value in values)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _no_file(path: Path) -> list[str]:
    return [] if path.is_file() else ["a file of that name"]


def _missing_of_all(folder: Path, forms: Iterable[Form]) -> list[str]:
    """Return what is missing of the form that is nearest to complete."""
    return min((missing_files(folder, form.files) for form in forms), key=len)
