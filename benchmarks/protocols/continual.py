"""Continual learning: tasks are learned one after another, and all of them are asked for after each."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any
from typing import Protocol as Interface

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

import energy
from benchmarks.datasets.stream import TaskStream
from benchmarks.protocols.base import Learner, Outcome, Protocol, Setting, protocols
from benchmarks.protocols.batches import Batches
from benchmarks.protocols.continual_metrics import continual_metrics, matrix_of
from neurons.errors import DataError, OptionError

if TYPE_CHECKING:
    from benchmarks.datasets.base import Samples

NOTES = "continual"
"""Under what name the protocol keeps its rows in the notes of a learner."""

ENERGY_MODEL = "op-count"
"""What the tasks are priced by; see :mod:`energy.models`."""


class ContinualLearner(Interface):
    """What the protocol needs of a learner of tasks.

    Attributes
    ----------
    batch : int
        Samples in a training batch.
    network : nn.Module
    device : torch.device
    joint : bool
        Whether it wants all tasks at once.
    done : int
        Tasks that are learned and kept; what is gone on from after an interruption.
    notes : dict
        What the protocol keeps with the learner's state, as JSON has it.
    """

    batch: int
    network: nn.Module
    device: torch.device
    joint: bool
    done: int
    notes: dict[str, Any]

    def learn(self, number: int, train: Batches, outputs: tuple[int, int]) -> None:
        """Learn task ``number``, from 0; ``outputs`` is the range of outputs among which its samples are told apart."""

    def scores(self, x: Tensor, outputs: tuple[int, int]) -> Tensor:
        """Return the answers [B, C] for x [T, B, ...], -inf for outputs outside the range."""

    def answering(self, outputs: tuple[int, int]) -> AbstractContextManager[None]:
        """Return a context in which the network itself answers as for a task of these outputs."""

    def finish(self) -> None:
        """Keep the state and the notes: the task is learned and scored."""

    def report(self) -> list[dict[str, Any]]:
        """Return a row for each protected layer: ``layer``, ``rank``, ``capacity``, and more; none without any."""


@protocols.register("continual")
class Continual(Protocol):
    """Continual learning: the tasks of a stream one after another; accuracy of every task before, between and after.

    The last epoch of every task counts: nothing is held out, and no test sample chooses anything. Tasks that are still
    to be learned are asked for too, among the outputs that will be open once they are learned, which shows what carries
    over to them. A learner that wants all tasks at once gets their union.

    Parameters
    ----------
    train_samples : int, optional
        Train on that many samples of each task only (a fixed choice for each seed), for small studies.
    measured : int
        Test samples of each task on which its spikes and operations are counted.
    """

    headline = "test_accuracy"
    drives = "learn"

    def __init__(self, train_samples: int | None = None, measured: int = 16) -> None:
        if train_samples is not None and train_samples < 2:
            raise OptionError(f"train_samples must be at least 2, not {train_samples}")
        if measured < 1:
            raise OptionError(f"measured must be at least 1, not {measured}")
        self.train_samples = train_samples
        self.measured = measured

    def check(self, setting: Setting, batch: int) -> None:
        stream = _stream_of(setting)
        if len(stream.tasks) < 2:
            raise OptionError(f"protocol: {stream.name} has {len(stream.tasks)} task; continual learning needs two")
        for number, task in enumerate(stream.tasks):
            count = len(self._chosen(setting, number))
            if batch > count:
                raise OptionError(
                    f"learner.batch: a batch of {batch} is larger than the {count} training samples of {task.name}, "
                    f"a task of {stream.name}"
                )
        samples, _ = stream.train.batch(torch.arange(min(batch, 8)))
        setting.encoder(samples, setting.T, generator=torch.Generator().manual_seed(0))

    def run(self, learner: Learner | ContinualLearner, setting: Setting) -> Outcome:
        """Let the learner learn the tasks, or go on with the next one, and score it.

        Raises
        ------
        OptionError
            When the data are no stream of tasks, or the learner learns no tasks.
        DataError
            When the learner goes on from a state without the rows of its tasks.
        """
        stream = _stream_of(setting)
        if not callable(getattr(learner, self.drives, None)):
            name = getattr(type(learner), "registered_name", type(learner).__name__)
            raise OptionError(f"learner: {name} does not learn one task after another; set learner: continual")
        pupil: ContinualLearner = learner  # type: ignore[assignment]
        tasks = len(stream.tasks)
        kept = pupil.notes.get(NOTES, {})
        if pupil.done == 0:
            kept = pupil.notes[NOTES] = {"rows": [], "tasks": [], "layers": []}
            self._score(pupil, setting, 0)
        elif len(kept.get("rows", ())) != pupil.done + 1:
            raise DataError(
                f"the state that is gone on from has {pupil.done} tasks, but no accuracy after each of them; "
                "delete it to start anew"
            )
        for number in range(pupil.done, 1 if pupil.joint else tasks):
            if pupil.joint:
                # all outputs compete in training, also where each task is asked among its own
                pupil.learn(0, self._union(setting, pupil.batch), (0, stream.classes))
                learned = tasks
            else:
                learned = number + 1
                pupil.learn(number, self._train(setting, number, pupil.batch), stream.open_outputs(number, learned))
                kept["tasks"].append(self._counted(pupil, setting, number))
            self._score(pupil, setting, learned)
            kept["layers"] += [{"task": learned, **row} for row in pupil.report()]
            pupil.finish()
        final = [self._counted(pupil, setting, number) for number in range(tasks)]
        return self._outcome(setting, kept, final)

    def probe(self, setting: Setting, samples: int, batch: int) -> Batches:
        return _spread(setting, _stream_of(setting).test, samples, batch)

    def describe(self) -> dict[str, Any]:
        return {
            "Protocol": "continual; accuracy of every task after each, on their test splits; nothing is held out, and "
            "the last epoch of each task counts"
        }

    def _score(self, learner: ContinualLearner, setting: Setting, learned: int) -> None:
        """Put the accuracy of every task after ``learned`` tasks into the notes."""
        stream = _stream_of(setting)
        row = []
        for number, task in enumerate(stream.tasks):
            # a task to come is asked for as it will be once it is learned
            outputs = stream.open_outputs(number, max(learned, number + 1))
            right = 0
            for x, labels in _batches(setting, task.test, torch.arange(len(task.test)), learner.batch).epoch():
                right += int((learner.scores(x, outputs).argmax(-1).cpu() == labels).sum())
            row.append(right / len(task.test))
        learner.notes[NOTES]["rows"].append({"learned": learned, "accuracy": row})

    def _counted(self, learner: ContinualLearner, setting: Setting, number: int) -> dict[str, float]:
        """Return what one inference on a sample of a task costs now."""
        stream = _stream_of(setting)
        task = stream.tasks[number]
        batches = _spread(setting, task.test, self.measured, min(self.measured, learner.batch))
        with learner.answering(stream.open_outputs(number, len(stream.tasks))):
            record = energy.measure(learner.network, (x.to(learner.device) for x, _ in batches.epoch()), data=task.name)
        totals = record.summary()
        price = energy.price(record, ENERGY_MODEL)
        return {
            **{name: totals[name] for name in ("spikes", "macs", "synaptic_events")},
            "energy_pJ": float(price["total"].sum()),
        }

    def _outcome(self, setting: Setting, kept: dict[str, Any], final: list[dict[str, float]]) -> Outcome:
        stream = _stream_of(setting)
        matrix = pd.DataFrame(
            [
                {"learned": row["learned"], "task": number + 1, "accuracy": accuracy}
                for row in kept["rows"]
                for number, accuracy in enumerate(row["accuracy"])
            ]
        )
        values = matrix_of(matrix)
        tables = {
            "matrix": matrix,
            "tasks": pd.DataFrame(
                {
                    "task": np.arange(len(stream.tasks)) + 1,
                    "name": [task.name for task in stream.tasks],
                    "untrained_accuracy": values[0],
                    "learning_accuracy": np.diag(values[1:]) if kept["tasks"] else np.nan,
                    "final_accuracy": values[-1],
                    **{f"{k}_learned": [row[k] for row in kept["tasks"]] or np.nan for k in final[0]},
                    **{f"{k}_final": [row[k] for row in final] for k in final[0]},
                }
            ),
        }
        if kept["layers"]:
            tables["ranks"] = pd.DataFrame([{k: _cell(v) for k, v in row.items()} for row in kept["layers"]])
        return Outcome({**continual_metrics(values), "test_samples": float(len(stream.test))}, tables)

    def _chosen(self, setting: Setting, number: int) -> Tensor:
        """Return the indices of the samples of a task to train on."""
        count = len(_stream_of(setting).tasks[number].train)
        if self.train_samples is None or self.train_samples >= count:
            return torch.arange(count)
        generator = torch.Generator().manual_seed(_seed(setting, number))
        return torch.randperm(count, generator=generator)[: self.train_samples].sort().values

    def _train(self, setting: Setting, number: int, batch: int) -> Batches:
        task = _stream_of(setting).tasks[number]
        return _batches(setting, task.train, self._chosen(setting, number), batch, _seed(setting, number))

    def _union(self, setting: Setting, batch: int) -> Batches:
        stream = _stream_of(setting)
        starts = np.cumsum([0, *(len(task.train) for task in stream.tasks)])
        chosen = [self._chosen(setting, number) + int(starts[number]) for number in range(len(stream.tasks))]
        return _batches(setting, stream.train, torch.cat(chosen), batch, setting.seed)


def _stream_of(setting: Setting) -> TaskStream:
    stream = setting.dataset
    if not isinstance(stream, TaskStream):
        raise OptionError(f"protocol: {stream.name} is one task, and continual learning asks for a stream of them")
    return stream


def _seed(setting: Setting, number: int) -> int:
    # Of its own for every task. The step is odd and below 2**12, because torch's generator on the CPU takes the lowest
    # 32 bits of a seed, of which batches leave twelve: epochs have the others.
    return setting.seed + 1009 * number


def _spread(setting: Setting, split: Samples, samples: int, batch: int) -> Batches:
    count = min(samples, len(split))
    return _batches(setting, split, torch.linspace(0, len(split) - 1, count).round().long(), batch)


def _batches(setting: Setting, split: Samples, indices: Tensor, batch: int, shuffled_by: int | None = None) -> Batches:
    """Return batches in order, or shuffled by a seed."""
    seed = setting.seed if shuffled_by is None else shuffled_by
    return Batches(
        split, indices, setting.encoder, setting.T, batch, shuffled_by is not None, seed, setting.dataset.classes
    )


def _cell(value: Any) -> Any:
    """Return what a table can hold: several texts as one."""
    return "; ".join(map(str, value)) if isinstance(value, list | tuple) else value
