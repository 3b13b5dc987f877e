"""Protocols of sequences that ask for more than one class: a class at some steps, or numbers at the end."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from benchmarks.datasets.sequence import UNASKED
from benchmarks.protocols.base import Learner, Outcome, protocols
from benchmarks.protocols.batches import Batches
from benchmarks.protocols.objective import NumberObjective, StepObjective
from benchmarks.protocols.supervised import Supervised


@protocols.register("labelling")
class Labelling(Supervised):
    """Labelling: a class at every time step that asks for one, scored on the test split.

    Parameters
    ----------
    validation, train_samples
        See :class:`~benchmarks.protocols.supervised.Supervised`.
    """

    headline = "test_accuracy"
    task = "labelling"

    @property
    def objective(self) -> StepObjective:
        return StepObjective()

    def evaluate(self, learner: Learner, test: Batches, classes: int) -> Outcome:
        right, whole, asked, samples, loss = 0, 0, 0, 0, 0.0
        for batch in test.items():
            outputs = learner.predict(batch.x).float().cpu()
            labels = batch.labels[:, : len(outputs)]
            here = labels != UNASKED
            hits = (labels == outputs.argmax(-1).T) & here
            right, asked = right + int(hits.sum()), asked + int(here.sum())
            whole, samples = whole + int((hits == here).all(1).sum()), samples + len(labels)
            flat = labels.T.flatten()
            loss += float(
                torch.nn.functional.cross_entropy(
                    outputs.flatten(0, 1), flat, ignore_index=UNASKED, reduction="sum"
                )
            )  # fmt: skip
        return Outcome(
            {
                "test_accuracy": right / asked,
                "test_whole_accuracy": whole / samples,
                "test_loss": loss / asked,
                "test_samples": float(samples),
            }
        )

    def describe(self) -> dict[str, Any]:
        return {"Protocol": f"labelling; accuracy over all asked steps, and of whole sequences; {self.held_out}"}


@protocols.register("regression")
class Regression(Supervised):
    """Regression: numbers at the last time step, scored on the test split.

    Parameters
    ----------
    validation, train_samples
        See :class:`~benchmarks.protocols.supervised.Supervised`.
    """

    headline = "test_r2"
    task = "regression"

    @property
    def objective(self) -> NumberObjective:
        return NumberObjective()

    def evaluate(self, learner: Learner, test: Batches, classes: int) -> Outcome:
        from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

        objective = self.objective
        truths, answers = [], []
        for batch in test.items():
            outputs = learner.predict(batch.x, last=True, lengths=batch.lengths)
            answers.append(objective.scores(outputs).float().cpu().numpy())
            truths.append(batch.labels.numpy())
        truth, answer = np.concatenate(truths), np.concatenate(answers)
        return Outcome(
            {
                "test_r2": float(r2_score(truth, answer)),
                "test_mse": float(mean_squared_error(truth, answer)),
                "test_mae": float(mean_absolute_error(truth, answer)),
                "test_samples": float(len(truth)),
            }
        )

    def describe(self) -> dict[str, Any]:
        return {"Protocol": f"regression; outputs read at the last step; {self.held_out}"}
