"""A user's own drives: one folder of images for each pass along a route."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.datasets.along_route import along_route, cut, read_truth
from benchmarks.datasets.base import datasets
from benchmarks.datasets.fetch import ByHand, Find, by_hand
from benchmarks.datasets.places import PlaceDataset
from benchmarks.datasets.roots import find_form, search_roots
from benchmarks.datasets.route_images import listed, route_images, traverse_files, whole
from neurons.errors import DataError, OptionError

NAME = "route-folders"
SIZE = 64
LAYOUT = "a folder of images for each traverse, named in the order in which they were taken"

by_hand[NAME] = ByHand("give your own folder as its option 'path'")


@datasets.register(NAME)
def load(
    path: str,
    references: str | Sequence[str],
    query: str,
    truth: str | None = None,
    size: int | None = SIZE,
    channels: int = 1,
    skip: int = 1,
    places: int | None = None,
    calibration: int = 0,
    frames: str | None = None,
    root: Path | None = None,
) -> PlaceDataset:
    """Route folders: your own drives, a folder of images for each, read as they are needed.

    Parameters
    ----------
    path : str
        The folder with the folders. A path that is not absolute is looked for in the data folders, then in the working
        folder.
    references : str or sequence of str
        The folder of each reference traverse; all show the same places in the same order. Where a drive lies in several
        folders, a pattern names them: ``part_*/dusk``.
    query : str
        The folder of the queries.
    truth : str, optional
        File below ``path`` with what is true, see :func:`benchmarks.datasets.along_route.read_truth`; when left out,
        the i-th query shows the i-th place.
    size : int, optional
        Side of the square to which whole images are brought, in pixels; None keeps images that are square and alike.
    channels : {1, 3}
        Grey or colour.
    skip : int
        Every skip-th image is used; 1 uses all.
    places : int, optional
        Places that are used, from the first; all when left out.
    calibration : int
        How many of them, the first ones, are set apart for calibration.
    frames : str, optional
        File below ``path`` with the names of the images that count, before any are skipped; ``{traverse}`` in its name
        stands for the folder.
    root : path, optional
        Folder to search first.

    Raises
    ------
    DataError
        When folders, images or lists are missing, or numbers of places and queries do not fit.
    OptionError
        When a number is outside its domain.
    """
    names = [references] if isinstance(references, str) else list(references)
    return from_folders(
        _find(path, [*names, query], root),
        names,
        query,
        name=NAME,
        truth=truth,
        size=size,
        channels=channels,
        skip=skip,
        places=places,
        calibration=calibration,
        frames=frames,
        source=str(Path(path)),
        licence="that of the pictures",
        note=f"references: {', '.join(names)}; queries: {query}",
    )


def from_folders(
    folder: Path,
    references: Sequence[str],
    query: str,
    *,
    truth: str | None = None,
    size: int | None = SIZE,
    channels: int = 1,
    skip: int = 1,
    places: int | None = None,
    calibration: int = 0,
    frames: str | None = None,
    labels: Mapping[str, str] | None = None,
    **said: Any,
) -> PlaceDataset:
    """Return the place data set of some folders of images; see :func:`load`.

    ``labels`` says what stands for a traverse in the name of the file ``frames`` where it is not the folder.
    """
    if not references:
        raise OptionError("dataset.references must name at least one traverse")
    for option, number in (("skip", skip), ("places", places), ("size", size)):
        if number is not None and number < 1:
            raise OptionError(f"dataset.{option} must be at least 1, not {number}")
    everything = {traverse: _files(folder, traverse, frames, labels or {}) for traverse in (*references, query)}
    files = {traverse: found[::skip] for traverse, found in everything.items()}
    taken = {traverse: files[traverse][:places] for traverse in references}
    counts = {traverse: len(found) for traverse, found in taken.items()}
    if places is not None and min(counts.values()) < places:
        least = min(counts, key=lambda traverse: counts[traverse])
        raise DataError(f"{folder / least} has {counts[least]} of {places} places (every {skip}. image is one)")
    if len(set(counts.values())) != 1:
        shown = ", ".join(f"{traverse} {count}" for traverse, count in counts.items())
        raise DataError(
            f"reference traverses must show the same places in the same order, but differ in number: {shown}"
        )
    count = counts[references[0]]
    queries = files[query]
    if truth is None:
        queries = queries[: count if places else None]
        if len(queries) != count:
            raise DataError(
                f"{folder / query} has {len(queries)} queries for {count} places and no ground truth says what they "
                "show: name a file as dataset.truth, or use the first ones only by dataset.places"
            )
        matches = torch.eye(count, dtype=torch.bool)
    else:
        whole_route = len(everything[references[0]]), len(everything[query])
        matches = _picked(folder / truth, (len(files[references[0]]), len(queries)), whole_route, skip)
        matches, stay = cut(matches, count)
        queries = [queries[index] for index in stay.tolist()]
    reading = whole(folder, taken[references[0]], size, channels)
    return along_route(
        route_images(folder, [file for found in taken.values() for file in found], reading),
        route_images(folder, queries, reading),
        matches,
        traverses=len(references),
        calibration=calibration,
        **said,
    )


def _files(folder: Path, traverse: str, frames: str | None, labels: Mapping[str, str]) -> list[str]:
    found = traverse_files(folder, traverse)
    if frames is None:
        return found
    return listed(folder / frames.replace("{traverse}", labels.get(traverse, traverse)), found)


def _picked(path: Path, used: tuple[int, int], everything: tuple[int, int], skip: int) -> Tensor:
    """Read a ground truth of the images that are used, or of all images, of which the used ones are picked."""
    found = read_truth(path, used, everything)
    return found if tuple(found.shape) == used else found[::skip, ::skip]


def resolved(folder: Path, aliases: Sequence[str]) -> str | None:
    """Return the first of the names under which people keep a traverse that is a folder here."""
    return next((alias for alias in aliases if any(part.is_dir() for part in folder.glob(alias))), None)


def finder(name: str, forms: Sequence[str], traverses: Mapping[str, Sequence[str]], advice: str, *used: str) -> Find:
    """Return what finds the folder that holds the traverses ``used``, each under one of the names it goes by."""

    def lacks(folder: Path) -> list[str]:
        return [traverse for traverse in used if resolved(folder, traverses[traverse]) is None]

    def find(root: str | Path | None = None, own: bool = False) -> Path:
        return find_form(name, dict.fromkeys(forms, lacks), root, advice=advice, own=own)

    return find


def known_route(
    name: str,
    forms: Sequence[str],
    traverses: Mapping[str, Sequence[str]],
    advice: str,
    references: str | Sequence[str],
    query: str,
    root: Path | None,
    **options: Any,
) -> PlaceDataset:
    """Return a published data set whose traverses are folders that go by several names."""
    names = [references] if isinstance(references, str) else list(references)
    for traverse in (*names, query):
        if traverse not in traverses:
            raise OptionError(f"{name} has the traverses {', '.join(traverses)}, not {traverse!r}")
    folder = finder(name, forms, traverses, advice, *names, query)(root)
    folders = {traverse: resolved(folder, traverses[traverse]) or traverse for traverse in (*names, query)}
    labels = {where: traverse for traverse, where in folders.items()}
    return from_folders(
        folder, [folders[traverse] for traverse in names], folders[query], name=name, labels=labels, **options
    )


def _find(path: str, traverses: Sequence[str], root: Path | None) -> Path:
    given = Path(path).expanduser()
    looked = [given] if given.is_absolute() else [*(place / given for place in search_roots(root)), Path.cwd() / given]
    for folder in looked:
        if folder.is_dir():
            return folder
    shown = ", ".join(str(folder) for folder in looked)
    raise DataError(f"dataset.path: no folder {path!r} with the folders {', '.join(traverses)}; looked at {shown}")
