"""Nordland: the same railway line in four seasons."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.datasets.base import datasets
from benchmarks.datasets.fetch import ByHand, by_hand
from benchmarks.datasets.places import PlaceDataset
from benchmarks.datasets.route_folders import SIZE, finder, known_route

NAME = "nordland"
TRAVERSES = {season: (season, season.capitalize()) for season in ("spring", "summer", "fall", "winter")}
FORMS = (".", "Nordland", "dataset")
ADVICE = (
    "get the images (https://huggingface.co/datasets/Somayeh-h/Nordland or "
    "https://webdiis.unizar.es/~jmfacil/pr-nordland) and put the folders spring, summer, fall and winter, with "
    "images-00001.png and so on in each, in a folder 'nordland' of a data folder"
)

by_hand[NAME] = ByHand(ADVICE, finder(NAME, FORMS, TRAVERSES, ADVICE, "spring", "summer", "fall", "winter"))


@datasets.register(NAME)
def load(
    references: str | Sequence[str] = ("spring", "fall"),
    query: str = "summer",
    skip: int = 8,
    places: int | None = 3_300,
    calibration: int = 600,
    size: int | None = SIZE,
    channels: int = 1,
    frames: str | None = None,
    root: Path | None = None,
) -> PlaceDataset:
    """Nordland: 728 km of railway in spring, summer, fall and winter, the same frames showing the same places.

    The defaults are those of S. Hussaini, M. Milford and T. Fischer (ICRA 2023, arXiv:2209.08723): every eighth frame,
    about 100 m apart, 600 places for calibration and 2,700 for the map.

    Parameters
    ----------
    references : str or sequence of str
        Seasons in which places are learned.
    query : str
        Season in which they are asked for.
    skip, places, calibration, size, channels
        See ``route-folders``.
    frames : str, optional
        List of the frames that count, in the folder of the data: ``nordland_imageNames_{traverse}.txt`` of VPRSNN,
        which leaves out the parts where the train is slower than 15 km/h, or ``nordland.csv`` of VPRTempo. All frames
        when left out.
    root : path, optional
        Folder to search first.

    Raises
    ------
    DataError
        When folders, images or lists are missing.
    """
    seasons = [references] if isinstance(references, str) else list(references)
    slow = "frames where the train is slow or stands are among them" if frames is None else f"frames of {frames}"
    return known_route(
        NAME, FORMS, TRAVERSES, ADVICE, seasons, query, root,
        skip=skip, places=places, calibration=calibration, size=size, channels=channels, frames=frames,
        source="NRK, Nordlandsbanen minute by minute; N. Suenderhauf, P. Neubert and P. Protzel, Are We There Yet? "
        "Challenging SeqSLAM on a 3000 km Journey Across All Four Seasons, ICRA workshop 2013",
        licence="CC BY-NC-SA 4.0 (Hugging Face, Somayeh-h/Nordland); not for commercial use",
        note=f"references: {', '.join(seasons)}; queries: {query}; every {skip}. frame; {slow}",
    )  # fmt: skip
