"""Place recognition: places are mapped from references, and queries of another pass are to name them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple
from typing import Protocol as Interface

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from benchmarks.datasets.places import PlaceDataset, labels_of
from benchmarks.protocols.base import Learner, Outcome, Protocol, Setting, protocols
from benchmarks.protocols.batches import Batches
from benchmarks.protocols.place_metrics import Answers, Array, answers, curve, dilated, intervals, measures
from benchmarks.protocols.place_sequences import Matching, check_matching, column_blocks, sequence_scores
from benchmarks.protocols.place_tables import CURVE_POINTS, match_table, overview
from neurons.errors import OptionError, ShapeError


class Calibration(NamedTuple):
    """Other places than those of the map, by which a learner may choose its settings.

    Attributes
    ----------
    references : Tensor, shape [R, places, C, H, W]
    queries : Tensor, shape [queries, C, H, W]
    truth : Tensor of bool, shape [places, queries]
    """

    references: Tensor
    queries: Tensor
    truth: Tensor


class PlaceMapper(Interface):
    """What the protocol needs of a learner of places.

    Attributes
    ----------
    batch : int
        Queries that are answered at a time.
    memory : int
        Bytes that answering a query needs to hold.
    parameter_count : int
        Numbers that are learned or stored for the map.
    """

    batch: int

    @property
    def memory(self) -> int: ...

    @property
    def parameter_count(self) -> int: ...

    def map_places(self, references: Tensor, calibration: Calibration | None = None) -> None:
        """Learn the places of references [R, P, C, H, W] in [0, 1]."""

    def similarity(self, queries: Tensor, first: int = 0) -> Tensor:
        """Return how alike each place is to each query, [P, B], for queries [B, C, H, W] from number ``first`` on."""

    def details(self) -> dict[str, pd.DataFrame]:
        """Return tables of what is behind the answers."""


@protocols.register("place-recognition")
class PlaceRecognition(Protocol):
    """Place recognition: a learner maps the references; each query is answered by the place that is most alike.

    A query is answered alone and as the end of a sequence, at tolerances, and once more by whether to accept the answer
    at all. The test split is read once, after the map is made; other places, where the data set has them, are for the
    choice of settings. See :func:`~benchmarks.protocols.place_metrics.measures` for what is reported, and how ties and
    queries outside the map count.

    Parameters
    ----------
    lengths : list of int
        Frames of a sequence; 1 for single images. Sequences of L frames answer queries from the L-th on. The first
        gives the headline.
    tolerances : list of int
        An answer counts within so many indices of a true place. The first gives the headline.
    recall_at : list of int
        Numbers N of R@N; 1 is always among them.
    matching : {"diagonal", "velocities", "path"}
        How sequences are matched; see :func:`~benchmarks.protocols.place_sequences.sequence_scores`.
    speeds : list of two float
        Slowest and fastest of ``velocities``, in places a frame.
    penalty : float
        Of ``path``, for each place that a step is off one.
    truth_at : {"last", "first"}
        Whose true place a sequence is to name the counterpart of: the frame that it ends at, or the one that it begins
        with, whose place is then taken length - 1 before the answer, as VPRSNN counts. Both are one where query and map
        go at the same speed.
    square : bool
        Whether the tolerance also reaches over neighbouring queries, as in the code of LENS.
    accept_by : {"score", "standing"}
        What precision and recall sweep: the score of the best match, or by how many standard deviations of the query's
        scores over places it is above their mean.
    bootstrap : int
        Sets of queries that are drawn for the 95 % intervals; 0 for none.
    block : int, optional
        Neighbouring queries that are drawn together; the root of their number when left out, and at least twice the
        length of a sequence.
    timed : int
        Queries that are answered one by one, for the latency; 0 for none.
    """

    headline = "recall_at_1"
    drives = "map_places"

    def __init__(
        self,
        lengths: Sequence[int] = (1,),
        tolerances: Sequence[int] = (0, 1),
        recall_at: Sequence[int] = (1, 5, 10, 25),
        matching: Matching = "diagonal",
        speeds: Sequence[float] = (0.5, 2.0),
        penalty: float = 0.5,
        truth_at: Literal["last", "first"] = "last",
        square: bool = False,
        accept_by: Literal["score", "standing"] = "score",
        bootstrap: int = 1000,
        block: int | None = None,
        timed: int = 32,
    ) -> None:
        self.lengths = _numbers("lengths", lengths, 1)
        self.tolerances = _numbers("tolerances", tolerances, 0)
        self.recall_at = sorted({1, *_numbers("recall_at", recall_at, 1)})
        check_matching(matching, speeds, penalty)
        for name, value, known in (
            ("truth_at", truth_at, ("last", "first")),
            ("accept_by", accept_by, ("score", "standing")),
        ):
            if value not in known:
                raise OptionError(f"{name} is {known[0]!r} or {known[1]!r}, not {value!r}")
        if truth_at == "first" and matching != "diagonal":
            raise OptionError(f"truth_at: {matching} may begin at any place, so that only the last frame counts")
        for name, count, least in (("bootstrap", bootstrap, 0), ("block", block, 1), ("timed", timed, 0)):
            if count is not None and count < least:
                raise OptionError(f"{name} must be at least {least}, not {count}")
        self.matching: Matching = matching
        self.speeds = (float(speeds[0]), float(speeds[1]))
        self.penalty = penalty
        self.truth_at = truth_at
        self.square = square
        self.accept_by = accept_by
        self.bootstrap = bootstrap
        self.block = block
        self.timed = timed

    def check(self, setting: Setting, batch: int) -> None:
        data = places_of(setting)
        if not setting.encoder.repeats:
            raise OptionError("encoder: places are recognised by one view of an image; set encoder: view, or direct")
        queries = len(data.test)
        if self.recall_at[-1] > data.places:
            raise OptionError(
                f"protocol.recall_at: {self.recall_at[-1]} is more than the {data.places} places of {data.name}"
            )
        for length in self.lengths:
            if length > min(data.places, queries):
                raise OptionError(
                    f"protocol.lengths: {data.name} has {data.places} places and {queries} queries, too few for "
                    f"sequences of {length}"
                )
            if not bool(self._truth(data.truth, length, 0).any()):
                raise OptionError(f"protocol.lengths: no sequence of {length} queries of {data.name} ends at a place")
        for split in (data.train, data.test):
            images, _ = split.batch(torch.arange(min(batch, 8, len(split))))
            view = setting.encoder(images, 1, generator=torch.Generator().manual_seed(0))
            if view.dim() != 5:
                raise ShapeError(f"encoder: views of places must be images [T, B, C, H, W], not {list(view.shape)}")

    def run(self, learner: Learner | PlaceMapper, setting: Setting) -> Outcome:
        """Let the learner map the places, and ask it for the queries.

        Raises
        ------
        OptionError
            When the data are no places, or the learner maps none.
        ShapeError
            When its answers do not have the shape that was asked for.
        """
        data = places_of(setting)
        if not callable(getattr(learner, self.drives, None)):
            name = getattr(type(learner), "registered_name", type(learner).__name__)
            raise OptionError(f"learner: {name} does not map places; set another learner, such as templates")
        mapper: PlaceMapper = learner  # type: ignore[assignment]
        other = data.calibration
        calibration = None
        if other is not None:
            calibration = Calibration(
                _references(setting, other, mapper.batch), _queries(setting, other, mapper.batch), other.truth
            )
        references = _references(setting, data, mapper.batch)
        start = time.perf_counter()
        mapper.map_places(references, calibration)
        mapping = time.perf_counter() - start
        del references, calibration
        start = time.perf_counter()
        queries = _queries(setting, data, mapper.batch)
        encoding = time.perf_counter() - start
        start = time.perf_counter()
        similarity = _similarity(mapper, queries, data.places)
        answering = time.perf_counter() - start
        unanswered = _without_score(similarity)
        metrics, tables = self._scored(similarity, data.truth, setting.seed)
        metrics |= {
            "test_samples": float(len(queries)),
            "places": float(data.places),
            "queries_without_score": float(unanswered),
            "map_seconds": mapping,
            "encoding_seconds": encoding / len(queries),
            "queries_per_second": len(queries) / max(answering, 1e-9),
            "memory_bytes": float(mapper.memory),
            "parameters": float(mapper.parameter_count),
        }
        if self.timed:
            metrics["latency_seconds"] = self._latency(mapper, queries)
        return Outcome(metrics, tables | {f"map.{name}": table for name, table in mapper.details().items()})

    def probe(self, setting: Setting, samples: int, batch: int) -> Batches:
        data = places_of(setting)
        return _batches(setting, data.test, _spread(len(data.test), samples), batch)

    def describe(self) -> dict[str, Any]:
        ways = {
            "diagonal": "one place a frame",
            "velocities": f"the best line of {self.speeds[0]:g} to {self.speeds[1]:g} places a frame",
            "path": f"the best way of 0 to 3 places a frame, {self.penalty:g} s.d. off for each place beside one",
        }
        sequences = ""
        if max(self.lengths) > 1:
            lengths = ", ".join(map(str, self.lengths))
            sequences = f"; sequences of {lengths} frames, matched by {self.matching}: {ways[self.matching]}"
        accepted = "score of the best match" if self.accept_by == "score" else "standing of the best match among places"
        reach = ", over neighbouring queries too" if self.square else ""
        return {
            "Protocol": f"place recognition; one answer to each query{sequences}; right within "
            f"{', '.join(map(str, self.tolerances))} places of a true one{reach}; ties count by expectation; precision "
            f"and recall by the {accepted}; intervals by blocks of queries"
        }

    def _scored(self, similarity: Tensor, truth: Tensor, seed: int) -> tuple[dict[str, float], dict[str, pd.DataFrame]]:
        metrics: dict[str, float] = {}
        rows: list[dict[str, Any]] = []
        matches, curves = [], []
        true_place = labels_of(truth).numpy()
        for length in self.lengths:
            found = self._answers(similarity, truth, length)
            confidence = found.score if self.accept_by == "score" else found.standing
            matches.append(match_table(found, confidence, length, self.tolerances, true_place))
            for number, tolerance in enumerate(self.tolerances):
                values = measures(found, number, confidence, self.recall_at)
                bounds = self._intervals(found, number, confidence, length, seed)
                plain = length == self.lengths[0] and number == 0
                for name, value in values.items():
                    metrics[name if plain else f"{name}.L{length}.t{tolerance}"] = value
                    low, high = bounds.get(name, (np.nan, np.nan))
                    row = {"L": length, "tolerance": tolerance, "metric": name}
                    rows.append({**row, "value": value, "low": low, "high": high})
                shape = curve(confidence, found.right[number], found.possible[number]).thinned(CURVE_POINTS)
                facts = {"threshold": shape.threshold, "precision": shape.precision, "recall": shape.recall}
                curves.append(pd.DataFrame({"L": length, "tolerance": tolerance, **facts}))
        tables = {
            "places": pd.DataFrame(rows),
            "matches": pd.concat(matches, ignore_index=True),
            "pr": pd.concat(curves, ignore_index=True),
            "similarity": overview(similarity, truth),
        }
        return metrics, tables

    def _answers(self, similarity: Tensor, truth: Tensor, length: int) -> Answers:
        """Return the answers to the queries from the ``length``-th on."""
        scores = sequence_scores(similarity, length, self.matching, speeds=self.speeds, penalty=self.penalty)
        return answers(scores, [self._truth(truth, length, t) for t in self.tolerances], self.recall_at)

    def _truth(self, truth: Tensor, length: int, tolerance: int) -> Tensor:
        """Return which answers are right for the sequences of a length, [P, Q - length + 1]."""
        wide, skip = dilated(truth, tolerance, self.square), length - 1
        if self.truth_at == "last" or not skip:
            return wide[:, skip:]
        # the answer p of a sequence stands for the place p - skip of its first frame
        begun = torch.zeros_like(wide[:, skip:])
        begun[skip:] = wide[:-skip, :-skip]
        return begun

    def _intervals(
        self, found: Answers, number: int, confidence: Array, length: int, seed: int
    ) -> dict[str, tuple[float, float]]:
        if not self.bootstrap:
            return {}
        count = len(found.place)
        block = min(count, self.block or max(round(count**0.5), 2 * length if length > 1 else 1))
        # one seed for all tolerances and learners, so that they are drawn alike and can be paired
        generator = np.random.default_rng([seed, length])
        return intervals(found, number, confidence, self.recall_at, block, self.bootstrap, generator)

    def _latency(self, mapper: PlaceMapper, queries: Tensor) -> float:
        """Return the median of the seconds of a query that is answered alone."""
        seconds = []
        for index in _spread(len(queries), self.timed).tolist():
            start = time.perf_counter()
            mapper.similarity(queries[index : index + 1], first=index).cpu()
            seconds.append(time.perf_counter() - start)
        return float(np.median(seconds)) if seconds else float("nan")


def places_of(setting: Setting) -> PlaceDataset:
    """Return the data set of a setting, if it shows places.

    Raises
    ------
    OptionError
    """
    data = setting.dataset
    if not isinstance(data, PlaceDataset):
        raise OptionError(f"protocol: {data.name} shows no places along a route; set protocol: classification")
    return data


def _similarity(mapper: PlaceMapper, queries: Tensor, places: int) -> Tensor:
    similarity = torch.empty(places, len(queries))
    report = getattr(mapper, "progress", lambda event: None)
    for first in range(0, len(queries), mapper.batch):
        report({"stage": f"answering queries, {first} of {len(queries)}"})
        asked = queries[first : first + mapper.batch]
        answer = mapper.similarity(asked, first=first)
        if answer.shape != (places, len(asked)):
            name = getattr(type(mapper), "registered_name", type(mapper).__name__)
            raise ShapeError(
                f"learner: {name} answers {len(asked)} queries among {places} places with {list(answer.shape)}, "
                f"not {[places, len(asked)]}"
            )
        similarity[:, first : first + len(asked)] = answer.detach().to("cpu", torch.float32)
    return similarity


def _without_score(similarity: Tensor) -> int:
    """Turn what is no score (NaN, inf) into -inf, in place; return how many queries have no score at all."""
    missing = 0
    for first, last in column_blocks(*similarity.shape):
        part = similarity[:, first:last]
        part.masked_fill_(~torch.isfinite(part), -torch.inf)
        missing += int((~torch.isfinite(part).any(dim=0)).sum())
    return missing


def _references(setting: Setting, data: PlaceDataset, batch: int) -> Tensor:
    views = _views(_batches(setting, data.train, torch.arange(len(data.train)), batch))
    return views.unflatten(0, (data.traverses, data.places))


def _queries(setting: Setting, data: PlaceDataset, batch: int) -> Tensor:
    return _views(_batches(setting, data.test, torch.arange(len(data.test)), batch))


def _views(batches: Batches) -> Tensor:
    return torch.cat([x[0] for x, _ in batches.epoch()])


def _batches(setting: Setting, split: Any, indices: Tensor, batch: int) -> Batches:
    # one time step: a view is the same at all of them
    return Batches(split, indices, setting.encoder, 1, batch, False, setting.seed, setting.dataset.classes)


def _spread(count: int, samples: int) -> Tensor:
    return torch.linspace(0, count - 1, min(samples, count)).round().long()


def _numbers(name: str, given: Sequence[int], least: int) -> list[int]:
    whole = isinstance(given, list | tuple) and all(isinstance(n, int) and not isinstance(n, bool) for n in given)
    if not whole or not given or min(given) < least or len(set(given)) < len(given):
        raise OptionError(f"{name} is a list of different whole numbers from {least}, not {given!r}")
    return list(given)
