"""SFU Mountain: a forest trail in dry and wet weather, at dusk and at night."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.datasets.base import datasets
from benchmarks.datasets.fetch import ByHand, by_hand
from benchmarks.datasets.places import PlaceDataset
from benchmarks.datasets.route_folders import SIZE, finder, known_route

NAME = "sfu-mountain"
TRAVERSES = {
    name: (f"part_[ab]/stereo_right/{name}/frames", f"part-[ab]/stereo_right/{name}/frames", name)
    for name in ("dry", "wet", "dusk", "night")
}
"""The first two parts of the trail one after the other, or one folder."""
FORMS = (".", "SFU-Mountain")
ADVICE = (
    "get the frames of the right stereo camera (http://autonomy.cs.sfu.ca/sfu-mountain-dataset) and put them in "
    f"part_a/stereo_right/dry/frames and so on in a folder '{NAME}' of a data folder"
)

by_hand[NAME] = ByHand(ADVICE, finder(NAME, FORMS, TRAVERSES, ADVICE, "dry", "dusk"))


@datasets.register(NAME)
def load(
    references: str | Sequence[str] = "dry",
    query: str = "dusk",
    skip: int = 1,
    places: int | None = 375,
    calibration: int = 75,
    size: int | None = SIZE,
    channels: int = 1,
    frames: str | None = None,
    truth: str | None = None,
    root: Path | None = None,
) -> PlaceDataset:
    """SFU Mountain: a forest trail in dry and wet weather, at dusk and at night, matched frame by frame.

    The defaults are those of S. Hussaini, M. Milford and T. Fischer (T-RO 2025, arXiv:2311.13186): 75 places for
    calibration and 300 for the map.

    Parameters
    ----------
    references : str or sequence of str
        Drives in which places are learned: dry, wet, dusk or night.
    query : str
        Drive in which they are asked for.
    skip, places, calibration, size, channels, truth
        See ``route-folders``.
    frames : str, optional
        Lists of frames, in the folder of the data: ``SFU-Mountain_imageNames_{traverse}.txt`` of VPRSNN.
    root : path, optional
        Folder to search first.

    Raises
    ------
    DataError
        When folders, images or lists are missing.
    """
    drives = [references] if isinstance(references, str) else list(references)
    return known_route(
        NAME, FORMS, TRAVERSES, ADVICE, drives, query, root,
        skip=skip, places=places, calibration=calibration, size=size, channels=channels, frames=frames, truth=truth,
        source="J. Bruce, J. Wawerla and R. Vaughan, The SFU Mountain Dataset: Semi-Structured Woodland Trails Under "
        "Changing Environmental Conditions, ICRA workshop 2015",
        licence="that of its authors, http://autonomy.cs.sfu.ca/sfu-mountain-dataset",
        note=f"references: {', '.join(drives)}; queries: {query}; parts a and b of the trail",
    )  # fmt: skip
