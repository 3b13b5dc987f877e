"""What is stored about runs that learned one task after another: accuracy matrices, ranks, costs, measures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from step.spec import Spec
    from step.store import Store

METRICS = ("test_accuracy", "bwt", "forgetting", "learning_accuracy", "forward_transfer", "intransigence")
"""Measures of continual learning, as fractions, in the order of tables."""

_SAME = ("dataset", "encoder", "model", "neuron", "protocol", "measure", "seed", "code")


@dataclass(frozen=True)
class ContinualResults:
    """Runs that learned one task after another, and runs that learned the same tasks at once.

    Every frame begins with run, network, seed.

    Attributes
    ----------
    matrix : DataFrame
        learned (tasks, from 0), task (from 1), accuracy.
    metrics : DataFrame
        One row for each run, the columns ``METRICS``; NaN where a measure does not apply.
    tasks : DataFrame
        One row for each task: its accuracy when it was learned and in the end, spikes and operations of one inference.
    ranks : DataFrame
        task (after which), layer, rank, capacity; without rows where no layer was protected by a subspace.
    training : DataFrame
        task, layer, and the operations of a training step; see
        :mod:`step.learners.continual.operations`.
    """

    matrix: pd.DataFrame
    metrics: pd.DataFrame
    tasks: pd.DataFrame
    ranks: pd.DataFrame
    training: pd.DataFrame


def continual_results(specs: Mapping[str, Spec], labels: Mapping[str, str], store: Store) -> ContinualResults | None:
    """Return what is stored about the runs of ``specs`` that learned task after task; None where none did."""
    frames: dict[str, list[pd.DataFrame]] = {"matrix": [], "tasks": [], "ranks": [], "training": []}
    last: dict[str, pd.Series] = {}
    for run, spec in specs.items():
        found = store.frames(run, "outcome.")
        if "matrix" not in found:
            continue
        for name, rows in frames.items():
            if name in found:
                frame = found[name]
                who = {"run": run, "network": labels[run], "seed": spec.seed}
                rows.append(pd.concat([pd.DataFrame(who, index=frame.index), frame], axis=1))
        matrix = found["matrix"]
        last[run] = matrix[matrix["learned"] == matrix["learned"].max()].set_index("task")["accuracy"]
    if not last:
        return None
    joined = {name: pd.concat(rows, ignore_index=True) if rows else pd.DataFrame() for name, rows in frames.items()}
    return ContinualResults(metrics=_metrics(specs, labels, store, joined["matrix"], last), **joined)


def _metrics(
    specs: Mapping[str, Spec],
    labels: Mapping[str, str],
    store: Store,
    matrix: pd.DataFrame,
    last: Mapping[str, pd.Series],
) -> pd.DataFrame:
    stored = store.metrics(last)
    rows = []
    joint = [run for run in last if math.isnan(_value(stored, run, "learning_accuracy"))]
    for run in last:
        values = {name: _value(stored, run, name) for name in METRICS}
        reference = _joint_of(specs, run, joint)
        if run not in joint and reference is not None:
            own = matrix[(matrix["run"] == run) & (matrix["learned"] == matrix["task"])].set_index("task")["accuracy"]
            values["intransigence"] = float((last[reference] - own).mean())
        rows.append({"run": run, "network": labels[run], "seed": specs[run].seed, **values})
    return pd.DataFrame(rows)


def _value(stored: pd.DataFrame, run: str, name: str) -> float:
    return float(stored[name].loc[run]) if name in stored else math.nan


def _joint_of(specs: Mapping[str, Spec], run: str, joint: list[str]) -> str | None:
    """Return the run that learned the same tasks at once with the same network and seed, as like as there is one."""

    def alike(other: str) -> int:
        own = specs[run].learner
        return sum(specs[other].learner.get(key) == value for key, value in own.items())

    same = [each for each in joint if all(getattr(specs[each], f) == getattr(specs[run], f) for f in _SAME)]
    return max(same, key=alike, default=None)
