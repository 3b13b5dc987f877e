"""Classification: one label for each sample, scored on the test split."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
import torch

from benchmarks.protocols.base import Learner, Outcome, protocols
from benchmarks.protocols.batches import Batches
from benchmarks.protocols.objective import ClassObjective
from benchmarks.protocols.supervised import Supervised
from neurons.errors import OptionError


@protocols.register("classification")
class Classification(Supervised):
    """Classification; outputs are averaged over time or read at the last step, the model is chosen on held-out samples.

    The test split is read once, after training.

    Parameters
    ----------
    validation, train_samples
        See :class:`~benchmarks.protocols.supervised.Supervised`.
    readout : {"mean", "last"}
        Whether the outputs of all time steps are averaged, or those at the last step of each sample count.
    """

    headline = "test_accuracy"
    task = "classification"

    def __init__(
        self, validation: float = 0.1, train_samples: int | None = None, readout: Literal["mean", "last"] = "mean"
    ) -> None:
        super().__init__(validation, train_samples)
        if readout not in ("mean", "last"):
            raise OptionError(f"readout is 'mean' or 'last', not {readout!r}")
        self.readout = readout

    @property
    def objective(self) -> ClassObjective:
        return ClassObjective(last=self.readout == "last")

    def evaluate(self, learner: Learner, test: Batches, classes: int) -> Outcome:
        # scikit-learn's, because torchmetrics fails to import beside a torchvision that does not fit torch.
        from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix

        objective = self.objective
        loss, truths, answers = 0.0, [], []
        for batch in test.items():
            outputs = learner.predict(batch.x, last=objective.last, lengths=batch.lengths)
            scores = objective.scores(outputs).float().cpu()
            loss += float(torch.nn.functional.cross_entropy(scores, batch.labels, reduction="sum"))
            truths.append(batch.labels.numpy())
            answers.append(scores.argmax(-1).numpy())
        truth, answer = np.concatenate(truths), np.concatenate(answers)
        metrics = {
            "test_accuracy": float(accuracy_score(truth, answer)),
            "test_balanced_accuracy": float(balanced_accuracy_score(truth, answer)),
            "test_loss": loss / len(truth),
            "test_samples": float(len(truth)),
        }
        label, predicted = np.divmod(np.arange(classes * classes), classes)
        counts = confusion_matrix(truth, answer, labels=range(classes)).ravel()
        table = pd.DataFrame({"label": label, "predicted": predicted, "samples": counts})
        return Outcome(metrics, {"confusion": table})

    def describe(self) -> dict[str, Any]:
        read = "averaged over time" if self.readout == "mean" else "read at the last step"
        return {"Protocol": f"classification; {self.held_out}; outputs {read}"}
