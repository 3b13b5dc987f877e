"""Earth maps: the same ground in renderings by day, by night and by height. Map tiles, not views of a camera."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.datasets.along_route import along_route, content
from benchmarks.datasets.base import Split, datasets
from benchmarks.datasets.fetch import Remote, remotes
from benchmarks.datasets.packed import read_packed
from benchmarks.datasets.places import PlaceDataset
from benchmarks.datasets.roots import find_form, missing_files
from neurons.errors import DataError, OptionError

NAME = "earth-maps"
ARCHIVE = "three-globe-2.45.2.tgz"
FOLDER = "example/img"
RENDERINGS = {
    "marble": "earth-blue-marble.jpg",
    "day": "earth-day.jpg",
    "night": "earth-night.jpg",
    "topology": "earth-topology.png",
}
WATER = "earth-water.png"
"""Bright where there is water."""
WIDTH, HEIGHT = 2048, 1024
WINDOW = 32
TOP, BOTTOM = 200, 800
"""Upper edges of windows lie between these rows of the map, 55 degrees north and 50 south."""
DOWN, ALONG = 32, 24
"""Rows from one parallel to the next, and columns from one window to the next."""
LAND = 0.6
"""Share of a window that must be land."""
LICENCE = "MIT (npm package three-globe); the pictures are of the kind that NASA publishes, their origin is not stated"
FILES = (*RENDERINGS.values(), WATER)


def find(root: str | Path | None = None, own: bool = False) -> Path:
    """Return the archive of the package, or the folder with the pictures in an unpacked one."""

    def lacks(folder: Path) -> list[str]:
        return missing_files(folder, FILES)

    forms = {ARCHIVE: lambda path: [], f"three-globe/{FOLDER}": lacks, f"package/{FOLDER}": lacks}
    return find_form(NAME, forms, root, own=own)


remotes[NAME] = Remote(
    files={ARCHIVE: "ab58627086c5b75079159cafe795de97a176e17edc8e73687fefa5106d3ab23e"},
    url="https://registry.npmjs.org/three-globe/-",
    licence=LICENCE,
    find=find,
)


@datasets.register(NAME)
def load(
    reference: str | Sequence[str] = "marble",
    query: str = "day",
    jitter: int = 2,
    places: int | None = None,
    calibration: int = 0,
    seed: int = 0,
    root: Path | None = None,
) -> PlaceDataset:
    """Earth maps: map-tile matching between renderings of the Earth, 32x32 grey pixels for each of up to 414 places.

    The route leads to and fro over the land along parallels of a map of 2048x1024 pixels, in windows that overlap by a
    quarter, each more than 60 % land. References are cut out exactly, queries displaced by some pixels. It tests a
    change of appearance and of place in the picture on real data; it is no place recognition of a robot, and no figure
    of it belongs beside one of Nordland.

    Parameters
    ----------
    reference : str or sequence of str
        Rendering in which places are learned, or several: marble (satellite picture), day (shaded relief), night
        (lights) or topology (height).
    query : str
        Rendering in which they are asked for.
    jitter : int
        Queries are displaced by up to so many pixels in each direction, at random.
    places : int, optional
        The first ones of the route; all when left out.
    calibration : int
        How many of them, the first ones, are set apart for calibration.
    seed : int
        Seed of the displacements.
    root : path, optional
        Folder to search first.

    Raises
    ------
    OptionError
        When there is no such rendering or number.
    DataError
        When files are missing or damaged.
    """
    names = [reference] if isinstance(reference, str) else list(reference)
    for option, name in [*(("reference", name) for name in names), ("query", query)]:
        if name not in RENDERINGS:
            raise OptionError(f"dataset.{option} is one of {', '.join(RENDERINGS)}, not {name!r}")
    if not names:
        raise OptionError("dataset.reference must name at least one rendering")
    if not 0 <= jitter <= WINDOW:
        raise OptionError(f"dataset.jitter is 0 to {WINDOW} pixels, not {jitter}")
    maps = _read(find(root), [*names, query])
    corners = route_over_land(maps[WATER])
    shifts = np.random.default_rng(seed).integers(-jitter, jitter + 1, corners.shape)
    if places is not None:
        if not 1 <= places <= len(corners):
            raise OptionError(f"dataset.places is 1 to {len(corners)}, not {places}")
        corners, shifts = corners[:places], shifts[:places]
    seen = np.concatenate([windows(maps[name], corners) for name in names])
    return along_route(
        Split(torch.from_numpy(seen), torch.arange(len(seen))),
        Split(torch.from_numpy(windows(maps[query], corners + shifts)), torch.arange(len(corners))),
        torch.eye(len(corners), dtype=torch.bool),
        traverses=len(names),
        calibration=calibration,
        name=NAME,
        source="pictures of the Earth in the npm package three-globe 2.45.2, https://github.com/vasturiano/three-globe",
        licence=LICENCE,
        note=f"map-tile matching, not place recognition of a robot; references: {', '.join(names)}; queries: {query}, "
        f"displaced by up to {jitter} pixels of {WINDOW}",
    )


def route_over_land(water: np.ndarray) -> np.ndarray:
    """Return the upper left corners [places, 2] of windows over land, row by row, to and fro."""
    corners = []
    for number, row in enumerate(range(TOP, BOTTOM, DOWN)):
        columns = range(0, WIDTH - WINDOW + 1, ALONG)
        for column in columns if number % 2 == 0 else reversed(columns):
            land = (water[row : row + WINDOW, column : column + WINDOW] < 128).mean()
            if land > LAND:
                corners.append((row, column))
    return np.array(corners)


def windows(picture: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Return the windows [places, 1, 32, 32] of a map [rows, columns] that goes on at its left and right edge."""
    inside = np.arange(WINDOW)
    rows = corners[:, 0, None, None] + inside[:, None]
    columns = (corners[:, 1, None, None] + inside) % WIDTH
    return np.ascontiguousarray(picture[rows, columns][:, None])


def _read(place: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return renderings by their name and the water by its file, uint8 [1024, 2048]."""
    files = {**{name: RENDERINGS[name] for name in names}, WATER: WATER}
    if place.is_dir():
        raw = {name: content(place / file) for name, file in files.items()}
    else:
        raw = dict(read_packed(place, {f"package/{FOLDER}/{file}": name for name, file in files.items()}))
    return {name: _map(raw[name], place / file) for name, file in files.items()}


def _map(raw: bytes, path: Path) -> np.ndarray:
    from PIL import Image
    from PIL.Image import Resampling

    try:
        with Image.open(io.BytesIO(raw), formats=("PNG", "JPEG")) as image:
            image.draft("L", (WIDTH, HEIGHT))  # JPEG files are decoded at half their size, which is much quicker
            return np.asarray(image.convert("L").resize((WIDTH, HEIGHT), Resampling.BILINEAR))
    except Exception as error:  # decoders of damaged files raise many kinds
        raise DataError(f"{path} cannot be read as an image: {(str(error).splitlines() or ['damaged'])[0]}") from error
