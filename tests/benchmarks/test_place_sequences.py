"""Sequence matching of places: against plain loops, and on routes that are driven at other speeds."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from benchmarks.protocols import place_sequences
from benchmarks.protocols.place_sequences import sequence_scores
from neurons.errors import OptionError

INF = math.inf


def restated(s: NDArray, length: int, matching: str, speeds: tuple[float, float], penalty: float) -> NDArray:
    """Every window and every way, one by one."""
    places, queries = s.shape
    found = np.full((places, queries - length + 1), -INF)
    for p in range(places):
        for q in range(length - 1, queries):
            for ways in ways_of(length, matching, speeds):
                rows = [p - back for back in ways]
                if min(rows) < 0:
                    continue
                total = sum(s[row, q - k] for k, row in enumerate(rows))
                if matching == "path":
                    steps = [b - a for a, b in itertools.pairwise(ways)]
                    total -= sum(penalty * abs(d - 1) * s[:, q - k].std() for k, d in enumerate(steps))
                found[p, q - length + 1] = max(found[p, q - length + 1], total / length)
    return found


def ways_of(length: int, matching: str, speeds: tuple[float, float]):
    """Yield how many places each frame lies back, the last frame first."""
    if matching == "diagonal":
        yield list(range(length))
    elif matching == "velocities":
        for back in range(100):
            if speeds[0] * (length - 1) <= back <= speeds[1] * (length - 1):
                yield [math.floor(back * k / (length - 1) + 0.5) for k in range(length)]
    else:
        for steps in itertools.product(range(4), repeat=length - 1):
            yield [0, *itertools.accumulate(steps)]


@settings(max_examples=60, deadline=None)
@given(
    places=st.integers(2, 7),
    queries=st.integers(2, 6),
    length=st.integers(2, 4),
    matching=st.sampled_from(["diagonal", "velocities", "path"]),
    speeds=st.sampled_from([(0.5, 2.0), (1.0, 1.0), (0.7, 3.0)]),
    penalty=st.sampled_from([0.0, 0.5, 1.5]),
    seed=st.integers(0, 99),
)
def test_the_ways_are_those_of_plain_loops(places, queries, length, matching, speeds, penalty, seed):
    length = min(length, places, queries)
    s = torch.rand(places, queries, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = sequence_scores(s, length, matching, speeds=speeds, penalty=penalty)
    torch.testing.assert_close(found, torch.from_numpy(restated(s.numpy(), length, matching, speeds, penalty)))


@pytest.mark.parametrize("matching", ["diagonal", "velocities", "path"])
def test_blocks_of_columns_change_nothing(matching, monkeypatch):
    s = torch.rand(9, 40, generator=torch.Generator().manual_seed(0))
    whole = sequence_scores(s, 5, matching)
    monkeypatch.setattr(place_sequences, "ENTRIES", 50)
    assert torch.equal(sequence_scores(s, 5, matching), whole)


@pytest.mark.parametrize("matching", ["diagonal", "velocities", "path"])
def test_windows_look_back_only(matching):
    s = torch.rand(9, 12, generator=torch.Generator().manual_seed(0))
    later = s.clone()
    later[:, 8:] = 5.0
    assert torch.equal(sequence_scores(s, 4, matching)[:, :5], sequence_scores(later, 4, matching)[:, :5])


def test_a_diagonal_by_hand():
    s = torch.tensor([[5.0, 0.0, 1.0], [0.0, 3.0, 9.0], [2.0, 4.0, 1.0]])
    expected = torch.tensor([[-INF, -INF], [4.0, 4.5], [2.0, 2.0]], dtype=torch.float64)
    assert torch.equal(sequence_scores(s, 2), expected)
    assert torch.equal(sequence_scores(s, 1), s.double())


def test_a_place_without_a_score_counts_as_the_least_alike_and_a_silent_frame_says_nothing():
    s = torch.tensor([[4.0, -INF], [-INF, -INF], [2.0, -INF]])
    # the first frame becomes 4, 2, 2, the second 0
    expected = torch.tensor([[-INF], [2.0], [1.0]], dtype=torch.float64)
    assert torch.equal(sequence_scores(s, 2), expected)


def route(positions: NDArray, noise: float, places: int = 250) -> Tensor:
    """Similarity of noisy views from these positions to those from places 0, 1, ... of a smooth random route."""
    rng = np.random.default_rng(0)
    views = gaussian_filter1d(rng.normal(size=(places, 48)), 1.0, axis=0)
    views /= views.std()
    seen = np.stack([np.interp(positions, np.arange(places), view) for view in views.T], axis=1)
    seen += noise * rng.normal(size=seen.shape)
    return -torch.cdist(torch.from_numpy(views), torch.from_numpy(seen), p=1.0)


def recalled(positions: NDArray, length: int, matching: str) -> float:
    found = sequence_scores(route(positions, 2.5), length, matching).argmax(dim=0).numpy()
    return float((abs(found - positions[length - 1 :].round()) <= 1).mean())


KEPT = np.random.default_rng(1).random(250) >= 0.1
ROUTES = {
    "as the map": np.arange(250.0),
    "20 % slower": np.arange(0.0, 249.0, 0.8),
    "20 % faster": np.arange(0.0, 249.0, 1.2),
    "50 % slower": np.arange(0.0, 249.0, 0.5),
    "50 % faster": np.arange(0.0, 249.0, 1.5),
    "one frame in ten dropped": np.arange(250.0)[KEPT],
    "stops": np.concatenate([np.r_[np.arange(i, i + 25), np.full(10, i + 24)] for i in range(0, 250, 25)]).astype(
        float
    ),
}


@pytest.mark.parametrize("name", ROUTES)
def test_other_speeds_stops_and_dropped_frames(name):
    score = {matching: recalled(ROUTES[name], 20, matching) for matching in ("diagonal", "velocities", "path")}
    if name == "as the map":
        assert min(score.values()) > 0.95
        return
    assert score["path"] > 0.9
    if name == "stops":
        # a line must pay for a stop, a path need not
        assert score["diagonal"] < score["velocities"] < score["path"]
        return
    assert score["velocities"] > 0.9
    # at a constant other speed the diagonal leaves the way; frames dropped now and then only bend it
    assert score["diagonal"] < (0.6 if "%" in name else score["path"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 5}, "lengths: a window of 5 frames does not fit 4 places and 6 queries"),
        ({"length": 2, "matching": "dtw"}, "matching is 'diagonal', 'velocities', 'path', not 'dtw'"),
        ({"length": 2, "speeds": (1.2, 2.0)}, "speeds are the slowest"),
        ({"length": 2, "penalty": -1.0}, "penalty must be at least 0"),
    ],
)
def test_what_is_refused(options, message):
    with pytest.raises(OptionError, match=message):
        sequence_scores(torch.zeros(4, 6), **options)
