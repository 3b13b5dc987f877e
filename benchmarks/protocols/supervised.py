"""What protocols with a training, a validation and a test split have in common."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from benchmarks.datasets.base import Dataset, Samples
from benchmarks.datasets.places import PlaceDataset
from benchmarks.datasets.sequence import SequenceDataset, Task
from benchmarks.protocols.base import Learner, Outcome, Protocol, Setting
from benchmarks.protocols.batches import Batches
from benchmarks.protocols.objective import Objective
from neurons.errors import OptionError


class Supervised(Protocol):
    """Learn from labelled samples, choose the epoch on others, and score once on the test split.

    Parameters
    ----------
    validation : float
        Share of the training split held out; of every class where samples have one. Data that bring a validation split
        of their own use that instead.
    train_samples : int, optional
        Train on that many samples only (a fixed choice for each seed), for small studies.
    """

    task: ClassVar[Task]

    def __init__(self, validation: float = 0.1, train_samples: int | None = None) -> None:
        if not 0 < validation < 1:
            raise OptionError(
                f"validation is the share of training samples held out, between 0 and 1, not {validation}"
            )
        if train_samples is not None and train_samples < 2:
            raise OptionError(f"train_samples must be at least 2, not {train_samples}")
        self.validation = validation
        self.train_samples = train_samples

    @property
    @abstractmethod
    def objective(self) -> Objective:
        """What the learner is to make small, and how it is judged."""

    @abstractmethod
    def evaluate(self, learner: Learner, test: Batches, classes: int) -> Outcome:
        """Score the learner's answers on ``test``."""

    def check(self, setting: Setting, batch: int) -> None:
        data = setting.dataset
        if isinstance(data, PlaceDataset):
            raise OptionError(f"protocol: {data.name} shows places along a route; set protocol: place-recognition")
        task = data.task if isinstance(data, SequenceDataset) else "classification"
        if task != self.task:
            name = getattr(self, "registered_name", type(self).__name__)
            raise OptionError(f"protocol: {data.name} is for {task}, which {name} does not ask")
        lengths = any(getattr(split, "lengths", None) is not None for split in data.splits.values())
        if lengths and self.task == "classification" and not self.objective.last:
            raise OptionError(
                f"protocol.readout: the sequences of {data.name} differ in length, so that a mean over time would take "
                "in what follows their ends; set readout: last"
            )
        train, validation = self.parts(data.train, setting.seed, self._own(data))
        if batch > len(train):
            raise OptionError(
                f"learner.batch: a batch of {batch} is larger than the {len(train)} training samples of {data.name}"
            )
        if self._own(data) is None and not len(validation):
            raise OptionError(f"protocol.validation: {self.validation} leaves no validation sample")
        samples, _ = data.train.batch(train[: min(batch, 8)])
        setting.encoder(samples, setting.T, generator=torch.Generator().manual_seed(0))

    def run(self, learner: Learner, setting: Setting) -> Outcome:
        data = setting.dataset
        own = self._own(data)
        train, validation = self.parts(data.train, setting.seed, own)
        learner.fit(
            self._batches(setting, data.train, train, learner.batch, shuffle=True),
            self._batches(setting, own or data.train, validation, learner.batch),
            self.objective,
        )
        test = self._batches(setting, data.test, torch.arange(len(data.test)), learner.batch)
        return self.evaluate(learner, test, data.classes)

    def probe(self, setting: Setting, samples: int, batch: int) -> Batches:
        split = setting.dataset.test
        # Evenly over the split, so that a file sorted by class is still sampled from every class.
        count = min(samples, len(split))
        indices = torch.linspace(0, len(split) - 1, count).round().long()
        return self._batches(setting, split, indices, batch)

    def parts(self, split: Samples, seed: int, own: Samples | None = None) -> tuple[Tensor, Tensor]:
        """Return the indices to train on and to validate on: random for each seed, equal shares of each class.

        Parameters
        ----------
        split : Samples
            Training split.
        seed : int
        own : Samples, optional
            Validation split that the data bring; nothing is then held out, and all of it is validated on.
        """
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(split), generator=generator)
        if own is not None:
            chosen, held_out = order, torch.arange(len(own))
        elif self.task == "classification":
            train, held = [], []
            for label in split.labels.unique():
                members = order[split.labels[order] == label]
                cut = max(1, round(len(members) * self.validation))
                held.append(members[:cut])
                train.append(members[cut:])
            chosen, held_out = torch.cat(train), torch.cat(held)
        else:
            cut = max(1, round(len(order) * self.validation))
            chosen, held_out = order[cut:], order[:cut]
        if self.train_samples is not None:
            chosen = chosen[torch.randperm(len(chosen), generator=generator)[: self.train_samples]]
        return chosen.sort().values, held_out.sort().values

    def _own(self, data: Dataset) -> Samples | None:
        return data.validation

    @property
    def held_out(self) -> str:
        """In words, what the epoch is chosen by."""
        return (
            f"{self.validation:.0%} of the training split (or the validation split that the data bring) chooses the "
            "epoch; the test split is read once, after training"
        )

    @staticmethod
    def _batches(setting: Setting, split: Samples, indices: Tensor, batch: int, shuffle: bool = False) -> Batches:
        classes = setting.dataset.classes
        return Batches(split, indices, setting.encoder, setting.T, batch, shuffle, setting.seed, classes)
