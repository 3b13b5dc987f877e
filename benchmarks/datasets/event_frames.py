"""Frames of an event camera: events of a recording counted in windows of time and in cells of the sensor."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from neurons.errors import DataError, OptionError

SENSOR = (346, 260)
"""Columns and rows of a DAVIS346."""
BLOCK = 1 << 20
"""Events that are read at a time."""
MICROSECOND = 1e-6
Events = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Seconds, columns and rows."""


def event_frames(
    path: Path,
    size: int,
    window: float,
    clip: int,
    span: Callable[[float], tuple[float, float | None]],
    sensor: tuple[int, int] = SENSOR,
) -> Tensor:
    """Return the frames of a recording, float32 [frames, 1, size, size] in [0, 1].

    Both polarities of a pixel are counted together in each window of time; a count above ``clip`` is a burst and
    becomes ``clip``, which stands for 1; then the means over size x size cells of the sensor are taken. A window that
    the recording does not fill is left out.

    Parameters
    ----------
    path : Path
        ``.parquet`` with the columns t, x, y (and p); ``.txt`` with a line ``t x y p`` for each event, perhaps below a
        line ``columns rows`` that says how large the sensor is; or ``.zip`` with such a text. Times that are whole
        numbers are microseconds, others seconds.
    size : int
        Cells along a side.
    window : float
        Seconds of a frame.
    clip : int
        Largest count.
    span : callable
        From the time of the first event to those between which frames lie; None is the time of the last event.
    sensor : tuple of int
        Columns and rows, where the file does not say.

    Raises
    ------
    OptionError
        When a number is outside its domain.
    DataError
        When the file cannot be read, events lie outside the sensor or are not in order.
    """
    columns, rows = sensor
    if not window > 0:
        raise OptionError(f"dataset.window must be above 0 seconds, not {window}")
    if clip < 1:
        raise OptionError(f"dataset.clip must be at least 1 event, not {clip}")
    if not 1 <= size <= rows:
        raise OptionError(f"dataset.size is 1 to {rows} cells, not {size}")
    blocks, (columns, rows) = _blocks(path, sensor)
    frames: list[Tensor] = []
    counts = np.zeros(columns * rows, np.int64)
    start = last = end = None
    for t, x, y in blocks:
        if len(t) and start is None:
            start, end = span(float(t[0]))
        if start is None or not len(t):
            continue
        if not (x.min() >= 0 and x.max() < columns and y.min() >= 0 and y.max() < rows):
            raise DataError(
                f"{path} has events outside of {columns} columns and {rows} rows: column {x.min()} to {x.max()}, row "
                f"{y.min()} to {y.max()}"
            )
        if (np.diff(t) < 0).any() or (last is not None and t[0] < last):
            raise DataError(f"{path} has events that are not in the order of their times")
        last = float(t[-1])
        inside = (t >= start) & (t < (np.inf if end is None else end))
        number = np.floor((t[inside] - start) / window).astype(np.int64)
        cell = y[inside].astype(np.int64) * columns + x[inside]
        for frame in np.unique(number):
            while len(frames) < frame:
                frames.append(_cells(counts, columns, rows, size, clip))
                counts[:] = 0
            counts += np.bincount(cell[number == frame], minlength=len(counts))
        if end is not None and last >= end:
            break
    if start is None or last is None:
        raise DataError(f"{path} holds no events")
    full = int(((last if end is None else min(end, last)) - start) / window + 1e-9)
    if full < 1:
        raise DataError(f"{path} has no whole window of {window:g} s: its events lie before {last:.2f} s")
    while len(frames) < full:
        frames.append(_cells(counts, columns, rows, size, clip))
        counts[:] = 0
    return torch.stack(frames[:full])


def _cells(counts: np.ndarray, columns: int, rows: int, size: int, clip: int) -> Tensor:
    frame = torch.from_numpy(np.minimum(counts, clip).reshape(1, rows, columns)).to(torch.float32)
    return functional.adaptive_avg_pool2d(frame, size) / clip


def _blocks(path: Path, sensor: tuple[int, int]) -> tuple[Iterator[Events], tuple[int, int]]:
    if path.suffix == ".parquet":
        return _parquet(path), sensor
    if path.suffix not in (".zip", ".txt"):
        raise DataError(f"{path} is no recording of events: it is a .parquet, .zip or .txt file")
    with _opened(path) as file:
        first = file.readline().split()
    try:
        size = (int(first[0]), int(first[1])) if len(first) == 2 else None
    except ValueError:
        raise DataError(f"{path} must start with 'columns rows' or an event 't x y p', not {first!r}") from None
    return _text(path, skip=0 if size is None else 1), size or sensor


def _parquet(path: Path) -> Iterator[Events]:
    import pyarrow
    import pyarrow.parquet as parquet

    try:
        with parquet.ParquetFile(path) as file:
            lacks = [name for name in ("t", "x", "y") if name not in file.schema_arrow.names]
            if lacks:
                raise DataError(f"{path} lacks the columns {', '.join(lacks)}; it has {file.schema_arrow.names}")
            for batch in file.iter_batches(BLOCK, columns=["t", "x", "y"]):
                t, x, y = (batch.column(name).to_numpy(zero_copy_only=False) for name in ("t", "x", "y"))
                yield _seconds(t), x, y
    except (OSError, pyarrow.ArrowException) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path} cannot be read as a parquet file of events: {reason}") from error


def _text(path: Path, skip: int) -> Iterator[Events]:
    import pandas as pd

    whole = None
    try:
        with (
            _opened(path) as file,
            pd.read_csv(
                file, sep=r"\s+", header=None, names=["t", "x", "y", "p"], skiprows=skip, chunksize=BLOCK
            ) as blocks,
        ):
            for block in blocks:
                t = block["t"].to_numpy()
                whole = np.issubdtype(t.dtype, np.integer) if whole is None else whole
                x, y = (block[name].to_numpy(np.float64) for name in ("x", "y"))
                if not (np.isfinite(x).all() and np.isfinite(y).all()):
                    raise DataError(f"{path} has lines that are not 't x y p'")
                seconds = t.astype(np.float64) * (MICROSECOND if whole else 1.0)
                yield seconds, x.astype(np.int64), y.astype(np.int64)
    except (ValueError, OSError, zipfile.BadZipFile, pd.errors.ParserError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path} has lines that are not 't x y p': {reason}") from error


def _seconds(t: np.ndarray) -> np.ndarray:
    return t.astype(np.float64) * (MICROSECOND if np.issubdtype(t.dtype, np.integer) else 1.0)


def _opened(path: Path) -> IO[bytes]:
    """Open a text of events, or the one in an archive."""
    try:
        if path.suffix == ".txt":
            return path.open("rb")
        archive = zipfile.ZipFile(path)
        texts = [name for name in archive.namelist() if name.endswith(".txt")]
        if len(texts) != 1:
            raise DataError(f"{path} must hold one .txt file of events, not {len(texts)}")
        return archive.open(texts[0])
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
