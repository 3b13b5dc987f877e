"""WordNet ids, by which ImageNet and its parts name their classes, and the lists that come with them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from benchmarks.datasets.image_files import class_folders
from neurons.errors import DataError

_WNID = re.compile(r"n\d{8}")


def is_wnid(name: str) -> bool:
    """Whether a name is a WordNet id, such as ``n01440764``."""
    return _WNID.fullmatch(name) is not None


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file that are not empty, stripped."""
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise DataError(f"{path} is not a text file") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def read_pairs(path: Path, separator: str) -> dict[str, str]:
    """Return the first field of every line with the second; fields after these are left out."""
    pairs = {}
    for number, line in enumerate(read_lines(path), 1):
        fields = line.split(separator)
        if len(fields) < 2:
            raise DataError(f"{path}, line {number}: needs two fields divided by {separator!r}, not {line[:40]!r}")
        pairs[fields[0]] = fields[1]
    return pairs


def read_wnids(path: Path) -> list[str]:
    """Return the WordNet ids in a file with one on each line."""
    lines = read_lines(path)
    for number, line in enumerate(lines, 1):
        if not is_wnid(line):
            raise DataError(f"{path}, line {number}: {line[:40]!r} is not a WordNet id such as n01440764")
    return lines


def check_classes(classes: Sequence[str], expected: int, folder: Path) -> None:
    """Raise DataError unless there are ``expected`` classes."""
    if len(classes) != expected:
        raise DataError(
            f"{folder} has {len(classes):,} classes, not {expected:,}; for a part or another set use: image-folder"
        )


def check_counts(labels: Tensor, classes: Sequence[str], total: int, folder: Path) -> None:
    """Raise DataError unless all classes have the same number of images, ``total`` in all."""
    counts = labels.bincount(minlength=len(classes))
    wrong = (counts * len(classes) != total).nonzero().flatten().tolist()
    if wrong:
        more = f", and {len(wrong) - 1} more classes are wrong" if len(wrong) > 1 else ""
        raise DataError(
            f"{folder} is not complete: {classes[wrong[0]]} has {int(counts[wrong[0]]):,} images, not "
            f"{total // len(classes):,}{more}"
        )


def lacks_splits(folder: Path) -> list[str]:
    """Say what a folder lacks; other data too have ``train`` and ``val``, but no classes of WordNet."""
    missing = [part for part in ("train", "val") if not (folder / part).is_dir()]
    if "train" not in missing and not any(is_wnid(name) for name in class_folders(folder / "train")):
        missing.append("folders train/n........")
    return missing
