"""Drives recorded by event cameras: Brisbane-Event-VPR by car, and QCR-Event-VPR by a robot on a campus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.datasets.along_route import along_route, cut
from benchmarks.datasets.base import Split, datasets
from benchmarks.datasets.event_frames import event_frames
from benchmarks.datasets.fetch import ByHand, by_hand
from benchmarks.datasets.gps import metres, read_nmea
from benchmarks.datasets.places import PlaceDataset
from benchmarks.datasets.roots import find_form
from benchmarks.datasets.route_images import Whole, traverse_files
from neurons.errors import DataError, OptionError

BRISBANE = "brisbane-event-vpr"
QCR = "qcr-event-vpr"
KINDS = (".parquet", ".zip", ".txt")
"""Forms of a recording, the quickest first."""


@dataclass(frozen=True)
class Drive:
    """A recording, what it is called, and where frames lie in it.

    Parameters
    ----------
    file : str
        Beginning of the name of its file, or name of a folder of frames.
    start : float
        Second at which the first frame starts.
    landmarks : tuple of float
        Seconds after it at which the robot passed the landmarks of the route.
    """

    file: str
    start: float
    landmarks: tuple[float, ...] = ()


DRIVES = {
    "sunset1": Drive("dvs_vpr_2020-04-21-17-03-03", 1587452593.35),
    "sunset2": Drive("dvs_vpr_2020-04-22-17-24-21", 1587540271.65),
    "daytime": Drive("dvs_vpr_2020-04-24-15-12-03", 1587705136.80),
    "night": Drive("dvs_vpr_2020-04-27-18-13-29", 1587975221.10),
    "morning": Drive("dvs_vpr_2020-04-28-09-14-11", 1588029271.73),
    "sunrise": Drive("dvs_vpr_2020-04-29-06-20-23", 1588105240.91),
}
"""Where the first position of the GPS receiver falls on the clock of the camera, from the public code of T. Fischer
(Tobias-Fischer/sparse-event-vpr); night from a public fork of it."""

# fmt: off
WALKS = {
    "1": Drive("bags_2021-08-19-08-25-42", 2.0, (0, 6, 13, 31, 58, 77, 101.5, 124, 148, 157.7, 163)),
    "2": Drive("bags_2021-08-19-08-28-43", 0.0, (0, 6, 13, 31.5, 58, 76, 100.5, 123, 148.5, 156.5, 162)),
    "3": Drive("bags_2021-08-19-09-45-28", 2.0, (0, 6.5, 13.5, 31.5, 58.5, 77.5, 102.5, 126, 150, 158.5, 165)),
    "4": Drive("bags_2022-03-28-11-51-26", 8.0, (0, 6.7, 13.2, 31, 57, 74, 97, 119, 141, 148, 154)),
    "5": Drive("bags_2022-03-28-12-01-42", 7.7, (0, 2.9, 5.8, 12.9, 23.5, 32, 41.5, 50, 59.3, 62, 64.5)),
    "6": Drive("bags_2021-08-20-10-19-45", 0.0, (0, 2.5, 5, 12.7, 23.7, 33.6, 43, 52.4, 62.3, 65.4, 68)),
    "7": Drive("bags_2022-03-28-12-03-44", 12.0, (0, 15.5, 30, 63.5, 110, 141, 185, 217, 246.5, 256, 263)),
}
"""The walks along one route, numbered as in its paper, with the times of landmarks from the same code; starts count
from the first event."""
# fmt: on

ADVICE = {
    BRISBANE: "get recordings (parquet or zip) and .nmea files from https://zenodo.org/record/4302805 or "
    "https://huggingface.co/datasets/TobiasRobotics/brisbane-event-vpr and put them in a folder "
    "'brisbane-event-vpr' of a data folder",
    QCR: "get recordings (parquet) from https://zenodo.org/records/10494919 and put them in a folder 'qcr-event-vpr' "
    "of a data folder",
}


def find(name: str, root: str | Path | None = None, own: bool = False) -> Path:
    """Return the folder with at least one of the recordings of a data set."""
    drives = DRIVES if name == BRISBANE else WALKS

    def lacks(folder: Path) -> list[str]:
        recorded = any(any(folder.glob(f"{drive.file}*")) for drive in drives.values())
        made = any((folder / drive).is_dir() for drive in drives) and any(folder.rglob("*.nmea"))
        return [] if recorded or made else ["recordings"]

    return find_form(name, dict.fromkeys((".", "input_parquet_files"), lacks), root, advice=ADVICE[name], own=own)


for _name in (BRISBANE, QCR):
    by_hand[_name] = ByHand(ADVICE[_name], partial(find, _name))


class Seen(NamedTuple):
    """Frames of a drive, float32 [N, 1, size, size], and where each was seen, [N, coordinates]."""

    frames: Tensor
    where: np.ndarray


@datasets.register(BRISBANE)
def load_brisbane(
    reference: str | Sequence[str] = "sunset2",
    query: str = "sunset1",
    window: float = 1.0,
    size: int = 64,
    clip: int = 10,
    tolerance: float = 70.0,
    places: int | None = None,
    calibration: int = 0,
    root: Path | None = None,
) -> PlaceDataset:
    """Brisbane-Event-VPR: 8 km of road driven six times from sunrise to night with an event camera, matched by GPS.

    A frame counts the events of ``window`` seconds. Recordings are read whole, which takes minutes for each.

    Parameters
    ----------
    reference : str or sequence of str
        Drives in which places are learned: sunset1, sunset2, daytime, night, morning or sunrise. The places are those
        of the first; of the others the frames nearest to them are taken.
    query : str
        Drive in which they are asked for.
    window : float
        Seconds of a frame.
    size : int
        Cells along a side of a frame.
    clip : int
        Events of a pixel in a frame that stand for 1; more are taken for a burst.
    tolerance : float
        Metres within which a query shows a place; the authors take 70.
    places : int, optional
        The first ones of the route; all when left out.
    calibration : int
        How many of them, the first ones, are set apart for calibration.
    root : path, optional
        Folder to search first. The recordings may be .parquet, .zip or .txt, or folders of frames already made, one for
        each window from the first position on.

    Raises
    ------
    OptionError
        When there is no such drive or a number is outside its domain.
    DataError
        When files are missing or are not what they should be.
    """

    def seen(folder: Path, name: str) -> Seen:
        logs = sorted(folder.rglob(f"*{name}*.nmea")) or sorted(folder.parent.glob(f"gps_data/*{name}*.nmea"))
        if not logs:
            raise DataError(f"{folder} has no file *{name}*.nmea with the positions of {name}; {ADVICE[BRISBANE]}")
        track, drive = read_nmea(logs[0]), DRIVES[name]
        end = float(track.seconds[-1])
        frames = _frames(folder, drive, name, lambda first: (drive.start, drive.start + end), window, size, clip)
        middles = (np.arange(len(frames)) + 0.5) * window
        inside = middles <= end
        return Seen(frames[torch.from_numpy(inside)], track.at(middles[inside]))

    return _traverses(
        BRISBANE, DRIVES, seen, metres, reference, query, tolerance, places, calibration, root,
        source="T. Fischer and M. Milford, Event-Based Visual Place Recognition With Ensembles of Temporal Windows, "
        "RA-L 5, 2020, https://zenodo.org/record/4302805",
        licence="that of the record, https://zenodo.org/record/4302805",
        note=f"frames of {window:g} s; a query shows the places within {tolerance:g} m by GPS",
    )  # fmt: skip


@datasets.register(QCR)
def load_qcr(
    reference: str | Sequence[str] = "1",
    query: str = "2",
    window: float = 1.0,
    size: int = 64,
    clip: int = 10,
    tolerance: float = 2.0,
    places: int | None = None,
    calibration: int = 0,
    root: Path | None = None,
) -> PlaceDataset:
    """QCR-Event-VPR: one route of a robot with an event camera, seven times at three speeds, matched by landmarks.

    Where a frame was seen is the share of the route, measured by the time that walk 1 takes from landmark to landmark.

    Parameters
    ----------
    reference : str or sequence of str
        Walks in which places are learned: 1 to 4 (normal speed), 5, 6 (fast) or 7 (slow).
    query : str
        Walk in which they are asked for.
    tolerance : float
        Share of the route, in per cent, within which a query shows a place; the authors take 2.
    window, size, clip, places, calibration, root
        As for ``brisbane-event-vpr``.

    Raises
    ------
    OptionError
        When there is no such walk or a number is outside its domain.
    DataError
        When files are missing or are not what they should be.
    """
    route_marks = np.array(WALKS["1"].landmarks)

    def seen(folder: Path, name: str) -> Seen:
        walk = WALKS[name]
        end = walk.landmarks[-1]
        frames = _frames(
            folder, walk, name, lambda first: (first + walk.start, first + walk.start + end), window, size, clip
        )
        middles = (np.arange(len(frames)) + 0.5) * window
        inside = middles <= end
        share = np.interp(middles[inside], walk.landmarks, 100 * route_marks / route_marks[-1])
        return Seen(frames[torch.from_numpy(inside)], share[:, None])

    def apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        distance: np.ndarray = np.abs(a - b.T)
        return distance

    return _traverses(
        QCR, WALKS, seen, apart, reference, query, tolerance, places, calibration, root,
        source="T. Fischer and M. Milford, How Many Events Do You Need? Event-Based Visual Place Recognition Using "
        "Sparse But Varying Pixels, RA-L 7, 2022, https://zenodo.org/records/10494919",
        licence="that of the record, https://zenodo.org/records/10494919",
        note=f"frames of {window:g} s; a query shows the places within {tolerance:g} % of the route by landmarks",
    )  # fmt: skip


def _frames(folder: Path, drive: Drive, name: str, span: Any, window: float, size: int, clip: int) -> Tensor:
    """Return the frames of a recording, or those that have been made of it."""
    for kind in KINDS:
        files = [file for file in sorted(folder.glob(f"{drive.file}*{kind}")) if "_hot_pixels.txt" not in file.name]
        if files:
            return event_frames(files[0], size, window, clip, span)
    for made in (drive.file, name):
        if (folder / made).is_dir():
            reading = Whole(size, 1)
            read = [reading.read(folder / file) for file in traverse_files(folder, made)]
            return torch.from_numpy(np.stack(read)).to(torch.float32) / 255.0
    raise DataError(f"{folder} has no recording {drive.file}*({', '.join(KINDS)}) and no folder of frames {name}")


def _traverses(
    name: str,
    drives: Mapping[str, Drive],
    seen: Any,
    distance: Any,
    reference: str | Sequence[str],
    query: str,
    tolerance: float,
    places: int | None,
    calibration: int,
    root: Path | None,
    **said: Any,
) -> PlaceDataset:
    """Return a place data set of drives whose positions are known."""
    names = [str(each) for each in ([reference] if isinstance(reference, (str, int)) else reference)]
    for option, drive in [*(("reference", each) for each in names), ("query", str(query))]:
        if drive not in drives:
            raise OptionError(f"dataset.{option} is one of {', '.join(drives)}, not {drive!r}")
    if not names:
        raise OptionError("dataset.reference must name at least one drive")
    if not tolerance >= 0:
        raise OptionError(f"dataset.tolerance must be at least 0, not {tolerance}")
    folder = find(name, root)
    first, *others = (seen(folder, each) for each in names)
    count = len(first.frames) if places is None else places
    if not 1 <= count <= len(first.frames):
        raise OptionError(f"dataset.places is 1 to {len(first.frames)} for {names[0]}, not {places}")
    frames = [first.frames[:count]]
    for other in others:
        nearest = distance(first.where[:count], other.where).argmin(axis=1)
        frames.append(other.frames[torch.from_numpy(nearest)])
    asked = seen(folder, str(query))
    whole_truth = torch.from_numpy(distance(first.where, asked.where) <= tolerance)
    truth, stay = cut(whole_truth, count)
    return along_route(
        Split(torch.cat(frames), torch.arange(count * len(names)), 1.0),
        Split(asked.frames[stay], torch.arange(len(stay)), 1.0),
        truth,
        traverses=len(names),
        calibration=calibration,
        name=name,
        **{**said, "note": f"references: {', '.join(names)}; queries: {query}; {said['note']}"},
    )
