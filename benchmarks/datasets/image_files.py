"""A split whose images stay in their files until they are asked for."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.datasets.base import Indices
from benchmarks.datasets.reading import Reading
from neurons.errors import DataError, ShapeError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
AHEAD = 2
"""Batches that are read while one is used."""


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Labelled image files, decoded when they are asked for, in as many threads as torch uses.

    Parameters
    ----------
    folder : Path
        What the paths are relative to.
    files : array of bytes, shape [N]
        Paths below ``folder``, in the encoding of the file system: a tenth of the memory of Python's strings.
    labels : Tensor of int64, shape [N]
        Class of each image, from 0.
    reading : Reading
        What becomes of an image.
    numbers : Tensor of int64, shape [N], optional
        What tells the images apart in random crops; their places when left out.
    epoch : tuple of int, optional
        Seed and epoch of the training that reads; None for evaluation.
    """

    folder: Path
    files: np.ndarray
    labels: Tensor
    reading: Reading
    numbers: Tensor | None = None
    epoch: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.labels.dtype != torch.int64 or tuple(self.labels.shape) != self.files.shape:
            raise ShapeError(
                f"labels must be an int64 tensor [{len(self.files)}], one for each file, "
                f"not {self.labels.dtype} {list(self.labels.shape)}"
            )

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape [C, H, W] of an image."""
        return self.reading.channels, self.reading.image_size, self.reading.image_size

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Return the images at ``indices`` as float32 [B, C, H, W] in [0, 1] and their labels as int64 [B].

        Raises
        ------
        DataError
            In one line that names the file that cannot be read.
        """
        return next(self.batches([indices]))

    def batches(self, chunks: Iterable[Indices]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield ``batch(indices)`` for each of ``chunks``, the next ones being read meanwhile."""
        pool = ThreadPoolExecutor(torch.get_num_threads(), "images")
        waiting: deque[tuple[list[Future[np.ndarray]], Tensor]] = deque()
        try:
            for chunk in chunks:
                places = torch.arange(len(self))[chunk]
                waiting.append(([pool.submit(self._read, place) for place in places.tolist()], self.labels[places]))
                if len(waiting) > AHEAD:
                    yield self._collect(*waiting.popleft())
            while waiting:
                yield self._collect(*waiting.popleft())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def subset(self, indices: Indices) -> ImageFiles:
        """Return the split that holds only the images at ``indices``, in that order."""
        places = torch.arange(len(self))[indices]
        numbers = places if self.numbers is None else self.numbers[places]
        return replace(self, files=self.files[places.numpy()], labels=self.labels[places], numbers=numbers)

    def training(self, seed: int, epoch: int) -> ImageFiles:
        """Return the split with other random crops in every epoch, the same ones for the same seed."""
        return replace(self, epoch=(seed, epoch)) if self.reading.random_crop else self

    def path(self, index: int) -> Path:
        """Return the path of an image."""
        return self.folder / os.fsdecode(self.files[index])

    def _read(self, index: int) -> np.ndarray:
        if self.epoch is None:
            return self.reading.read(self.path(index))
        number = index if self.numbers is None else int(self.numbers[index])
        return self.reading.read(self.path(index), np.random.default_rng([*self.epoch, number]))

    def _collect(self, images: list[Future[np.ndarray]], labels: Tensor) -> tuple[Tensor, Tensor]:
        raw = np.stack([image.result() for image in images]) if images else np.empty((0, *self.sample_shape), np.uint8)
        return torch.from_numpy(raw).to(torch.float32) / 255.0, labels


def class_folders(folder: Path) -> list[str]:
    """Return the names of the folders in ``folder``, sorted; hidden ones are left out.

    Raises
    ------
    DataError
        When it is not there or cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except FileNotFoundError:
        raise DataError(f"{folder} does not exist") from None
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror or error}") from error


def image_names(folder: Path) -> list[str]:
    """Return the names of the image files in ``folder``, sorted; hidden files and other kinds are left out."""
    try:
        with os.scandir(folder) as entries:
            found = [e.name for e in entries if e.name.lower().endswith(SUFFIXES) and not e.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror or error}") from error
    return sorted(found)


def labelled_files(folder: Path, files: Iterable[str], labels: Iterable[int], reading: Reading) -> ImageFiles:
    """Return the split of some files below ``folder`` with their labels."""
    return ImageFiles(
        folder, np.array([os.fsencode(file) for file in files]), torch.tensor(list(labels), dtype=torch.int64), reading
    )


def sorted_files(folder: Path, classes: Iterable[str], reading: Reading, inner: str = "") -> ImageFiles:
    """Return the split of a folder with one folder for each class.

    Parameters
    ----------
    folder : Path
    classes : iterable of str
        Names of the folders; their order numbers the labels.
    reading : Reading
    inner : str
        Folder within each of them that holds the images; where it is not there, they lie in the class folder.

    Raises
    ------
    DataError
        When a class has no images.
    """
    files: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        below = f"{name}/{inner}" if inner and (folder / name / inner).is_dir() else name
        found = image_names(folder / below)
        if not found:
            raise DataError(f"{folder / below} has no images ({', '.join(SUFFIXES)})")
        files += [f"{below}/{file}" for file in found]
        labels += [label] * len(found)
    return labelled_files(folder, files, labels, reading)
