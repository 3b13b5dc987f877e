"""How an image file becomes an image of the size that a network takes."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from neurons.errors import DataError, OptionError

if TYPE_CHECKING:
    from PIL.Image import Image

Interpolation = Literal["bilinear", "bicubic"]
Box = tuple[int, int, int, int]
"""Left, upper, right and lower edge, as Pillow has them."""

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
"""What is tried, whatever a file is called; not the kinds that run other programs."""
RATIOS = (3 / 4, 4 / 3)
ATTEMPTS = 10


@dataclass(frozen=True)
class Reading:
    """Decoding, cropping and resizing, as the training of ImageNet networks has it.

    For evaluation the shorter side is resized to ``image_size / crop_ratio`` and the middle is cut out. With
    ``random_crop`` a training reads a part of the image instead, of random size, shape and place, resized to
    ``image_size`` (C. Szegedy et al., Going Deeper with Convolutions, CVPR 2015; the sampling is torchvision's
    RandomResizedCrop).

    Parameters
    ----------
    image_size : int
        Side of the square, in pixels.
    channels : int
        3 for colour, to which grey images are converted; 1 for grey, to which colour images are.
    crop_ratio : float
        Side of the middle part divided by the shorter side of the resized image; 1 keeps the whole shorter side.
    interpolation : {"bilinear", "bicubic"}
        Both smooth when they make an image smaller.
    random_crop : bool
        Random parts in training.
    min_area : float
        Smallest share of the image that a random part covers; the largest is 1. Width to height is 3/4 to 4/3.

    Raises
    ------
    OptionError
        When a number is outside its domain.
    """

    image_size: int
    channels: int = 3
    crop_ratio: float = 1.0
    interpolation: Interpolation = "bicubic"
    random_crop: bool = False
    min_area: float = 0.08

    def __post_init__(self) -> None:
        if self.image_size < 1:
            raise OptionError(f"dataset.image_size must be at least 1, not {self.image_size}")
        if self.channels not in (1, 3):
            raise OptionError(f"dataset.channels is 1 for grey or 3 for colour, not {self.channels}")
        if not 0 < self.crop_ratio <= 1:
            raise OptionError(f"dataset.crop_ratio must be above 0 and at most 1, not {self.crop_ratio}")
        if not 0 < self.min_area <= 1:
            raise OptionError(f"dataset.min_area must be above 0 and at most 1, not {self.min_area}")
        if self.interpolation not in ("bilinear", "bicubic"):
            raise OptionError(f"dataset.interpolation is bilinear or bicubic, not {self.interpolation!r}")

    def read(self, path: Path, random: np.random.Generator | None = None) -> np.ndarray:
        """Return the image as uint8 [channels, image_size, image_size]; with ``random``, a random part of it.

        Raises
        ------
        DataError
            In one line that names the file and what is wrong with it.
        """
        from PIL.Image import Resampling

        image = decode(path, "L" if self.channels == 1 else "RGB")
        how = Resampling[self.interpolation.upper()]
        if random is not None:
            box = random_box(image.width, image.height, random, self.min_area)
            image = image.crop(box).resize((self.image_size, self.image_size), how)
        else:
            short = int(self.image_size / self.crop_ratio)
            width, height = image.size
            size = (short, int(short * height / width)) if width <= height else (int(short * width / height), short)
            image = (image if image.size == size else image.resize(size, how)).crop(self._middle(*size))
        pixels = np.asarray(image)
        return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))

    def _middle(self, width: int, height: int) -> Box:
        left, upper = round((width - self.image_size) / 2), round((height - self.image_size) / 2)
        return left, upper, left + self.image_size, upper + self.image_size


def random_box(width: int, height: int, random: np.random.Generator, min_area: float) -> Box:
    """Return a random part of an image: share of its area, logarithm of width to height and place are uniform.

    When none of ten tries fits into the image, the largest middle part of an admitted shape is taken.
    """
    for _ in range(ATTEMPTS):
        area = width * height * random.uniform(min_area, 1)
        ratio = exp(random.uniform(log(RATIOS[0]), log(RATIOS[1])))
        w, h = round(sqrt(area * ratio)), round(sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, upper = int(random.integers(width - w + 1)), int(random.integers(height - h + 1))
            return left, upper, left + w, upper + h
    w, h = min(width, round(height * RATIOS[1])), min(height, round(width / RATIOS[0]))
    left, upper = (width - w) // 2, (height - h) // 2
    return left, upper, left + w, upper + h


def decode(path: Path, mode: Literal["L", "RGB"]) -> Image:
    """Return the image in the file ``path``, converted to grey or colour.

    Raises
    ------
    DataError
        In one line that names the file and what is wrong with it.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.mode in ("I", "F") or image.mode.startswith("I;"):
                raise DataError(f"{path} has more than 8 bits a channel ({image.mode}); convert it to 8 bits first")
            return image.convert(mode)
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except UnidentifiedImageError:
        raise DataError(f"{path} is not an image, or is damaged at its start") from None
    # Decoders of damaged files raise OSError, SyntaxError, ValueError, struct.error, zlib.error and others.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path} cannot be read as an image: {reason}") from error
