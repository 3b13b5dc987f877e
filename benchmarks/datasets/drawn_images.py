"""Drawn pictures of ten classes each, 28x28 grey pixels: letters in fonts, and simple shapes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from benchmarks.datasets.base import Dataset, Split, datasets
from benchmarks.datasets.drawing import at_least, check_seed, random_state
from neurons.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

SIZE, FINE = 28, 3
"""Side of a picture in pixels, and how many times finer it is drawn before it is made smaller."""
LETTERS = "ABCDEFGHIJ"
TRAIN_FONTS = (
    *(f"DejaVuSans{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSansMono{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")),
    *(f"STIXGeneral{style}" for style in ("", "Bol", "Italic", "BolIta")),
)
TEST_FONTS = ("cmr10", "cmb10", "cmss10", "cmti10", "cmtt10")
SHAPES = ("disc", "ring", "half disc", "square", "frame", "triangle", "star", "cross", "arrow", "two bars")
OTHER_LEVELS = "other versions of Pillow can draw other grey levels"

Points = list[tuple[float, float]]
Drawing = Callable[[int, np.random.RandomState], "Image"]
"""Draws one picture of a class."""


@datasets.register("drawn-letters")
def letters(train: int = 2_000, test: int = 500, seed: int = 0, root: Path | None = None) -> Dataset:
    """Drawn letters: A to J in the fonts of Matplotlib, 28x28 grey pixels; the test is on another family of fonts.

    A stand-in for notMNIST that needs no files. Letters are 16 to 23 pixels high, turned by up to 12 degrees and moved
    by up to 3 pixels; training pictures are in 16 fonts (DejaVu, STIX), test pictures in 5 (Computer Modern).

    Parameters
    ----------
    train, test : int
        Pictures of each split, of which each class has equally many (one more or less).
    seed : int
        Of all pictures.
    root : path, optional
        Not used: there are no files to find.

    Raises
    ------
    OptionError
        For a number outside its domain.
    DataError
        When Matplotlib is not installed.
    """
    folder = _fonts()
    return _drawn(
        "drawn-letters",
        {"train": _in_fonts(folder, TRAIN_FONTS), "test": _in_fonts(folder, TEST_FONTS)},
        {"train": train, "test": test},
        seed,
        source="the fonts that come with Matplotlib (https://matplotlib.org)",
        licence="Bitstream Vera and DejaVu, STIX (SIL OFL 1.1) and BaKoMa font licences",
        note=f"letters A to J drawn in {len(TRAIN_FONTS)} fonts for training and in {len(TEST_FONTS)} of another "
        f"family for the test; {OTHER_LEVELS}",
    )


@datasets.register("drawn-shapes")
def shapes(train: int = 2_000, test: int = 500, seed: int = 0, root: Path | None = None) -> Dataset:
    """Drawn shapes: ten simple shapes of any size, place, turn and brightness in noise, 28x28 grey pixels.

    Disc, ring, half disc, square, frame, triangle, star, cross, arrow and two bars; radius 6 to 11 pixels, moved by up
    to 3 pixels, turned by any angle, brightness 0.4 to 1, with normal noise of standard deviation 0.1 on every pixel.

    Parameters
    ----------
    train, test : int
        Pictures of each split, of which each class has equally many (one more or less).
    seed : int
        Of all pictures.
    root : path, optional
        Not used: there are no files to find.

    Raises
    ------
    OptionError
        For a number outside its domain.
    """
    return _drawn(
        "drawn-shapes",
        {"train": _shape, "test": _shape},
        {"train": train, "test": test},
        seed,
        noise=0.1,
        source="drawn by a generator",
        licence="none needed",
        note=f"made up: {', '.join(SHAPES)}, drawn for each split independently; {OTHER_LEVELS}",
    )


def _drawn(
    name: str,
    drawings: dict[str, Drawing],
    counts: dict[str, int],
    seed: int,
    noise: float = 0.0,
    *,
    source: str,
    licence: str,
    note: str,
) -> Dataset:
    from PIL.Image import Resampling

    at_least(10, **counts)
    check_seed(seed)
    splits = {}
    for key, (part, draw) in enumerate(drawings.items()):
        random = random_state(seed, key)
        pictures = np.empty((counts[part], 1, SIZE, SIZE), np.uint8)
        for number in range(counts[part]):
            image = draw(number % 10, random).resize((SIZE, SIZE), Resampling.BOX)
            dirt = random.normal(0, 255 * noise, (SIZE, SIZE)) if noise else 0.0
            pictures[number, 0] = np.clip(np.asarray(image) + dirt, 0, 255).round()
        splits[part] = Split(torch.from_numpy(pictures), torch.arange(counts[part]) % 10)
    return Dataset(
        name, splits["train"], splits["test"], classes=10, channels=1, image_size=SIZE, source=source, licence=licence,
        note=f"{note}; seed {seed}",
    )  # fmt: skip


# Letters


def _fonts() -> Path:
    found = find_spec("matplotlib")
    if found is None or found.origin is None:
        raise DataError("drawn-letters needs the fonts of Matplotlib, which is not here; run: pip install matplotlib")
    return Path(found.origin).parent / "mpl-data" / "fonts" / "ttf"


def _in_fonts(folder: Path, fonts: Sequence[str]) -> Drawing:
    from PIL import Image, ImageDraw, ImageFont
    from PIL.Image import Resampling

    side = SIZE * FINE

    def draw(label: int, random: np.random.RandomState) -> Image.Image:
        path = folder / f"{fonts[random.randint(len(fonts))]}.ttf"
        try:
            font = ImageFont.truetype(path, int(random.randint(22 * FINE, 32 * FINE)))
        except OSError as error:
            raise DataError(f"{path} cannot be read as a font: {error}") from error
        image = Image.new("L", (side, side))
        left, upper, right, lower = font.getbbox(LETTERS[label])
        x, y = random.uniform(-3 * FINE, 3 * FINE, 2)
        corner = (side - left - right) / 2 + x, (side - upper - lower) / 2 + y
        ImageDraw.Draw(image).text(corner, LETTERS[label], 255, font)
        return image.rotate(random.uniform(-12, 12), Resampling.BILINEAR)

    return draw


# Shapes


def _shape(label: int, random: np.random.RandomState) -> Image:
    from PIL import Image, ImageDraw

    side = SIZE * FINE
    radius = random.uniform(6, 11) * FINE
    x, y = side / 2 + random.uniform(-3 * FINE, 3 * FINE, 2)
    turn, bright = random.uniform(0, 2 * math.pi), int(255 * random.uniform(0.4, 1))
    image = Image.new("L", (side, side))
    pen = ImageDraw.Draw(image)
    for points, value in _outlines(SHAPES[label]):
        cos, sin = radius * math.cos(turn), radius * math.sin(turn)
        pen.polygon([(x + cos * a - sin * b, y + sin * a + cos * b) for a, b in points], fill=bright * value)
    return image


@cache
def _outlines(shape: str) -> list[tuple[Points, int]]:
    """Return polygons about the origin, at most 1 from it, each filled (1) or cut out (0)."""
    square = _ring(4)
    beam = [(-1.0, -0.25), (1.0, -0.25), (1.0, 0.25), (-1.0, 0.25)]
    bar = [(-1.0, -0.55), (1.0, -0.55), (1.0, -0.15), (-1.0, -0.15)]
    made: dict[str, list[tuple[Points, int]]] = {
        "disc": [(_ring(60), 1)],
        "ring": [(_ring(60), 1), (_ring(60, 0.6), 0)],
        "half disc": [([(math.cos(a), math.sin(a) - 0.4) for a in np.linspace(0, math.pi, 31)], 1)],
        "square": [(square, 1)],
        "frame": [(square, 1), (_ring(4, 0.6), 0)],
        "triangle": [(_ring(3), 1)],
        "star": [([p for pair in zip(_ring(5), _ring(5, 0.4, 0.5), strict=True) for p in pair], 1)],
        "cross": [(beam, 1), ([(b, a) for a, b in beam], 1)],
        "arrow": [([(1, 0), (0.1, 0.75), (0.1, 0.25), (-1, 0.25), (-1, -0.25), (0.1, -0.25), (0.1, -0.75)], 1)],
        "two bars": [(bar, 1), ([(a, -b) for a, b in bar], 1)],
    }
    return made[shape]


def _ring(corners: int, radius: float = 1.0, offset: float = 0.0) -> Points:
    angles = [2 * math.pi * (number + offset) / corners for number in range(corners)]
    return [(radius * math.cos(angle), radius * math.sin(angle)) for angle in angles]
