"""From images along a route to a place data set: what is true of which query, and which places are for calibration."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.datasets.base import Split
from benchmarks.datasets.places import PlaceDataset, labels_of
from benchmarks.datasets.route_images import RouteImages
from neurons.errors import DataError, OptionError

Images = Split | RouteImages
PAIRS = ("query", "place")
"""Header of a table of matches."""


def along_route(
    references: Images, queries: Images, truth: Tensor, *, calibration: int = 0, traverses: int = 1, **said: Any
) -> PlaceDataset:
    """Return the data set of a route, its first places set apart for calibration.

    A query belongs where the first of its true places is, and is asked about the places of that part only; one that
    shows no place stays with the map.

    Parameters
    ----------
    references : Split or RouteImages
        All places of the first traverse, then all of the second, and so on.
    queries : Split or RouteImages
    truth : Tensor of bool, shape [places, queries]
    calibration : int
        Places at the beginning of the route that are no places of the map.
    traverses : int
    **said
        The remaining fields of :class:`~benchmarks.datasets.places.PlaceDataset`: name, source, licence, note.

    Raises
    ------
    OptionError
        When no place would be left for the map.
    DataError
        When the numbers of images, places and queries do not fit.
    """
    places = len(truth)
    if not 0 <= calibration < places:
        raise OptionError(
            f"dataset.calibration must leave at least one of the {places} places of {said['name']} for the map, "
            f"not {calibration}"
        )
    if len(references) != places * traverses or len(queries) != truth.shape[1]:
        raise DataError(
            f"{said['name']}: the ground truth is for {places} places and {truth.shape[1]} queries, but there are "
            f"{len(references)} images of {traverses} traverses and {len(queries)} queries"
        )
    first = labels_of(truth)
    own = first >= 0

    def part(start: int, end: int, shown: Tensor, other: PlaceDataset | None) -> PlaceDataset:
        which = torch.arange(start, end)
        rows = (which + places * torch.arange(traverses).unsqueeze(1)).flatten()
        columns = shown.nonzero().flatten()
        mine = truth[start:end][:, columns]
        channels, size, _ = references.sample_shape
        return PlaceDataset(
            train=replace(references.subset(rows), labels=torch.arange(end - start).repeat(traverses)),
            test=replace(queries.subset(columns), labels=labels_of(mine)),
            classes=end - start,
            channels=channels,
            image_size=size,
            truth=mine,
            traverses=traverses,
            calibration=other,
            **said,
        )

    apart = part(0, calibration, own & (first < calibration), None) if calibration else None
    return part(calibration, places, ~own | (first >= calibration), apart)


def cut(truth: Tensor, places: int) -> tuple[Tensor, Tensor]:
    """Return the ground truth of the first places, and which queries it is for: without those of other places only."""
    kept = truth[:places]
    stay = (kept.any(dim=0) | ~truth.any(dim=0)).nonzero().flatten()
    return kept[:, stay], stay


def read_truth(path: Path, *shapes: tuple[int, int]) -> Tensor:
    """Read a ground truth and return it as a bool matrix [places, queries].

    A ``.npy`` file or a ``.csv`` file without a header holds a matrix, [places, queries] or [queries, places], whose
    entries above 0 are matches; a ``.csv`` file with the header ``query,place`` holds a match a row, both numbered from
    0 among the images that are used.

    Parameters
    ----------
    path : Path
    *shapes : tuple of int
        Numbers of places and of queries that it may be for, the first first.

    Raises
    ------
    DataError
        In one line that names the file and what is wrong with it.
    """
    if path.suffix == ".npy":
        return oriented(npy(content(path), path), path, *shapes)
    if path.suffix != ".csv":
        raise DataError(f"{path} is no ground truth: it is a .npy or a .csv file")
    import pandas as pd

    raw = content(path)
    header = raw.split(b"\n", 1)[0].decode("utf-8", "replace").strip().lower().replace(" ", "")
    pairs = header == ",".join(PAIRS)
    try:
        table = pd.read_csv(io.BytesIO(raw), header=0 if pairs else None).to_numpy(np.float64)
    except (ValueError, pd.errors.ParserError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"{path} is neither a matrix of numbers nor a table with the header {','.join(PAIRS)}: {reason}"
        ) from error
    if not pairs:
        return oriented(table, path, *shapes)
    places, queries = shapes[0]
    rows = table.astype(np.int64)
    if rows.shape[1] != 2 or not ((rows == table) & (rows >= 0) & (rows < (queries, places))).all():
        raise DataError(f"{path} must number queries from 0 to {queries - 1} and places from 0 to {places - 1}")
    truth = torch.zeros(places, queries, dtype=torch.bool)
    truth[rows[:, 1], rows[:, 0]] = True
    return truth


def oriented(matrix: np.ndarray, path: Path, *shapes: tuple[int, int]) -> Tensor:
    """Return a matrix of matches as bool [places, queries], turned where it is [queries, places]."""
    for places, queries in shapes:
        if matrix.shape == (places, queries):
            return torch.from_numpy(matrix > 0)
    for places, queries in shapes:
        if matrix.shape == (queries, places):
            return torch.from_numpy(matrix.T > 0).contiguous()
    places, queries = shapes[0]
    raise DataError(
        f"{path} has {' x '.join(map(str, matrix.shape))} entries for {places} places and {queries} queries"
    )


def npy(raw: bytes, path: Path) -> np.ndarray:
    """Return the array in the bytes of a ``.npy`` file; one that would have to be unpickled is refused."""
    try:
        array: np.ndarray = np.load(io.BytesIO(raw), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{path} is not a readable .npy file of numbers: {str(error).splitlines()[0]}") from error
    return array


def content(path: Path) -> bytes:
    """Return the bytes of a file."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
