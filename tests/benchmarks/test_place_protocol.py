"""The place-recognition protocol, driven with learners whose every answer is known beforehand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from benchmarks import datasets, protocols
from benchmarks.datasets.places import PlaceDataset, along
from benchmarks.protocols import Setting
from benchmarks.protocols.places import Calibration, PlaceRecognition
from encoders import Direct
from encoders.base import Encoder
from encoders.view import View
from neurons.errors import OptionError, ShapeError

FACTS = {"channels": 1, "image_size": 2, "source": "here", "licence": "none", "note": ""}


def images(first: int, count: int) -> Tensor:
    """Images [count, 1, 2, 2] whose every pixel is their number."""
    return torch.arange(first, first + count, dtype=torch.uint8)[:, None, None, None].expand(count, 1, 2, 2).clone()


def dataset(truth: Tensor, traverses: int = 2, **options: Any) -> PlaceDataset:
    places, queries = truth.shape
    references = [images(100 * r, places) for r in range(traverses)]
    splits = along(references, images(0, queries), truth)
    return PlaceDataset("toy", classes=places, truth=truth, traverses=traverses, **splits, **FACTS, **options)


class Scripted:
    """Answers with the columns of a matrix; keeps what it was asked and given."""

    memory, parameter_count = 640, 160

    def __init__(self, matrix: Tensor, batch: int = 3) -> None:
        self.matrix, self.batch = matrix, batch
        self.asked: list[tuple[int, list[int]]] = []

    def map_places(self, references: Tensor, calibration: Calibration | None = None) -> None:
        self.references, self.calibration = references, calibration

    def similarity(self, queries: Tensor, first: int = 0) -> Tensor:
        assert queries.shape[1:] == (1, 2, 2)
        numbers = (255 * queries[:, 0, 0, 0]).round().long().tolist()
        self.asked.append((first, numbers))
        return self.matrix[:, numbers]

    def details(self) -> dict[str, pd.DataFrame]:
        return {"neurons": pd.DataFrame({"neuron": [0, 1]})}


def outcome(matrix: Tensor, truth: Tensor, batch: int = 3, seed: int = 0, **options: Any):
    options = {"recall_at": [1, 2], "bootstrap": 50, **options}
    setting = Setting(dataset(truth), View(), 1, seed)
    protocol = PlaceRecognition(**options)
    protocol.check(setting, batch)
    return protocol.run(Scripted(matrix, batch), setting)


# 4 places, 5 queries; the last query shows no place
MATRIX = torch.tensor(
    [[0.9, 0.1, 0.2, 0.4, 0.3], [0.2, 0.7, 0.6, 0.3, 0.2], [0.1, 0.2, 0.5, 0.05, 0.1], [0.3, 0.3, 0.1, 0.2, 0.1]]
)
TRUTH = torch.eye(4, 5).bool()


def test_a_matrix_by_hand():
    result = outcome(MATRIX, TRUTH, lengths=[1, 2], tolerances=[0, 1])
    metrics = result.metrics
    assert metrics["recall_at_1"] == 2 / 4
    assert metrics["recall_at_1.L1.t1"] == 3 / 4
    # pairs of frames ending at queries 1 to 4 name places 1 (.9 + .7), 2 (.7 + .5), 3 (.5 + .2), 1 (.4 + .2)
    assert metrics["recall_at_1.L2.t0"] == 3 / 3
    assert metrics["precision_at_100_recall.L2.t0"] == 3 / 4
    assert metrics["rejection_auroc.L2.t0"] == 1.0
    assert metrics["chance.L2.t0"] == pytest.approx(1 / 3)
    assert (metrics["test_samples"], metrics["places"], metrics["queries_without_score"]) == (5, 4, 0)
    assert (metrics["memory_bytes"], metrics["parameters"]) == (640, 160)
    assert min(metrics[name] for name in ("map_seconds", "latency_seconds", "queries_per_second")) > 0
    matches = result.tables["matches"]
    assert list(matches.columns) == [
        "query", "L", "place", "score", "runner_up", "confidence", "correct_t0", "correct_t1", "true_place",
    ]  # fmt: skip
    pairs = matches[matches["L"] == 2]
    assert pairs["query"].tolist() == [1, 2, 3, 4]
    assert pairs["place"].tolist() == [1, 2, 3, 1]
    assert pairs["true_place"].tolist() == [1, 2, 3, -1]
    assert pairs["score"].tolist() == pytest.approx([0.8, 0.6, 0.35, 0.3])
    assert pairs["correct_t0"].tolist() == [1, 1, 1, 0]
    assert list(result.tables["map.neurons"]["neuron"]) == [0, 1]


def test_every_value_of_the_table_is_a_metric_and_has_its_interval():
    result = outcome(MATRIX, TRUTH, lengths=[2, 1], tolerances=[1, 0])
    table = result.tables["places"]
    assert list(table.columns) == ["L", "tolerance", "metric", "value", "low", "high"]
    for row in table.itertuples():
        plain = row.L == 2 and row.tolerance == 1
        name = row.metric if plain else f"{row.metric}.L{row.L}.t{row.tolerance}"
        assert result.metrics[name] == row.value
        at_100 = row.metric.endswith("100_precision") or row.metric == "chance"
        assert math.isnan(row.low) == at_100
        assert at_100 or row.low <= row.value <= row.high
    curves = result.tables["pr"]
    for key, points in curves.groupby(["L", "tolerance"]):
        area = (np.diff(points["recall"], prepend=0) * points["precision"]).sum()
        row = table[table["metric"] == "pr_auc"].set_index(["L", "tolerance"]).loc[key]
        assert area == pytest.approx(row["value"])


def test_answers_do_not_depend_on_the_batch_and_intervals_on_the_seed_alone():
    first, second, other = (outcome(MATRIX, TRUTH, batch, seed) for batch, seed in ((3, 0), (5, 0), (3, 1)))
    pd.testing.assert_frame_equal(first.tables["places"], second.tables["places"])
    pd.testing.assert_frame_equal(first.tables["matches"], second.tables["matches"])
    assert first.tables["places"]["value"].equals(other.tables["places"]["value"])
    assert not first.tables["places"]["low"].equals(other.tables["places"]["low"])


def test_what_the_learner_gets():
    calibration = dataset(torch.eye(2, 3).bool())
    setting = Setting(dataset(TRUTH, calibration=calibration), View(), 4, 0)
    learner = Scripted(MATRIX)
    PlaceRecognition(recall_at=[1], timed=2).run(learner, setting)
    numbers = (255 * learner.references[..., 0, 0, 0]).round().long()
    assert learner.references.shape == (2, 4, 1, 2, 2)
    assert numbers.tolist() == [[0, 1, 2, 3], [100, 101, 102, 103]]
    assert learner.calibration.references.shape == (2, 2, 1, 2, 2)
    assert learner.calibration.queries.shape == (3, 1, 2, 2)
    assert torch.equal(learner.calibration.truth, calibration.truth)
    # all of them in batches, then two alone, each with the number of its first
    assert learner.asked == [(0, [0, 1, 2]), (3, [3, 4]), (0, [0]), (4, [4])]


@pytest.mark.parametrize(
    ("traffic", "expected"), [("constant", 0.25), ("nothing", 0.0), ("nan", 0.0), ("infinite", 0.0)]
)
@pytest.mark.parametrize("length", [1, 3])
def test_answers_that_say_nothing_are_not_above_chance(traffic, expected, length):
    values = {"constant": 3.0, "nothing": -math.inf, "nan": math.nan, "infinite": math.inf}
    matrix = torch.full((4, 5), values[traffic])
    metrics = outcome(matrix, TRUTH, lengths=[length], tolerances=[0]).metrics
    assert metrics["recall_at_1"] <= metrics["chance"] + 1e-9 or traffic != "constant"
    assert metrics["queries_without_score"] == (0 if traffic == "constant" else 5)
    if length == 1:
        assert metrics["recall_at_1"] == expected
    else:
        # the windows of the diagonal end at two of the places; all are alike
        assert metrics["recall_at_1"] == pytest.approx(0.5)
    assert metrics["recall_at_100_precision"] == 0.0
    assert metrics["rejection_auroc"] == 0.5


def test_queries_outside_the_map_are_rejected_by_what_is_accepted_by():
    """Scores of inside queries are lower here, but stand out more from those of other places."""
    matrix = torch.full((10, 20), 1.0)
    matrix[torch.arange(10), torch.arange(10)] = 2.0
    matrix[:, 10:] = 3.0 + 0.1 * torch.rand(10, 10, generator=torch.Generator().manual_seed(0))
    truth = torch.eye(10, 20).bool()
    by_score = outcome(matrix, truth).metrics
    by_standing = outcome(matrix, truth, accept_by="standing").metrics
    assert by_score["recall_at_1"] == by_standing["recall_at_1"] == 1.0
    assert by_score["precision_at_100_recall"] == by_standing["precision_at_100_recall"] == 0.5
    assert by_score["rejection_auroc"] == by_score["recall_at_100_precision"] == 0.0
    assert by_standing["rejection_auroc"] == by_standing["recall_at_100_precision"] == 1.0
    assert by_standing["rejection_recall_at_100_precision"] == by_standing["pr_auc"] == 1.0


def test_numbers_of_queries_and_places_may_differ():
    """Two queries of each place: lines of half a place a frame find the way, a diagonal does not."""
    truth = torch.zeros(6, 11, dtype=torch.bool)
    truth[torch.arange(11) // 2, torch.arange(11)] = True
    matrix = truth.float() + 0.1 * torch.rand(6, 11, generator=torch.Generator().manual_seed(0))
    slow = outcome(matrix, truth, lengths=[5], tolerances=[0], matching="velocities").metrics
    path = outcome(matrix, truth, lengths=[5], tolerances=[0], matching="path").metrics
    even = outcome(matrix, truth, lengths=[5], tolerances=[0]).metrics
    assert even["recall_at_1"] < slow["recall_at_1"]
    assert path["recall_at_1"] > 0.7


def test_the_first_frame_of_a_sequence_may_say_what_is_right():
    """A query that is a place further on with every frame: its first frame and its last are not one place apart."""
    truth = torch.zeros(9, 4, dtype=torch.bool)
    truth[torch.arange(4) * 2, torch.arange(4)] = True
    matrix = torch.zeros(9, 4)
    matrix[torch.arange(4), torch.arange(4)] = 1.0
    at = {which: outcome(matrix, truth, lengths=[3], tolerances=[0], truth_at=which) for which in ("first", "last")}
    # windows name places 2 and 3; their first frames show 0 and 2, which lie 2 before 2 and 4; their last 4 and 6
    assert at["first"].tables["matches"]["correct_t0"].tolist() == [1.0, 0.0]
    assert at["last"].tables["matches"]["correct_t0"].tolist() == [0.0, 0.0]


def test_an_overview_holds_the_best_of_each_block():
    generator = torch.Generator().manual_seed(0)
    matrix, truth = torch.rand(450, 230, generator=generator), torch.rand(450, 230, generator=generator) < 0.001
    truth[0, 0] = True
    matrix[:3] = math.nan
    table = outcome(matrix, truth, batch=64, bootstrap=0).tables["similarity"]
    assert len(table) == 200 * 200
    assert table["place_last"].max() == 449
    assert table["query_last"].max() == 229
    for row in table.sample(60, random_state=0).itertuples():
        block = (slice(row.place_first, row.place_last + 1), slice(row.query_first, row.query_last + 1))
        known = matrix[block][~matrix[block].isnan()]
        assert math.isnan(row.similarity) if not len(known) else row.similarity == known.max().item()
        assert row.true == truth[block].any().item()
    assert table["similarity"].isna().sum() == 200


def test_a_probe_is_spread_over_the_queries():
    setting = Setting(dataset(torch.eye(9).bool()), View(), 4, 0)
    probe = PlaceRecognition().probe(setting, 3, 2)
    batches = [x for x, _ in probe.epoch()]
    assert [tuple(x.shape) for x in batches] == [(1, 2, 1, 2, 2), (1, 1, 1, 2, 2)]
    assert (255 * torch.cat(batches, dim=1)[0, :, 0, 0, 0]).round().tolist() == [0, 4, 8]


def test_it_is_registered_and_described():
    protocol = protocols.create("place-recognition", lengths=[1, 10], matching="path", square=True)
    assert isinstance(protocol, PlaceRecognition)
    assert "sequences of 1, 10 frames, matched by path" in protocol.describe()["Protocol"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lengths": []}, "lengths is a list of different whole numbers from 1, not \\[\\]"),
        ({"lengths": 4}, "lengths is a list of different whole numbers from 1, not 4"),
        ({"lengths": [1, 1]}, "lengths is a list of different"),
        ({"tolerances": [-1]}, "tolerances is a list of different whole numbers from 0"),
        ({"recall_at": [0]}, "recall_at is a list of different whole numbers from 1"),
        ({"matching": "dtw"}, "matching is 'diagonal', 'velocities', 'path', not 'dtw'"),
        ({"speeds": 2.0}, "speeds are the slowest"),
        ({"truth_at": "middle"}, "truth_at is 'last' or 'first', not 'middle'"),
        ({"truth_at": "first", "matching": "path"}, "truth_at: path may begin at any place"),
        ({"accept_by": "margin"}, "accept_by is 'score' or 'standing'"),
        ({"bootstrap": -1}, "bootstrap must be at least 0"),
        ({"block": 0}, "block must be at least 1"),
        ({"timed": -2}, "timed must be at least 0"),
    ],
)
def test_options_that_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        PlaceRecognition(**options)


class Flickering(Encoder):
    """An encoder whose time steps differ."""

    value = "real"

    def encode(self, x: Tensor, T: int, generator: torch.Generator | None) -> Tensor:
        return torch.stack([x * t / T for t in range(T)])


def test_settings_that_are_refused():
    def refused(message: str, data: Any, encoder: Encoder, **options: Any) -> None:
        with pytest.raises(OptionError, match=message) as caught:
            PlaceRecognition(**options).check(Setting(data, encoder, 1, 0), 4)
        assert "\n" not in str(caught.value)

    toy = dataset(TRUTH)
    refused("protocol: digits shows no places along a route", datasets.load("digits"), Direct())
    refused("encoder: places are recognised by one view", toy, Flickering())
    refused("recall_at: 25 is more than the 4 places of toy", toy, View())
    refused(
        "lengths: toy has 4 places and 5 queries, too few for sequences of 5", toy, View(), recall_at=[1], lengths=[5]
    )
    only_first = torch.zeros(4, 5, dtype=torch.bool)
    only_first[0, 0] = True
    refused(
        "lengths: no sequence of 3 queries of toy ends at a place",
        dataset(only_first),
        View(),
        recall_at=[1],
        lengths=[3],
    )
    PlaceRecognition(recall_at=[4], lengths=[1, 4]).check(Setting(toy, View(), 1, 0), 64)


def test_learners_that_are_refused():
    setting = Setting(dataset(TRUTH), View(), 1, 0)

    class Fitting:
        batch = 4

    with pytest.raises(OptionError, match="learner: Fitting does not map places"):
        PlaceRecognition(recall_at=[1]).run(Fitting(), setting)
    with pytest.raises(ShapeError, match=r"Scripted answers 3 queries among 4 places with \[3, 3\], not \[4, 3\]"):
        PlaceRecognition(recall_at=[1]).run(Scripted(MATRIX[:3]), setting)
