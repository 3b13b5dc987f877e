"""Pictures of matches: queries, their true places, and the places that networks took them for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from neurons.errors import StepError
from step.report import pieces
from step.report.html import Markup, element, join
from step.report.pictures import Album, tiles

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from benchmarks.datasets.places import PlaceDataset
    from step.places import PlaceResults
    from step.report.pieces import Plates
    from step.results import Results

WHITE = 99.0
"""Percentile of the pixels of an image that is shown as white: event counts would be too dark to be seen."""

QUERIES = 6
NETWORKS = 5
DATA = 3


class Match(NamedTuple):
    """What one network took a query for.

    Attributes
    ----------
    network : str
        Its name without what is said of the data, which stands above the pictures.
    place : int
    right : bool
    """

    network: str
    place: int
    right: bool


class Pair(NamedTuple):
    """One query beside the places that it was matched with.

    Attributes
    ----------
    query, true : int
        Its number, and the first place that it shows.
    matches : list of Match
    """

    query: int
    true: int
    matches: list[Match]


@dataclass(frozen=True)
class Sights:
    """Some queries of one data set, and what they were taken for.

    Attributes
    ----------
    data : str
    pairs : list of Pair
    queries, places : dict of int to numpy.ndarray
        Images [C, H, W] in [0, 1] by number; of places the first reference traverse.
    views : dict of int to numpy.ndarray
        Queries as the encoder shows them to the networks.
    reason : str
        Why there are no pictures; empty where there are.
    """

    data: str
    pairs: list[Pair]
    queries: dict[int, np.ndarray]
    places: dict[int, np.ndarray]
    views: dict[int, np.ndarray]
    reason: str = ""


def sights_of(results: Results, found: PlaceResults) -> list[Sights]:
    """Return pictures for each of the first data sets of a suite, with the reason where its data cannot be read."""
    groups: dict[str, list[str]] = {}
    for network, data in found.data.items():
        groups.setdefault(data, []).append(network)
    # the largest maps first: where a suite lets its map grow, they are what it is about
    sizes = found.costs.groupby("data", sort=False)["places"].max()
    chosen = sorted(groups, key=lambda data: -sizes.fillna(0)[data])[:DATA]
    return [_sights(results, found, data, groups[data][:NETWORKS]) for data in groups if data in chosen]


def _sights(results: Results, found: PlaceResults, data: str, networks: list[str]) -> Sights:
    from step.runner import setting_of

    own = found.matches[found.matches["network"].isin(networks)]
    pairs = choose(own.assign(network=own["network"].map(found.lines)), found.headline)
    try:
        setting, _ = setting_of(results.specs[results.first[networks[0]]], results.place.data)
        dataset: PlaceDataset = setting.dataset  # type: ignore[assignment]
        queries = dataset.test.batch([pair.query for pair in pairs])[0]
        wanted = sorted({p for pair in pairs for p in (pair.true, *(match.place for match in pair.matches))})
        places = dataset.references(0).batch(wanted)[0]
    except StepError as error:
        return Sights(data, [], {}, {}, {}, str(error))
    views = setting.encoder(queries, setting.T, generator=torch.Generator().manual_seed(0))[0]
    numbers = [pair.query for pair in pairs]
    return Sights(data, pairs, _by(numbers, queries), _by(wanted, places), _by(numbers, views))


def _by(numbers: list[int], images: Tensor) -> dict[int, np.ndarray]:
    return dict(zip(numbers, images.numpy(), strict=True))


def choose(matches: pd.DataFrame, headline: tuple[int, int], count: int = QUERIES) -> list[Pair]:
    """Choose queries that all networks matched rightly, that some did, and that none did, spread along the route."""
    length, tolerance = headline
    here = matches[(matches["length"] == length) & (matches["true_place"] >= 0) & (matches["place"] >= 0)]
    if here.empty:
        return []
    right = f"correct_t{tolerance}"
    # a place that is tied with others is right with some probability
    here = here.assign(**{right: here[right] >= 0.5})
    share = here.groupby("query")[right].mean()
    chosen = share == 1, (share > 0) & (share < 1), share == 0
    groups = [list(share.index[group]) for group in chosen]
    taken: list[int] = []
    # what a group lacks is taken from the larger ones
    for place, group in enumerate(sorted(groups, key=len)):
        quota = (count - len(taken)) // (len(groups) - place)
        taken += _spread(group, quota)
    pairs = []
    for query in sorted(taken, key=lambda query: (-share[query], query)):
        rows = here[here["query"] == query]
        found = [Match(str(r["network"]), int(r["place"]), bool(r[right])) for _, r in rows.iterrows()]
        pairs.append(Pair(int(query), int(rows["true_place"].iloc[0]), found))
    return pairs


def _spread(items: list[int], count: int) -> list[int]:
    if len(items) <= count:
        return items
    return [items[int((place + 0.5) * len(items) / count)] for place in range(count)]


def figures(plates: Plates, shown: Iterable[Sights], said: dict[str, str]) -> Markup:
    """Return a figure for each data set, or the line that says why there is none.

    Parameters
    ----------
    plates : Plates
    shown : iterable of Sights
    said : dict of str to str
        What captions say of each data set.
    """
    return join(*(_figure(plates, number, sights, said[sights.data]) for number, sights in enumerate(shown)))


def _figure(plates: Plates, number: int, sights: Sights, said: str) -> Markup:
    if sights.reason:
        return pieces.missing(f"No pictures of {sights.data}: {sights.reason}")
    if not sights.pairs:
        return pieces.missing(f"No pictures of {sights.data}: none of its queries shows a place of the map.")
    albums = {
        "query": _album(f"query-{number}", _brightened(sights.queries)),
        "place": _album(f"place-{number}", _brightened(sights.places)),
        "view": _album(f"view-{number}", sights.views),
    }  # fmt: skip

    def tile(album: str, key: int, note: str) -> Markup:
        images, order = albums[album]
        return images.image(order[key], note)

    rows = []
    for pair in sights.pairs:
        first = [
            tile("query", pair.query, f"query {pair.query}"), tile("view", pair.query, "as the networks see it"),
            tile("place", pair.true, f"true place {pair.true}"),
        ]  # fmt: skip
        others = [
            tile("place", m.place, f"{m.network}: place {m.place} {'✓' if m.right else '✗'}") for m in pair.matches
        ]
        rows.append(tiles("", [*first, *others]))
    kept = [images.kept() for images, _ in albums.values()]
    return pieces.figure(
        element("div", kept), element("h3", sights.data), join(*rows),
        plates.caption(
            "Queries beside their true places and the places that they were taken for (✓ within the tolerance, ✗ "
            "not): some that all networks matched rightly, some on which they differ, some that none did. Places as "
            "the first reference traverse shows them, of the run with the lowest seed. Images other than those "
            "that the networks see are brightened until one pixel in a hundred is white.", said,
        ),
    )  # fmt: skip


def _brightened(images: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
    return {key: image / max(float(np.percentile(image, WHITE)), 1e-3) for key, image in images.items()}


def _album(name: str, images: dict[int, np.ndarray]) -> tuple[Album, dict[int, int]]:
    return Album(name, np.stack(list(images.values()))), {key: place for place, key in enumerate(images)}
