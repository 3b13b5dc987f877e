"""Tiny ImageNet: 200 classes of ImageNet at 64x64 pixels."""

from __future__ import annotations

from pathlib import Path

from benchmarks.datasets.base import Dataset, datasets
from benchmarks.datasets.fetch import Remote, remotes
from benchmarks.datasets.image_files import ImageFiles, class_folders, image_names, labelled_files, sorted_files
from benchmarks.datasets.image_folder import same_classes
from benchmarks.datasets.reading import Reading
from benchmarks.datasets.roots import find_form
from benchmarks.datasets.wnids import check_classes, check_counts, is_wnid, lacks_splits, read_lines, read_pairs
from neurons.errors import DataError

NAME = "tiny-imagenet"
FOLDER = "tiny-imagenet-200"
CLASSES, TRAIN, TEST = 200, 100_000, 10_000
SIZE = 64
LICENCE = "that of ImageNet: non-commercial research and education (https://image-net.org/download)"


def find(root: str | Path | None = None, own: bool = False) -> Path:
    """Return the folder with ``train`` and ``val``."""
    return find_form(NAME, {FOLDER: lacks_splits, ".": lacks_splits}, root, own=own)


remotes[NAME] = Remote(
    files={f"{FOLDER}.zip": "90528d7ca1a48142e341f4ef8d21d0de"},
    url="http://cs231n.stanford.edu",
    licence=LICENCE,
    checksum="md5",
    unpack=FOLDER,
    find=find,
)


@datasets.register(NAME)
def load(root: Path | None = None) -> Dataset:
    """Tiny ImageNet: 110,000 labelled pictures of 200 ImageNet classes, 64x64, read as they are needed.

    Read from ``tiny-imagenet-200``: ``train/WNID/images/*.JPEG``, and ``val/images`` with ``val_annotations.txt``,
    or ``val`` sorted into folders of the classes. Classes are numbered in the order of their WordNet ids.

    Raises
    ------
    DataError
        When files are missing, or a class has too few or too many.
    """
    folder = find(root)
    reading = Reading(SIZE)
    classes = [name for name in class_folders(folder / "train") if is_wnid(name)]
    if (folder / "wnids.txt").is_file() and (listed := sorted(read_lines(folder / "wnids.txt"))) != classes:
        raise DataError(f"{folder / 'train'} has {len(classes)} classes, other than the {len(listed)} of wnids.txt")
    check_classes(classes, CLASSES, folder / "train")
    train = sorted_files(folder / "train", classes, reading, "images")
    test = _validation(folder / "val", classes, reading)
    for split, part, total in ((train, "train", TRAIN), (test, "val", TEST)):
        check_counts(split.labels, classes, total, folder / part)
    return Dataset(
        name=NAME,
        train=train,
        test=test,
        classes=CLASSES,
        channels=3,
        image_size=SIZE,
        source="Stanford CS231n, http://cs231n.stanford.edu/tiny-imagenet-200.zip, from ImageNet "
        "(O. Russakovsky et al., arXiv:1409.0575)",
        licence=LICENCE,
        note="the labels of its test split are not published: the validation split is the test split here, as in the "
        "literature; grey pictures are converted to colour",
    )


def _validation(folder: Path, classes: list[str], reading: Reading) -> ImageFiles:
    annotations = folder / "val_annotations.txt"
    names = image_names(folder / "images") if annotations.is_file() and (folder / "images").is_dir() else []
    if not names:  # sorted into folders of the classes
        same_classes(classes, [name for name in class_folders(folder) if is_wnid(name)], folder)
        return sorted_files(folder, classes, reading, "images")
    known = read_pairs(annotations, "\t")
    missing = [name for name in names if name not in known]
    if missing:
        raise DataError(
            f"{annotations} names no class for {missing[0]}" + f" and {len(missing) - 1} more" * (len(missing) > 1)
        )
    number = {wnid: label for label, wnid in enumerate(classes)}
    wrong = next((known[name] for name in names if known[name] not in number), None)
    if wrong is not None:
        raise DataError(f"{annotations} has the class {wrong}, which train lacks")
    return labelled_files(
        folder, (f"images/{name}" for name in names), (number[known[name]] for name in names), reading
    )
