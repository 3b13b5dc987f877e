"""Classification: one label for each sample, scored on the test split."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from benchmarks.datasets.base import Samples
from benchmarks.protocols.base import Learner, Outcome, Protocol, Setting, protocols
from benchmarks.protocols.batches import Batches
from neurons.errors import OptionError


@protocols.register("classification")
class Classification(Protocol):
    """Classification; outputs are averaged over time, the model is chosen on samples held out of the training split.

    The test split is read once, after training.

    Parameters
    ----------
    validation : float
        Share of the training split held out, the same share of every class.
    train_samples : int, optional
        Train on that many samples only (a fixed choice for each seed), for small studies.
    """

    headline = "test_accuracy"

    def __init__(self, validation: float = 0.1, train_samples: int | None = None) -> None:
        if not 0 < validation < 1:
            raise OptionError(
                f"validation is the share of training samples held out, between 0 and 1, not {validation}"
            )
        if train_samples is not None and train_samples < 2:
            raise OptionError(f"train_samples must be at least 2, not {train_samples}")
        self.validation = validation
        self.train_samples = train_samples

    def check(self, setting: Setting, batch: int) -> None:
        train, validation = self.parts(setting.dataset.train, setting.seed)
        if batch > len(train):
            raise OptionError(
                f"learner.batch: a batch of {batch} is larger than the {len(train)} training samples "
                f"of {setting.dataset.name}"
            )
        if not len(validation):
            raise OptionError(f"protocol.validation: {self.validation} leaves no validation sample")
        images, _ = setting.dataset.train.batch(train[: min(batch, 8)])
        setting.encoder(images, setting.T, generator=torch.Generator().manual_seed(0))

    def run(self, learner: Learner, setting: Setting) -> Outcome:
        data = setting.dataset
        train, validation = self.parts(data.train, setting.seed)
        learner.fit(
            self._batches(setting, data.train, train, learner.batch, shuffle=True),
            self._batches(setting, data.train, validation, learner.batch),
            self.scores,
        )
        test = self._batches(setting, data.test, torch.arange(len(data.test.labels)), learner.batch)
        return self.evaluate(learner, test, data.classes)

    def evaluate(self, learner: Learner, test: Batches, classes: int) -> Outcome:
        """Score the learner's answers on ``test``."""
        # scikit-learn's, because torchmetrics fails to import beside a torchvision that does not fit torch.
        from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix

        loss, truths, answers = 0.0, [], []
        for x, labels in test.epoch():
            scores = self.scores(learner.predict(x)).float().cpu()
            loss += float(torch.nn.functional.cross_entropy(scores, labels, reduction="sum"))
            truths.append(labels.numpy())
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

    def probe(self, setting: Setting, samples: int, batch: int) -> Batches:
        split = setting.dataset.test
        # Evenly over the split, so that a file sorted by class is still sampled from every class.
        count = min(samples, len(split.labels))
        indices = torch.linspace(0, len(split.labels) - 1, count).round().long()
        return self._batches(setting, split, indices, batch)

    def parts(self, split: Samples, seed: int) -> tuple[Tensor, Tensor]:
        """Return the indices to train on and to validate on: random for each seed, equal shares of each class."""
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(split.labels), generator=generator)
        train, held_out = [], []
        for label in split.labels.unique():
            members = order[split.labels[order] == label]
            cut = max(1, round(len(members) * self.validation))
            held_out.append(members[:cut])
            train.append(members[cut:])
        chosen = torch.cat(train)
        if self.train_samples is not None:
            chosen = chosen[torch.randperm(len(chosen), generator=generator)[: self.train_samples]]
        return chosen.sort().values, torch.cat(held_out).sort().values

    @staticmethod
    def scores(outputs: Tensor) -> Tensor:
        """Read out [T, B, classes] as the mean over time, [B, classes]."""
        return outputs.mean(0)

    def describe(self) -> dict[str, Any]:
        return {
            "Protocol": f"classification; {self.validation:.0%} of the training split held out (by class) to choose "
            "the epoch; the test split is read once, after training; outputs averaged over time"
        }

    @staticmethod
    def _batches(setting: Setting, split: Samples, indices: Tensor, batch: int, shuffle: bool = False) -> Batches:
        classes = setting.dataset.classes
        return Batches(split, indices, setting.encoder, setting.T, batch, shuffle, setting.seed, classes)
