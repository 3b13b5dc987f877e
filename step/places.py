"""What is stored about runs that recognised places: recall, matches, similarity, neurons, costs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from step.spec import Spec
    from step.store import Store
    from step.suite import Cell

PROTOCOL = "place-recognition"

COSTS = ("places", "map_seconds", "latency_seconds", "queries_per_second", "memory_bytes", "parameters")
"""Metrics of the protocol that say how large a map is and what it costs."""

_FIRST = ("matches", "pr", "similarity", "map.neurons")
_WORLD = "dataset"


@dataclass(frozen=True)
class PlaceResults:
    """Runs that recognised places.

    Every frame begins with run, network, seed. Those from ``matches`` on are of one run of each network, that with the
    lowest seed.

    Attributes
    ----------
    scores : DataFrame
        length (of sequences of queries), tolerance, metric, value, low, high (bootstrap over blocks of queries).
    costs : DataFrame
        One row for each run: data, line (its network without what is said of the data), synthetic, and the columns
        of ``COSTS``; NaN where a run does not say.
    matches : DataFrame
        One row for each query and length; see :func:`benchmarks.protocols.place_tables.match_table`.
    pr : DataFrame
        length, tolerance, threshold, precision, recall.
    similarity : DataFrame
        The matrix of places and queries in blocks; see :func:`benchmarks.protocols.place_tables.overview`.
    neurons : DataFrame
        Neurons of ensembles: member, module, neuron, places, images, hyperactive; without rows where there is none.
    headline : tuple of int
        Length and tolerance of the metric that tables lead with.
    """

    scores: pd.DataFrame
    costs: pd.DataFrame
    matches: pd.DataFrame
    pr: pd.DataFrame
    similarity: pd.DataFrame
    neurons: pd.DataFrame
    headline: tuple[int, int]

    @property
    def networks(self) -> list[str]:
        """Names of the networks, in the order of the suite."""
        return list(dict.fromkeys(self.costs["network"]))

    @property
    def data(self) -> dict[str, str]:
        """Network to what it was asked about."""
        return dict(zip(self.costs["network"], self.costs["data"], strict=True))

    @property
    def lines(self) -> dict[str, str]:
        """Network to its name without what is said of the data."""
        return dict(zip(self.costs["network"], self.costs["line"], strict=True))

    @property
    def synthetic(self) -> dict[str, bool]:
        """Data to whether a program made them."""
        return dict(zip(self.costs["data"], self.costs["synthetic"], strict=True))

    @property
    def lengths(self) -> list[int]:
        """Lengths of sequences, from the shortest."""
        return sorted(int(length) for length in self.scores["length"].unique())

    @property
    def tolerances(self) -> list[int]:
        """Tolerances, from the strictest."""
        return sorted(int(tolerance) for tolerance in self.scores["tolerance"].dropna().unique())


def place_results(
    specs: Mapping[str, Spec], labels: Mapping[str, str], cells: list[Cell], store: Store
) -> PlaceResults | None:
    """Return what is stored about the runs of ``specs`` that recognised places; None where none did.

    Parameters
    ----------
    specs : mapping
        Spec of every finished run.
    labels : mapping
        Network by run.
    cells : list of Cell
        Combinations of the grid.
    store : Store
    """
    own = {run: spec for run, spec in specs.items() if spec.protocol["name"] == PROTOCOL}
    if not own:
        return None
    frames: dict[str, list[pd.DataFrame]] = {name: [] for name in ("places", *_FIRST)}
    first = _first(own, labels)
    for run, spec in own.items():
        found = store.frames(run, "outcome.")
        for name, rows in frames.items():
            if name in found and (name == "places" or run in first):
                frame = found[name].rename(columns={"L": "length"})
                who = {"run": run, "network": labels[run], "seed": spec.seed}
                rows.append(pd.concat([pd.DataFrame(who, index=frame.index), frame], axis=1))
    joined = {name: pd.concat(rows, ignore_index=True) if rows else pd.DataFrame() for name, rows in frames.items()}
    scores = joined.pop("places")
    return PlaceResults(
        scores=scores,
        costs=_costs(own, labels, cells, store),
        headline=_headline(scores),
        **{name.removeprefix("map."): frame for name, frame in joined.items()},
    )


def _first(specs: Mapping[str, Spec], labels: Mapping[str, str]) -> set[str]:
    """Return the run with the lowest seed of every network."""
    found: dict[str, str] = {}
    for run in sorted(specs, key=lambda run: specs[run].seed):
        found.setdefault(labels[run], run)
    return set(found.values())


def _headline(scores: pd.DataFrame) -> tuple[int, int]:
    """Return length and tolerance of the first row: the protocol begins with those that it leads with."""
    return int(scores["length"].iloc[0]), int(scores["tolerance"].iloc[0])


def _costs(specs: Mapping[str, Spec], labels: Mapping[str, str], cells: list[Cell], store: Store) -> pd.DataFrame:
    stored = store.metrics(specs)
    names, lines = _data_names(specs), _lines(specs, cells)
    rows: list[dict[str, Any]] = []
    for run, spec in specs.items():
        values = {
            name: float(stored.at[run, name]) if name in stored else float("nan")  # type: ignore[arg-type]
            for name in COSTS
        }
        rows.append(
            {
                "run": run, "network": labels[run], "seed": spec.seed, "data": names[run], "line": lines[run],
                "synthetic": spec.dataset["name"].startswith("synthetic"), **values,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def _data_names(specs: Mapping[str, Spec]) -> dict[str, str]:
    """Return the data of every run by name, with those options that differ between runs on the same data set."""
    options: dict[str, dict[str, set[str]]] = {}
    for spec in specs.values():
        for key, value in spec.dataset.items():
            options.setdefault(spec.dataset["name"], {}).setdefault(key, set()).add(json.dumps(value, sort_keys=True))
    names = {}
    for run, spec in specs.items():
        differing = options[spec.dataset["name"]]
        said = [f"{key}={value}" for key, value in spec.dataset.items() if len(differing[key]) > 1]
        names[run] = ", ".join([spec.dataset["name"], *said])
    return names


def _lines(specs: Mapping[str, Spec], cells: list[Cell]) -> dict[str, str]:
    """Return every run's network without the levels of factors of the data: what is one line over different data."""
    lines: dict[str, str] = {}
    for cell in cells:
        if cell.run in specs:
            own = [
                f"{key.rsplit('.', 1)[1]}={level}" if "." in key and _is_value(level) else level
                for key, level in cell.levels.items()
                if key.split(".")[0] != _WORLD
            ]
            lines.setdefault(cell.run, ", ".join(own) or specs[cell.run].learner["name"])
    return lines


def _is_value(level: str) -> bool:
    """Whether the name of a level says nothing without its field: a number, true, false, null."""
    try:
        return not isinstance(json.loads(level.lower().replace("none", "null")), str)
    except ValueError:
        return False
