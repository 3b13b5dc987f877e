"""Neuron-io: the spikes and the voltage of a neuron are predicted at every step, from its inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.protocols.base import Learner, Outcome, protocols
from benchmarks.protocols.batches import Batches
from benchmarks.protocols.neuronio_metrics import millivolts, spike_metrics, voltage_metrics
from benchmarks.protocols.objective import Objective
from benchmarks.protocols.supervised import Supervised
from neurons.errors import OptionError, ShapeError


class NeuronIOObjective(Objective):
    """Half the cross-entropy of spikes and half the squared error of scaled voltages, mean over all asked steps.

    Outputs [T, B, 2] are the logit of a spike and the scaled voltage; targets [B, T, 2] are NaN where nothing is asked.

    Parameters
    ----------
    burn_in : int
        Steps at the start of a sample that are left out of the loss.
    """

    metric = "io_loss"
    lower_is_better = True

    def __init__(self, burn_in: int = 0) -> None:
        self.burn_in = burn_in

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        losses, asked = self._losses(outputs, labels)
        return losses.sum() / asked.sum().clamp(min=1)

    def judge(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss over the asked steps of each sample, [B]; 0 where nothing is asked."""
        losses, asked = self._losses(outputs, labels)
        return losses.sum(0) / asked.sum(0).clamp(min=1)

    def _losses(self, outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of each step, 0 where it is not asked, and whether it is asked, both [T, B]."""
        check_outputs(outputs)
        targets = labels[:, : len(outputs)].transpose(0, 1)
        asked = ~targets.isnan().any(-1)
        asked[: self.burn_in] = False
        spike, voltage = torch.where(asked.unsqueeze(-1), targets, torch.zeros_like(targets)).unbind(-1)
        losses = 0.5 * functional.binary_cross_entropy_with_logits(outputs[..., 0], spike, reduction="none")
        losses = losses + 0.5 * torch.square(outputs[..., 1] - voltage)
        return losses * asked, asked


@protocols.register("neuron-io")
class NeuronIO(Supervised):
    """Neuron-io: spikes and voltage of a neuron at every step, scored on the test split by ROC curve and mV.

    Loss and measures are those of A. Spieler et al., The Expressive Leaky Memory Neuron, ICLR 2024, and D. Beniaguev et
    al., Neuron 109, 2021; the epoch with the lowest validation loss is chosen (there: the lowest error of the voltage).
    Voltages are scored as they are predicted, and, as there, after they have been given mean and standard deviation of
    the true test voltages. Which steps of validation and test samples count, the data say.

    Parameters
    ----------
    validation, train_samples
        See :class:`~benchmarks.protocols.supervised.Supervised`.
    burn_in : int
        Steps at the start of a sample that are left out of the loss and of the measures; 0, as there, learns from every
        step of a training window.
    """

    headline = "test_auc"
    task = "neuron-io"

    def __init__(self, validation: float = 0.1, train_samples: int | None = None, burn_in: int = 0) -> None:
        super().__init__(validation, train_samples)
        if burn_in < 0:
            raise OptionError(f"burn_in must be at least 0, not {burn_in}")
        self.burn_in = burn_in

    @property
    def objective(self) -> NeuronIOObjective:
        return NeuronIOObjective(self.burn_in)

    def evaluate(self, learner: Learner, test: Batches, classes: int) -> Outcome:
        truths, answers = [], []
        trace: pd.DataFrame | None = None
        for batch in test.items():
            outputs = learner.predict(batch.x).float().cpu()
            check_outputs(outputs)
            outputs = outputs.transpose(0, 1)
            targets = batch.labels[:, : outputs.shape[1]]
            asked = ~targets.isnan().any(-1)
            asked[:, : self.burn_in] = False
            spiking = (targets[..., 0] * asked).nansum(1)
            if trace is None and spiking.any():
                trace = _trace(targets[spiking.argmax()], outputs[spiking.argmax()])
            truths.append(targets[asked].numpy())
            answers.append(outputs[asked].numpy())
        truth, answer = np.concatenate(truths), np.concatenate(answers)
        if not len(truth):
            raise OptionError(f"protocol.burn_in: {self.burn_in} leaves no step of the test split to be scored")
        spikes, curve = spike_metrics(truth[:, 0], answer[:, 0])
        voltages = voltage_metrics(*(millivolts(each[:, 1].astype(np.float64)) for each in (truth, answer)))
        metrics = {f"test_{name}": value for name, value in (spikes | voltages).items()}
        metrics["test_spikes"] = float(truth[:, 0].sum())
        metrics["test_steps"] = float(len(truth))
        return Outcome(metrics, {"roc": curve} | ({} if trace is None else {"trace": trace}))

    def describe(self) -> dict[str, Any]:
        left = f"the first {self.burn_in} steps of a sample left out" if self.burn_in else "every step learned from"
        return {
            "Protocol": f"neuron-io; half the cross-entropy of spikes, half the squared error of voltages, {left}; "
            f"{self.held_out}; voltages scored as predicted, and restandardised to the test split as in the papers"
        }


def check_outputs(outputs: Tensor) -> None:
    """Raise a ShapeError unless outputs are [T, B, 2]."""
    if outputs.dim() != 3 or outputs.shape[2] != 2:
        raise ShapeError(
            f"neuron-io takes outputs [T, B, 2], the logit of a spike and the voltage, not {list(outputs.shape)}"
        )


def _trace(targets: Tensor, outputs: Tensor) -> pd.DataFrame:
    """Return what was and what was predicted at the steps of one sample."""
    return pd.DataFrame(
        {
            "step": np.arange(len(targets)),
            "spike": targets[:, 0].numpy(),
            "spike_chance": outputs[:, 0].sigmoid().numpy(),
            "voltage": millivolts(targets[:, 1].numpy()),
            "predicted_voltage": millivolts(outputs[:, 1].numpy()),
        }
    )
