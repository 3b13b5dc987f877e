"""What a protocol is and what it asks of a learner."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar
from typing import Protocol as Interface

import pandas as pd
from torch import Tensor

from benchmarks.datasets.base import Dataset
from benchmarks.protocols.batches import Batches
from benchmarks.protocols.objective import Objective
from encoders import Encoder
from neurons.registry import Registry

protocols: Registry[Protocol] = Registry("protocol", "protocols")


class Learner(Interface):
    """What a protocol needs of a learner; it does not know which rule it drives."""

    batch: int

    def fit(self, train: Batches, validation: Batches, objective: Objective) -> None:
        """Learn from the training batches; choose the best state by the validation batches."""

    def predict(self, x: Tensor, *, last: bool = False, lengths: Tensor | None = None) -> Tensor:
        """Return the outputs [T, B, ...] for the encoded input x [T, B, ...]; with ``last`` those at the last step.

        ``lengths`` [B] are the steps of each sample, all where they are left out; what is read at last steps comes as
        [1, B, ...].
        """


@dataclass(frozen=True)
class Setting:
    """The data of a run and how they become input."""

    dataset: Dataset
    encoder: Encoder
    T: int
    seed: int


@dataclass
class Outcome:
    """What a protocol found: headline metrics, and the matrices behind them.

    Attributes
    ----------
    metrics : dict
        Name to value.
    tables : dict
        Name to table, for example the confusion matrix.
    """

    metrics: dict[str, float]
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)


class Protocol(ABC):
    """What is asked of a learner and how it is scored."""

    headline: str
    """Name of the metric that tables lead with."""

    drives: ClassVar[str] = "fit"
    """Method by which it lets a learner learn: what tells learners that fit it from others."""

    @abstractmethod
    def check(self, setting: Setting, batch: int) -> None:
        """Raise a StepError when the data cannot be used this way; called before anything is written."""

    @abstractmethod
    def run(self, learner: Learner, setting: Setting) -> Outcome:
        """Let the learner learn and answer, and score it."""

    @abstractmethod
    def probe(self, setting: Setting, samples: int, batch: int) -> Batches:
        """Return test samples on which operations are counted."""

    def describe(self) -> dict[str, Any]:
        """Return the facts a reader needs beside a result."""
        return {}
