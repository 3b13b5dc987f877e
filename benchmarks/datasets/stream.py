"""Task streams for continual learning: data sets that are learned one after the other by one network.

>>> from benchmarks import datasets
>>> stream = datasets.load("split-tasks", of="digits", scenario="task")
>>> [task.outputs for task in stream.tasks]
[(0, 2), (2, 4), (4, 6), (6, 8), (8, 10)]
>>> len(stream.train) == sum(len(task.train) for task in stream.tasks)       # all tasks at once
True
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor

from benchmarks.datasets.base import Dataset, Indices, Samples, datasets
from benchmarks.datasets.sequence import SequenceDataset
from neurons.errors import DataError, OptionError, ShapeError

Scenario = Literal["task", "domain", "class"]
"""What is known of a sample at inference and what differs between tasks (G. M. van de Ven, T. Tuytelaars and
A. S. Tolias, Three types of incremental learning, Nature Machine Intelligence 4, 2022)."""


@dataclass(frozen=True, eq=False)
class Task:
    """One of the data sets of a stream.

    Parameters
    ----------
    name : str
        What it is, for tables and plots.
    train, test : Samples
        Labels are numbers of the outputs of the network, over the whole stream.
    outputs : tuple of int, optional
        Half-open range of the outputs that are its own; None where all tasks share one head.
    """

    name: str
    train: Samples
    test: Samples
    outputs: tuple[int, int] | None = None


@dataclass(frozen=True, eq=False)
class TaskStream(Dataset):
    """A sequence of tasks that one network learns one after the other.

    The splits of the data set are those of all tasks together: what joint training, the upper bound of continual
    learning, trains on, and what probes look at.

    Parameters
    ----------
    tasks : tuple of Task
        In the order in which they are learned.
    scenario : {"task", "domain", "class"}
        Task-incremental: the task of a sample is known, and only its outputs answer. Domain-incremental: all tasks
        have the same classes and share the outputs. Class-incremental: the outputs of all tasks learned so far
        compete.

    Raises
    ------
    OptionError
        When there is no such scenario.
    DataError
        When there are no tasks, or labels lie outside the outputs of their task.
    """

    tasks: tuple[Task, ...] = field(kw_only=True)
    scenario: Scenario = field(default="domain", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_scenario(self.scenario)
        if not self.tasks:
            raise DataError(f"{self.name}: a stream needs at least one task")
        end = 0
        for task in self.tasks:
            if (task.outputs is None) != (self.scenario == "domain"):
                rule = "share all outputs" if self.scenario == "domain" else "have outputs of their own"
                raise DataError(f"{self.name}: tasks of a {self.scenario}-incremental stream {rule}, not {task.name}")
            low, high = task.outputs or (0, self.classes)
            if task.outputs is not None and (low != end or high > self.classes):
                raise DataError(f"{self.name}: the outputs of {task.name} are {low} to {high - 1}, expected from {end}")
            end = high
            for split in (task.train, task.test):
                if len(split) == 0:
                    raise DataError(f"{self.name}: the task {task.name} has a split without samples")
                labels = split.labels
                if not low <= int(labels.min()) <= int(labels.max()) < high:
                    raise DataError(
                        f"{self.name}: labels of {task.name} must be {low} to {high - 1}, "
                        f"found {int(labels.min())} to {int(labels.max())}"
                    )

    @classmethod
    def of(cls, tasks: Sequence[Task], scenario: Scenario, **said: Any) -> Self:
        """Return the stream of some tasks, its splits being those of all tasks together.

        Parameters
        ----------
        tasks : sequence of Task
        scenario : {"task", "domain", "class"}
        **said
            The remaining fields of :class:`~benchmarks.datasets.base.Dataset`: name, classes, channels and so on.
        """
        train, test = (Joined(tuple(splits)) for splits in zip(*((t.train, t.test) for t in tasks), strict=True))
        return cls(train=train, test=test, tasks=tuple(tasks), scenario=scenario, **said)

    def open_outputs(self, task: int, learned: int) -> tuple[int, int]:
        """Return the half-open range of outputs that may answer for a task.

        Task-incremental: its own; domain-incremental: all; class-incremental: those of all tasks learned so far, among
        which there is no right one for a task that is yet to come.

        Parameters
        ----------
        task : int
            Number of the task whose samples are classified, from 0.
        learned : int
            Tasks that have been learned, the one that is being learned included; at least 1 where they compete.

        Raises
        ------
        OptionError
            When there is no such task or number of tasks.
        """
        count = len(self.tasks)
        if not 0 <= task < count:
            raise OptionError(f"{self.name} has the tasks 0 to {count - 1}, not {task}")
        if not 0 <= learned <= count or (learned == 0 and self.scenario == "class"):
            least = 1 if self.scenario == "class" else 0
            raise OptionError(f"of {self.name}, {least} to {count} tasks can have been learned, not {learned}")
        own = self.tasks[task].outputs
        if own is None:
            return 0, self.classes
        if self.scenario == "task":
            return own
        last = self.tasks[learned - 1].outputs
        assert last is not None  # checked when the stream was made
        return 0, last[1]


def check_scenario(scenario: str) -> None:
    """Raise an OptionError unless there is such a scenario."""
    if scenario not in get_args(Scenario):
        raise OptionError(f"dataset.scenario is task, domain or class, not {scenario!r}")


@dataclass(frozen=True, eq=False)
class Joined:
    """Splits one after the other as one split.

    Parameters
    ----------
    parts : tuple of Samples
        At least one, all with samples of the same shape.
    places : Tensor of int64, shape [N], optional
        Which samples of the concatenation belong here, in this order; all of them when left out.

    Raises
    ------
    ShapeError
        When shapes differ or there are no parts.
    """

    parts: tuple[Samples, ...]
    places: Tensor | None = None

    def __post_init__(self) -> None:
        shapes = {part.sample_shape for part in self.parts}
        if len(shapes) != 1:
            raise ShapeError(f"only splits with samples of one shape can be joined, not {sorted(shapes)}")

    @cached_property
    def labels(self) -> Tensor:
        """Labels, int64 [N]."""
        labels = torch.cat([part.labels for part in self.parts])
        return labels if self.places is None else labels[self.places]

    @cached_property
    def _ends(self) -> Tensor:
        return torch.tensor([len(part) for part in self.parts]).cumsum(0)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of a sample."""
        return self.parts[0].sample_shape

    def __len__(self) -> int:
        return int(self._ends[-1]) if self.places is None else len(self.places)

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Return the samples at ``indices`` as float32 [B, *sample_shape], and their labels as int64 [B]."""
        return next(self.batches([indices]))

    def batches(self, chunks: Iterable[Indices]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield ``batch(indices)`` for each of ``chunks``; each part reads ahead if it does so by itself."""
        wanted = [self._places(chunk) for chunk in chunks]
        owners = [torch.bucketize(places.contiguous(), self._ends, right=True) for places in wanted]
        starts = torch.cat([torch.zeros(1, dtype=torch.int64), self._ends[:-1]])
        readers = []
        for number, part in enumerate(self.parts):
            mine = [places[owner == number] - starts[number] for places, owner in zip(wanted, owners, strict=True)]
            readers.append(part.batches([places for places in mine if len(places)]))
        for owner in owners:
            yield self._gather(owner, readers)

    def _gather(self, owner: Tensor, readers: Sequence[Iterator[tuple[Tensor, Tensor]]]) -> tuple[Tensor, Tensor]:
        x = torch.empty(len(owner), *self.sample_shape)
        labels = torch.empty(len(owner), dtype=torch.int64)
        for number in owner.unique().tolist():
            mine = owner == number
            x[mine], labels[mine] = next(readers[number])
        return x, labels

    def _places(self, indices: Indices) -> Tensor:
        places = torch.arange(len(self)) if self.places is None else self.places
        return places[indices]

    def subset(self, indices: Indices) -> Joined:
        """Return the split that holds only the samples at ``indices``, in that order."""
        return Joined(self.parts, self._places(indices))

    def training(self, seed: int, epoch: int) -> Joined:
        """Return the split whose parts are read as epoch ``epoch`` of a training with this seed reads them."""
        return Joined(tuple(part.training(seed, epoch) for part in self.parts), self.places)


def images_of(of: str, root: Path | None) -> Dataset:
    """Load the images that the tasks of a stream are made of.

    Raises
    ------
    OptionError
        For a data set with options that it needs, or that is no set of images but of sequences or tasks.
    """
    if any(parameter.default is parameter.empty for parameter in datasets.options(of).values()):
        raise OptionError(f"dataset.of: {of} needs options of its own, so no tasks can be made of it")
    dataset = datasets.create(of, root=root)
    if isinstance(dataset, (SequenceDataset, TaskStream)):
        raise OptionError(f"dataset.of: {of} is not a set of images, so no tasks can be made of it")
    return dataset
