"""ImageNet (ILSVRC 2012) as it is unpacked: sorted training images, sorted or flat validation images."""

from __future__ import annotations

from pathlib import Path

from benchmarks.datasets.base import Dataset, datasets
from benchmarks.datasets.fetch import ByHand, by_hand
from benchmarks.datasets.image_files import ImageFiles, class_folders, image_names, labelled_files, sorted_files
from benchmarks.datasets.image_folder import same_classes
from benchmarks.datasets.reading import Interpolation, Reading
from benchmarks.datasets.roots import find_form
from benchmarks.datasets.wnids import (
    check_classes,
    check_counts,
    is_wnid,
    lacks_splits,
    read_lines,
    read_pairs,
    read_wnids,
)
from neurons.errors import DataError

NAME = "imagenet"
CLASSES, TRAIN, TEST = 1_000, 1_281_167, 50_000
FOLDERS = ("imagenet", "ILSVRC2012", "ILSVRC/Data/CLS-LOC", ".")
DEVKIT = ("ILSVRC2012_devkit_t12/data", "devkit/data", "data", ".")
"""Where the ground truth of the development kit is looked for, below the folder with ``train`` and ``val``."""
TRUTH, META = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"
WNID_LISTS = ("val_wnids.txt", "imagenet_2012_validation_synset_labels.txt")
KAGGLE = "LOC_val_solution.csv"
ADVICE = (
    "get ILSVRC2012 from https://image-net.org/download, which asks for an account, and unpack it to train/WNID/*.JPEG "
    "and val/ in a folder 'imagenet' of a data folder"
)


def find(root: str | Path | None = None, own: bool = False) -> Path:
    """Return the folder with ``train`` and ``val``."""
    return find_form(NAME, dict.fromkeys(FOLDERS, lacks_splits), root, advice=ADVICE, own=own)


by_hand[NAME] = ByHand(ADVICE, find)


@datasets.register(NAME)
def load(
    image_size: int = 224,
    crop_ratio: float = 0.875,
    interpolation: Interpolation = "bicubic",
    random_crop: bool = True,
    min_area: float = 0.08,
    val_labels: str | None = None,
    root: Path | None = None,
) -> Dataset:
    """ImageNet: 1.28 million pictures of 1,000 classes (ILSVRC 2012), cropped to 224x224, read as they are needed.

    ``val`` is sorted into folders of the classes, or flat with a list of labels: the ground truth of the development
    kit, the list of Kaggle, or a file with one WordNet id for each image. Classes are numbered in the order of their
    WordNet ids.

    Parameters
    ----------
    image_size : int
        Side of the square to which images are brought, in pixels.
    crop_ratio, interpolation, random_crop, min_area
        See :class:`benchmarks.datasets.reading.Reading`.
    val_labels : str, optional
        For a flat ``val``: file with one WordNet id for each image, in the order of their names; a path that is not
        absolute is below the folder of the data.
    root : path, optional
        Folder to search first.

    Raises
    ------
    DataError
        When files are missing, or the validation split has too few or too many images of a class.
    OptionError
        When a number is outside its domain.
    """
    reading = Reading(image_size, 3, crop_ratio, interpolation, random_crop, min_area)
    folder = find(root)
    classes = [name for name in class_folders(folder / "train") if is_wnid(name)]
    check_classes(classes, CLASSES, folder / "train")
    test = _validation(folder, classes, reading, val_labels)
    check_counts(test.labels, classes, TEST, folder / "val")
    train = sorted_files(folder / "train", classes, reading)
    # A few training images are missing or broken on many machines, and are left out knowingly.
    missing = f"; {len(train):,} training images, where {TRAIN:,} are published" if len(train) != TRAIN else ""
    return Dataset(
        name=NAME,
        train=train,
        test=test,
        classes=CLASSES,
        channels=3,
        image_size=image_size,
        source="O. Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, arXiv:1409.0575, "
        "https://image-net.org",
        licence="non-commercial research and education (https://image-net.org/download)",
        note="the labels of its test split are not published: the validation split is the test split here, as in the "
        f"literature; shorter side resized to {int(image_size / crop_ratio)}, middle {image_size}x{image_size} cut out"
        + missing,
    )


