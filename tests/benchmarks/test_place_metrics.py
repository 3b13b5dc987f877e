"""Measures of place recognition: by hand, against plain loops and scikit-learn, and what their intervals cover."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks.protocols import place_metrics, place_sequences
from benchmarks.protocols.place_metrics import answers, block_weights, curve, dilated, intervals, measures

INF = math.inf

# score of each of 4 places (rows) for each of 5 queries; the last query shows no place
SCORES = torch.tensor(
    [
        [0.9, 0.1, 0.2, 0.4, 0.3],
        [0.2, 0.7, 0.6, 0.3, 0.2],
        [0.1, 0.2, 0.5, 0.1, 0.1],
        [0.3, 0.3, 0.1, 0.2, 0.1],
    ]
)
TRUTH = torch.tensor([[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0]], dtype=torch.bool)


def test_a_matrix_by_hand():
    found = answers(SCORES, [TRUTH, dilated(TRUTH, 1)], [1, 2, 3])
    assert found.place.tolist() == [0, 1, 1, 0, 0]
    assert found.runner_up.tolist() == pytest.approx([0.3, 0.3, 0.5, 0.3, 0.2])
    assert found.possible.tolist() == [[True] * 4 + [False]] * 2
    exact = measures(found, 0, found.score, [1, 2, 3])
    # accepted in the order of scores .9 right, .7 right, .6 wrong, .4 wrong, .3 outside
    assert exact == pytest.approx(
        {
            "recall_at_1": 2 / 4,
            "recall_at_2": 3 / 4,
            "recall_at_3": 4 / 4,
            "chance": 1 / 4,
            "precision_at_100_recall": 2 / 5,
            "recall_at_100_precision": 2 / 4,
            "pr_auc": 2 / 4,
            "rejection_auroc": 1.0,
            "rejection_recall_at_100_precision": 1.0,
        }
    )
    near = measures(found, 1, found.score, [1, 2, 3])
    assert near["recall_at_1"] == 3 / 4
    assert near["recall_at_100_precision"] == 3 / 4
    assert near["precision_at_100_recall"] == 3 / 5
    assert near["chance"] == pytest.approx((2 + 3 + 3 + 2) / 4 / 4)


def test_tolerances_along_places_and_along_queries_too():
    truth = torch.eye(5, dtype=torch.bool)
    away = (torch.arange(5)[:, None] - torch.arange(5)).abs()
    assert torch.equal(dilated(truth, 0), truth)
    assert torch.equal(dilated(truth, 2), away <= 2)
    assert torch.equal(dilated(truth, 1, square=True), away <= 2)
    assert torch.equal(dilated(truth[:, :3], 9), torch.ones(5, 3, dtype=torch.bool))
    assert not dilated(torch.zeros(4, 4, dtype=torch.bool), 3, square=True).any()


def plain_hits(scores: NDArray, truth: NDArray, number: int) -> float:
    """Mean over all orders in which the places can be named, of those without a score none."""
    hits = []
    for order in itertools.permutations(range(len(scores))):
        named = [p for p in sorted(order, key=lambda p: -scores[p]) if scores[p] > -INF]
        hits.append(any(truth[p] for p in named[:number]))
    return float(np.mean(hits))


# few values, so that many are tied; 0 stands for no score
matrices = st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=1, max_size=6)
truths = st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=6, max_size=6)


@settings(max_examples=60, deadline=None)
@given(columns=matrices, shown=truths)
def test_recall_is_the_mean_over_all_orders_of_what_is_tied(columns, shown):
    scores = np.array(columns, dtype=float).T
    scores[scores == 0] = -INF
    truth = np.array(shown).T[:, : scores.shape[1]]
    found = answers(torch.from_numpy(scores), [torch.from_numpy(truth)], [1, 2, 3, 4, 9])
    for q, (column, right) in enumerate(zip(scores.T, truth.T, strict=True)):
        for i, number in enumerate([1, 2, 3, 4, 9]):
            assert found.hits[0, i, q] == pytest.approx(plain_hits(column, right, number))
        answered = column.max() > -INF
        assert found.place[q] == (column.argmax() if answered else -1)
        assert found.runner_up[q] == sorted(column)[-2]
    assert np.array_equal(found.right[0], found.hits[0, 0])


@settings(max_examples=100, deadline=None)
@given(
    queries=st.lists(
        st.tuples(st.integers(0, 4), st.sampled_from([0.0, 0.5, 1.0]), st.booleans()), min_size=1, max_size=12
    )
)
def test_a_curve_is_that_of_plain_thresholds(queries):
    confidence = np.array([score for score, _, _ in queries], dtype=float)
    confidence[confidence == 0] = -INF
    right = np.array([share for _, share, _ in queries]) * (confidence > -INF)
    possible = np.array([shows for *_, shows in queries]) | (right > 0)
    if not possible.any():
        possible[0] = True
    found = curve(confidence, right, possible)
    rows, perfect = [], 0.0
    for threshold in sorted(set(confidence), reverse=True):
        accepted = confidence >= threshold
        rows.append((threshold, right[accepted].mean(), right[accepted].sum() / possible.sum()))
        if (right[accepted] == 1.0).all():
            perfect = rows[-1][2]
    assert np.allclose(np.array(rows).T, [found.threshold, found.precision, found.recall])
    assert found.recall_at_100_precision == pytest.approx(perfect)
    area = sum(p * (r - before) for (_, p, r), before in zip(rows, [0.0, *(r for *_, r in rows)], strict=False))
    assert found.area == pytest.approx(area)


def drawn(seed: int, count: int = 60) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    rng = np.random.default_rng(seed)
    right = rng.random(count) < 0.5
    possible = right | (rng.random(count) < 0.5)
    confidence = (rng.normal(size=count) + right).round(1)
    return confidence, right.astype(float), possible, rng.integers(0, 4, size=(3, count)).astype(float)


@pytest.mark.parametrize("seed", range(5))
def test_areas_are_those_of_scikit_learn(seed):
    confidence, right, possible, weights = drawn(seed)
    found = curve(confidence, right, possible)
    assert found.area / found.recall[-1] == pytest.approx(average_precision_score(right, confidence))
    areas = place_metrics._areas(confidence, right, weights)
    ranks = place_metrics._auroc(confidence, possible, weights)
    for row, area, rank in zip(weights, areas, ranks, strict=True):
        expected = average_precision_score(right, confidence, sample_weight=row)
        assert area / (row * right).sum() == pytest.approx(expected)
        assert rank == pytest.approx(roc_auc_score(possible, confidence, sample_weight=row))


def test_a_thinned_curve_keeps_its_ends_and_its_last_perfect_point():
    rng = np.random.default_rng(0)
    right = rng.random(5000) < 0.5
    right[:37] = True
    whole = curve(-np.arange(5000.0), right.astype(float), np.ones(5000, dtype=bool))
    thin = whole.thinned(500)
    assert len(thin.threshold) <= 500
    assert (thin.recall[0], thin.recall[-1]) == (whole.recall[0], whole.recall[-1])
    assert thin.recall_at_100_precision == whole.recall_at_100_precision > 0
    assert whole.thinned(5000) is whole


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3])
def test_a_matrix_that_says_nothing_is_worth_what_guessing_is(value):
    scores, truth = torch.full((20, 30), value), torch.zeros(20, 30, dtype=torch.bool)
    truth[torch.arange(30) % 20, torch.arange(30)] = True
    found = answers(scores, [truth, dilated(truth, 1)], [1, 5])
    for number, true in ((0, 1.0), (1, 2.9)):
        result = measures(found, number, found.score, [1, 5])
        # two of the 20 places, asked for by three of the 30 queries, have one neighbour only
        share = true / 20 if number == 0 else dilated(truth, 1).sum().item() / 600
        assert result["recall_at_1"] == pytest.approx(share) == pytest.approx(result["chance"])
        assert result["precision_at_100_recall"] == pytest.approx(share)
        assert result["recall_at_100_precision"] == 0.0
        assert result["pr_auc"] == pytest.approx(share**2)
    assert measures(found, 0, found.score, [1, 5])["recall_at_5"] == pytest.approx(5 / 20)
    assert not found.standing.any()


def test_without_any_score_nothing_is_right():
    found = answers(torch.full((4, 5), -INF), [TRUTH], [1, 9])
    assert found.place.tolist() == [-1] * 5
    result = measures(found, 0, found.score, [1, 9])
    assert result["rejection_auroc"] == 0.5
    assert {name: value for name, value in result.items() if value and name != "rejection_auroc"} == {}


def test_standing_is_measured_among_the_places_that_have_a_score():
    scores = torch.tensor([[3.0], [1.0], [-INF], [2.0]])
    found = answers(scores, [torch.ones(4, 1, dtype=torch.bool)], [1])
    assert found.standing[0] == pytest.approx((3 - 2) / np.std([3, 1, 2]))


def test_blocks_of_columns_change_nothing(monkeypatch):
    scores = torch.rand(8, 30, generator=torch.Generator().manual_seed(0)).round(decimals=1)
    truth = torch.rand(8, 30, generator=torch.Generator().manual_seed(1)) < 0.2
    whole = answers(scores, [truth], [1, 3])
    monkeypatch.setattr(place_sequences, "ENTRIES", 50)
    parts = answers(scores, [truth], [1, 3])
    for name in ("place", "score", "runner_up", "hits", "right", "possible", "guessed"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name))
    assert np.allclose(whole.standing, parts.standing)


@pytest.mark.parametrize(("count", "block"), [(10, 3), (10, 10), (7, 1), (250, 16)])
def test_blocks_are_drawn_whole_and_around_the_end(count, block):
    weights = np.concatenate(list(block_weights(count, block, 230, np.random.default_rng(0))))
    assert weights.shape == (230, count)
    assert (weights.sum(axis=1) == count).all()
    assert (weights >= 0).all()
    again = np.concatenate(list(block_weights(count, block, 230, np.random.default_rng(0))))
    assert np.array_equal(weights, again)
    # every query is drawn as often as any other, those at the ends too
    if block == count:
        assert (weights == 1).all()
    else:
        assert np.abs(weights.mean(axis=0) - 1).max() < 6 * weights.std() / math.sqrt(230)


def test_intervals_cover_and_single_queries_would_not():
    """R@1 of routes on which hits and misses come in runs of about twenty queries."""
    rng = np.random.default_rng(0)
    covered = dict.fromkeys((32, 1), 0)
    for _ in range(80):
        smooth = uniform_filter1d(rng.normal(size=1100), 20)
        right = smooth[50:1050] > 0
        scores = torch.from_numpy(np.stack([right, ~right]).astype(float))
        truth = torch.zeros(2, 1000, dtype=torch.bool)
        truth[0] = True
        found = answers(scores, [truth], [1])
        for block in covered:
            low, high = intervals(found, 0, found.score, [1], block, 100, np.random.default_rng(1))["recall_at_1"]
            covered[block] += low <= 0.5 <= high
    assert covered[32] / 80 > 0.85
    assert covered[1] / 80 < 0.6


def test_intervals_hold_their_measures_and_none_is_given_at_100_precision():
    found = answers(SCORES.repeat(1, 20), [TRUTH.repeat(1, 20)], [1, 2])
    values = measures(found, 0, found.score, [1, 2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bounds = intervals(found, 0, found.score, [1, 2], 10, 300, np.random.default_rng(0))
    assert set(values) - set(bounds) == {
        "chance", "recall_at_100_precision", "rejection_recall_at_100_precision",
    }  # fmt: skip
    for name, (low, high) in bounds.items():
        assert low <= values[name] + 1e-9
        assert high >= values[name] - 1e-9
