"""What a learner is to make small, and how its answers are judged: the part of a protocol that learners see."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.datasets.sequence import UNASKED


class Objective(ABC):
    """How outputs are read out, what is minimised, and by what the best epoch is chosen.

    Attributes
    ----------
    metric : str
        Name of what the best epoch is chosen by.
    lower_is_better : bool
        Whether a small value of it is good.
    last : bool
        Whether only the outputs at the last step of each sample are asked for; they then come as [1, B, ...].
    """

    metric: ClassVar[str]
    lower_is_better: ClassVar[bool] = False
    last: bool = False

    def scores(self, outputs: Tensor) -> Tensor:
        """Read outputs [T, B, ...] out to one answer for each sample, [B, ...]: the mean over time."""
        return outputs.mean(0)

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor | None:
        """Return the loss of outputs [T, B, ...]; None for the cross-entropy of the scores as the learner is set."""
        return None

    @abstractmethod
    def judge(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the metric of each sample, [B]; the mean over all samples is that of the model."""


class ClassObjective(Objective):
    """One class for each sample.

    Parameters
    ----------
    last : bool
        Whether the outputs at the last step count; else their mean over time.
    """

    metric = "accuracy"

    def __init__(self, last: bool = False) -> None:
        self.last = last

    def judge(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return (self.scores(outputs).argmax(-1) == labels).float()


class StepObjective(Objective):
    """A class at every step that asks for one: labels [B, T], -100 elsewhere; cross-entropy over the asked steps."""

    metric = "accuracy"

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        labels = labels[:, : len(outputs)]
        return functional.cross_entropy(outputs.flatten(0, 1), labels.T.flatten(), ignore_index=UNASKED)

    def judge(self, outputs: Tensor, labels: Tensor) -> Tensor:
        labels = labels[:, : len(outputs)]
        asked = labels != UNASKED
        right = (labels == outputs.argmax(-1).T) & asked
        return right.sum(1) / asked.sum(1).clamp(min=1)


class NumberObjective(Objective):
    """Numbers [B, K] at the last step; mean squared error."""

    metric = "mse"
    lower_is_better = True
    last = True

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return functional.mse_loss(self.scores(outputs), labels)

    def judge(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return torch.square(self.scores(outputs) - labels).mean(-1)
