"""Oxford RobotCar: the same streets in sun, in rain and at dusk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.datasets.base import datasets
from benchmarks.datasets.fetch import ByHand, by_hand
from benchmarks.datasets.places import PlaceDataset
from benchmarks.datasets.route_folders import SIZE, finder, known_route

NAME = "oxford-robotcar"
DATES = {"sun": "2015-08-12-15-04-18", "rain": "2015-10-29-12-18-17", "dusk": "2014-11-21-16-07-03"}
TRAVERSES = {
    name: (name, name.capitalize(), f"{date}/stereo/left", f"{date}/stereo/left_rect", date)
    for name, date in DATES.items()
}
"""Under the name of the weather, or of the drive as the data set has it."""
FORMS = (".", "ORC", "orc")
ADVICE = (
    "register at https://robotcar-dataset.robots.ox.ac.uk, get the left stereo camera of "
    f"{', '.join(f'{date} ({name})' for name, date in DATES.items())} and put the images in folders "
    f"{', '.join(DATES)} in a folder '{NAME}' of a data folder"
)

by_hand[NAME] = ByHand(ADVICE, finder(NAME, FORMS, TRAVERSES, ADVICE, *TRAVERSES))


@datasets.register(NAME)
def load(
    references: str | Sequence[str] = ("sun", "rain"),
    query: str = "dusk",
    skip: int = 8,
    places: int | None = 450,
    calibration: int = 75,
    size: int | None = SIZE,
    channels: int = 1,
    frames: str | None = None,
    truth: str | None = None,
    root: Path | None = None,
) -> PlaceDataset:
    """Oxford RobotCar: a drive through Oxford in sun, in rain and at dusk, images named by their microsecond.

    The defaults are those of S. Hussaini, M. Milford and T. Fischer (ICRA 2023, arXiv:2209.08723): 75 places for
    calibration and 375 for the map. The drives have other speeds, so frames must be matched first: by a list for each
    drive, whose i-th names show the same place (``orc-{traverse}.csv`` of VPRTempo; a frame may occur more than once),
    or by a ground truth.

    Parameters
    ----------
    references : str or sequence of str
        Drives in which places are learned: sun, rain or dusk.
    query : str
        Drive in which they are asked for.
    skip, places, calibration, size, channels, truth
        See ``route-folders``.
    frames : str, optional
        Lists of matched frames, in the folder of the data; ``{traverse}`` stands for the drive.
    root : path, optional
        Folder to search first.

    Raises
    ------
    DataError
        When folders, images or lists are missing.
    """
    drives = [references] if isinstance(references, str) else list(references)
    matched = "taken as matched frame by frame" if frames is None else f"matched by {frames}"
    return known_route(
        NAME, FORMS, TRAVERSES, ADVICE, drives, query, root,
        skip=skip, places=places, calibration=calibration, size=size, channels=channels, frames=frames, truth=truth,
        source="W. Maddern, G. Pascoe, C. Linegar and P. Newman, 1 Year, 1000 km: The Oxford RobotCar Dataset, IJRR "
        "36, 2017, https://robotcar-dataset.robots.ox.ac.uk",
        licence="CC BY-NC-SA 4.0; not for commercial use",
        note=f"references: {', '.join(drives)}; queries: {query}; every {skip}. frame; drives {matched}",
    )  # fmt: skip
