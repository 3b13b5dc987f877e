"""Where a vehicle was: the sentences of a GPS receiver (NMEA 0183)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import xor
from pathlib import Path

import numpy as np

from neurons.errors import DataError

RADIUS = 6_371_008.8
"""Mean radius of the Earth in metres (IUGG)."""
DAY = 86_400.0


@dataclass(frozen=True)
class Track:
    """Positions of a drive.

    Parameters
    ----------
    seconds : array, shape [N]
        Since the first sentence of the receiver, rising.
    latitude, longitude : array, shape [N]
        In degrees, north and east above 0.
    """

    seconds: np.ndarray
    latitude: np.ndarray
    longitude: np.ndarray

    def at(self, seconds: np.ndarray) -> np.ndarray:
        """Return latitude and longitude [n, 2] at some times, on straight lines between the positions."""
        return np.stack([np.interp(seconds, self.seconds, line) for line in (self.latitude, self.longitude)], axis=1)


def metres(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the distances [len(a), len(b)] of positions [n, 2] on the sphere (haversine formula)."""
    (lat_a, lon_a), (lat_b, lon_b) = np.radians(a).T, np.radians(b).T
    north = np.sin((lat_a[:, None] - lat_b) / 2) ** 2
    east = np.cos(lat_a)[:, None] * np.cos(lat_b) * np.sin((lon_a[:, None] - lon_b) / 2) ** 2
    distance: np.ndarray = 2 * RADIUS * np.arcsin(np.sqrt(np.clip(north + east, 0.0, 1.0)))
    return distance


def read_nmea(path: Path) -> Track:
    """Read the positions in the RMC and GGA sentences of a file.

    Sentences without a fix or with a wrong checksum are left out, others ignored.

    Raises
    ------
    DataError
        When the file cannot be read or has fewer than two positions.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    first: float | None = None
    found: dict[float, tuple[float, float]] = {}
    for line in lines:
        fields = _fields(line)
        if fields is None:
            continue
        time, position = fields
        first = time if first is None else first
        # past midnight the clock of the receiver starts anew
        since = time - first if time - first > -DAY / 2 else time - first + DAY
        if position is not None:
            found.setdefault(since, position)
    if len(found) < 2:
        raise DataError(f"{path} has {len(found)} positions; a track needs RMC or GGA sentences with a fix")
    seconds = np.array(sorted(found))
    latitude, longitude = np.array([found[second] for second in seconds]).T
    return Track(seconds, latitude, longitude)


def _fields(line: str) -> tuple[float, tuple[float, float] | None] | None:
    """Return the time of a sentence in seconds and its position, which is None without a fix."""
    body, _, checksum = line.strip().removeprefix("$").partition("*")
    try:
        if checksum and reduce(xor, body.encode(), 0) != int(checksum[:2], 16):
            return None
        fields = body.split(",")
        kind = fields[0][-3:]
        if kind not in ("RMC", "GGA") or not fields[1]:
            return None
        time = int(fields[1][:2]) * 3600 + int(fields[1][2:4]) * 60 + float(fields[1][4:])
        fixed = fields[2] == "A" if kind == "RMC" else fields[6] not in ("", "0")
        if not fixed:
            return time, None
        start = 3 if kind == "RMC" else 2
        north, side, east, other = fields[start : start + 4]
        return time, (_degrees(north, side, "S"), _degrees(east, other, "W"))
    except (ValueError, IndexError):
        return None  # receivers are switched off in the middle of a line


def _degrees(value: str, side: str, negative: str) -> float:
    """Return degrees from degrees and minutes, ddmm.mmmm or dddmm.mmmm."""
    point = value.index(".") if "." in value else len(value)
    degrees = int(value[: point - 2]) + float(value[point - 2 :]) / 60
    return -degrees if side == negative else degrees
