"""Images of a drive in their files: in natural order, whole, small, and read once."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from benchmarks.datasets.image_files import SUFFIXES, ImageFiles, image_names
from benchmarks.datasets.reading import Reading, decode
from neurons.errors import DataError, OptionError

REDUCING = 3.0
"""How much larger than the result an image may be that is made smaller with care; what is more goes in whole steps."""


@dataclass(frozen=True)
class Whole(Reading):
    """The whole image, whatever its proportions, as a square: networks for places look at all of a view.

    Parameters
    ----------
    resize : bool
        Bring images to ``image_size``; else those of another size are refused.
    """

    resize: bool = True

    def read(self, path: Path, random: np.random.Generator | None = None) -> np.ndarray:
        """Return the image as uint8 [channels, image_size, image_size]."""
        from PIL.Image import Resampling

        image, side = decode(path, "L" if self.channels == 1 else "RGB"), self.image_size
        if image.size != (side, side):
            if not self.resize:
                raise DataError(
                    f"{path} has {image.width}x{image.height} pixels, others {side}x{side}; bring all images to one "
                    "size with dataset.size"
                )
            image = image.resize((side, side), Resampling.BILINEAR, reducing_gap=REDUCING)
        pixels = np.asarray(image)
        return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))


@dataclass(frozen=True, eq=False)
class RouteImages(ImageFiles):
    """Images of a route, each read when it is first asked for and then kept, small and as uint8.

    Parameters
    ----------
    kept : dict
        What was read, by path; splits of one route share it.
    """

    kept: dict[bytes, np.ndarray] = field(default_factory=dict, repr=False)

    def _read(self, index: int) -> np.ndarray:
        name = bytes(self.files[index])
        if name not in self.kept:
            self.kept[name] = self.reading.read(self.path(index))
        return self.kept[name]


def route_images(folder: Path, files: Sequence[str], reading: Whole) -> RouteImages:
    """Return the split of some files below ``folder``, each with its number as label."""
    return RouteImages(folder, np.array([os.fsencode(file) for file in files]), torch.arange(len(files)), reading)


def whole(folder: Path, files: Sequence[str], size: int | None, channels: int) -> Whole:
    """Return how to read files: at ``size``, or at their own size, which must be one and square."""
    if size is not None:
        return Whole(size, channels)
    first = decode(folder / files[0], "L")
    if first.width != first.height:
        raise OptionError(
            f"dataset.size is needed: {folder / files[0]} has {first.width}x{first.height} pixels and is not square"
        )
    return Whole(first.width, channels, resize=False)


def traverse_files(folder: Path, pattern: str) -> list[str]:
    """Return the image files of a traverse, in natural order (2 before 10), as paths below ``folder``.

    Parameters
    ----------
    folder : Path
    pattern : str
        A folder in it, or a pattern such as ``part_*/dusk``: then the folders follow one another along the route.

    Raises
    ------
    DataError
        When there is no such folder or no image in it.
    """
    if Path(pattern).is_absolute() or not pattern:
        raise OptionError(f"a traverse is a folder in {folder}, not {pattern!r}")
    parts = [str(part.relative_to(folder)) for part in folder.glob(pattern) if part.is_dir()]
    if not parts:
        raise DataError(f"{folder} has no folder {pattern}")
    files = [f"{part}/{name}" for part in natural(parts) for name in natural(image_names(folder / part))]
    if not files:
        raise DataError(f"{folder / pattern} has no images ({', '.join(SUFFIXES)})")
    return files


def natural(names: Sequence[str]) -> list[str]:
    """Return names sorted with numbers in them compared as numbers."""

    def key(name: str) -> list[tuple[int, str]]:
        return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", name) if part]

    return sorted(names, key=key)


def listed(file: Path, files: Sequence[str]) -> list[str]:
    """Return those of the image files that a list names, in its order.

    The list has a name a line, perhaps with a path before it and a comma and more after it, perhaps below a header: the
    lists of VPRTempo (``Image name,index``) and of VPRSNN (``./nordland/spring/images-00001.png``) do. Endings are not
    compared, since people convert images.

    Raises
    ------
    DataError
        When the list cannot be read, or names images that are not there.
    """
    try:
        lines = [line.split(",")[0].strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise DataError(f"{file} cannot be read as a list of images: {reason}") from error
    names = [PurePosixPath(line).stem for line in lines if line.lower().endswith(SUFFIXES)]
    if not names:
        raise DataError(f"{file} names no images ({', '.join(SUFFIXES)})")
    known = {PurePosixPath(path).stem: path for path in files}
    if len(known) != len(files):
        raise DataError(f"names of images repeat below {PurePosixPath(files[0]).parent}: {file} cannot tell them apart")
    absent = [name for name in names if name not in known]
    if absent:
        shown = ", ".join(absent[:3]) + (f" and {len(absent) - 3} more" if len(absent) > 3 else "")
        raise DataError(f"{PurePosixPath(files[0]).parent} lacks images that {file} names: {shown}")
    return [known[name] for name in names]
