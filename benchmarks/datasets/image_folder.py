"""A user's own pictures: one folder for each class."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from benchmarks.datasets.base import Dataset, datasets
from benchmarks.datasets.fetch import ByHand, by_hand
from benchmarks.datasets.image_files import class_folders, sorted_files
from benchmarks.datasets.reading import Interpolation, Reading
from benchmarks.datasets.roots import search_roots
from neurons.errors import DataError

NAME = "image-folder"
TEST_FOLDERS = ("test", "val")

by_hand[NAME] = ByHand("give your own folder as its option 'path'")


@datasets.register(NAME)
def load(
    path: str,
    image_size: int = 64,
    channels: Literal[1, 3] = 3,
    crop_ratio: float = 1.0,
    interpolation: Interpolation = "bicubic",
    random_crop: bool = False,
    min_area: float = 0.08,
    root: Path | None = None,
) -> Dataset:
    """Image folder: your own pictures, in train/CLASS/ and test/CLASS/ (or val/CLASS/), read as they are needed.

    Parameters
    ----------
    path : str
        The folder. A path that is not absolute is looked for in the data folders, then in the working folder.
    image_size : int
        Side of the square to which images are brought, in pixels.
    channels : {1, 3}
        Grey or colour, to which all images are converted.
    crop_ratio, interpolation, random_crop, min_area
        See :class:`benchmarks.datasets.reading.Reading`.
    root : path, optional
        Folder to search first.

    Raises
    ------
    DataError
        When a split is missing, or the classes of the two differ.
    OptionError
        When a number is outside its domain.
    """
    reading = Reading(image_size, channels, crop_ratio, interpolation, random_crop, min_area)
    folder = _find(path, root)
    classes = class_folders(folder / "train")
    if not classes:
        raise DataError(f"{folder / 'train'} has no folders; it needs one for each class")
    test = next((part for part in TEST_FOLDERS if (folder / part).is_dir() and class_folders(folder / part)), None)
    if test is None:
        raise DataError(f"{folder} has no test split: no folder of each class in test or val")
    same_classes(classes, class_folders(folder / test), folder / test)
    return Dataset(
        name=NAME,
        train=sorted_files(folder / "train", classes, reading),
        test=sorted_files(folder / test, classes, reading),
        classes=len(classes),
        channels=channels,
        image_size=image_size,
        source=str(folder),
        licence="that of the pictures",
        note=f"the folder {test} is the test split; classes in the order of their names: {', '.join(classes[:10])}"
        + (f" and {len(classes) - 10} more" if len(classes) > 10 else ""),
    )


def same_classes(train: list[str], other: list[str], folder: Path) -> None:
    """Raise DataError unless ``folder``, which has the classes ``other``, has those of the training split."""
    unknown, absent = sorted(set(other) - set(train)), sorted(set(train) - set(other))
    if unknown or absent:
        which, names = ("has folders of no class of train", unknown) if unknown else ("lacks classes of train", absent)
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        raise DataError(f"{folder} {which}: {shown}")


def _find(path: str, root: Path | None) -> Path:
    given = Path(path).expanduser()
    looked = [given] if given.is_absolute() else [*(place / given for place in search_roots(root)), Path.cwd() / given]
    for folder in looked:
        if (folder / "train").is_dir():
            return folder
    shown = ", ".join(str(folder) for folder in looked)
    raise DataError(f"dataset.path: no folder {path!r} with a folder 'train' in it; looked at {shown}")