def _validation(folder: Path, classes: list[str], reading: Reading, given: str | None) -> ImageFiles:
    val = folder / "val"
    sorted_into = [name for name in class_folders(val) if is_wnid(name)]
    if sorted_into:
        same_classes(classes, sorted_into, val)
        return sorted_files(val, classes, reading)
    names = image_names(val)
    if not names:
        raise DataError(f"{val} has neither folders of the classes nor images")
    wnids, source = _flat_labels(folder, names, given)
    if len(wnids) != len(names):
        raise DataError(f"{source} has {len(wnids):,} labels, but {val} has {len(names):,} images")
    number = {wnid: label for label, wnid in enumerate(classes)}
    wrong = next((wnid for wnid in wnids if wnid not in number), None)
    if wrong is not None:
        raise DataError(f"{source} has the class {wrong}, which {folder / 'train'} lacks")
    return labelled_files(val, names, (number[wnid] for wnid in wnids), reading)


def _flat_labels(folder: Path, names: list[str], given: str | None) -> tuple[list[str], Path]:
    """Return the class of each of the images ``names``, and the file that says it."""
    if given is not None:
        path = folder / Path(given).expanduser()
        if not path.is_file():
            raise DataError(f"dataset.val_labels: {path} does not exist")
        return read_wnids(path), path
    for place in DEVKIT:
        if (folder / place / TRUTH).is_file():
            return _devkit(folder / place), folder / place / TRUTH
    for path in (folder / name for name in WNID_LISTS):
        if path.is_file():
            return read_wnids(path), path
    # Beside the folder "ILSVRC" of which the data are the part Data/CLS-LOC.
    for path in (folder / KAGGLE, *(above / KAGGLE for above in folder.resolve().parents[:3])):
        if path.is_file():
            return _kaggle(path, names), path
    raise DataError(
        f"{folder / 'val'} is flat, and no file says its classes: put {DEVKIT[0]}/{TRUTH} with {META} of the "
        f"development kit, {WNID_LISTS[0]} or {KAGGLE} into {folder}, or sort val into folders of the classes"
    )


def _devkit(folder: Path) -> list[str]:
    """Return the class of each validation image, in the order of their names, from the development kit."""
    import scipy.io

    truth, meta = folder / TRUTH, folder / META
    if not meta.is_file():
        raise DataError(f"{meta} is missing: it says which class each number in {TRUTH} is")
    try:
        synsets = scipy.io.loadmat(meta, squeeze_me=True)["synsets"]
        # Those with children are not classes of the challenge but stand above them.
        leaves = synsets[synsets["num_children"] == 0]
        wnid = {int(number): str(name) for number, name in zip(leaves["ILSVRC2012_ID"], leaves["WNID"], strict=True)}
    # scipy raises what the damage leads to: ValueError, TypeError, KeyError, zlib.error and others.
    except Exception as error:
        raise DataError(f"{meta} is not the table of classes of the development kit, or is damaged") from error
    found = []
    for number, line in enumerate(read_lines(truth), 1):
        if not line.isdigit() or int(line) not in wnid:
            raise DataError(f"{truth}, line {number}: {line[:20]!r} is no class number of {meta}")
        found.append(wnid[int(line)])
    return found


def _kaggle(path: Path, names: list[str]) -> list[str]:
    """Return the class of each image from Kaggle's table: name of the image, then its class and boxes."""
    known = {name: what.split()[0] for name, what in read_pairs(path, ",").items() if what.strip()}
    missing = next((name for name in names if Path(name).stem not in known), None)
    if missing is not None:
        raise DataError(f"{path} names no class for {missing}")
    return [known[Path(name).stem] for name in names]
