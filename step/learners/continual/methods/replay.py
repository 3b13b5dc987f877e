"""Rehearsal: experience replay (Chaudhry et al., 2019) and dark experience replay (Buzzega et al., NeurIPS 2020)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from step.learners.base import to_device
from step.learners.continual.methods.base import Method, MethodConfig, Setup, Step, Task, Tensors, methods
from step.learners.continual.methods.memory import Kept, Memory, loss_of_each, ranges_now
from step.learners.continual.rules import Result


class ERConfig(MethodConfig):
    """Options of experience replay."""

    size: int = Field(200, ge=1)
    """Samples in the store; 200 is the smallest in Buzzega et al."""
    replay_batch: int = Field(64, ge=1)
    """Stored samples in every step."""
    keep: Literal["reservoir", "balanced"] = "reservoir"
    """Which samples stay: every one with the same probability, or as many of each class as can be."""


class DERConfig(ERConfig):
    """Options of dark experience replay."""

    alpha: float = Field(0.1, ge=0)
    """Weight of the distance from stored answers; tuned per data set in the paper, 0.1 to 1."""
    beta: float = Field(0.5, ge=0)
    """Weight of the labels of stored samples, 0.5 or 1 in the paper; 0 is DER without the plus signs."""


@methods.register("er")
class ER(Method):
    """Experience replay (Chaudhry et al., On tiny episodic memories in continual learning, 2019, arXiv 1902.10486).

    Every step learns from a batch of the task and a batch of stored samples of all tasks so far.
    """

    Config: ClassVar[type[ERConfig]] = ERConfig
    draws = 1
    """Batches that are drawn from the store in a step."""

    def __init__(self, config: ERConfig, setup: Setup) -> None:
        super().__init__(config, setup)
        self.memory = Memory(config.size, config.keep == "balanced")

    def gradients(self, step: Step, task: Task) -> Result:
        setup, number = self.setup, step.epoch * step.count + step.number
        generator = setup.generator(task.number, number, 4)
        # Nothing is rehearsed before there is something to forget.
        draws = self.draws if task.earlier else 0
        drawn = [self.memory.draw(self.config.replay_batch, generator) for _ in range(draws)]
        kept = [part for part in drawn if part is not None]
        if not kept:
            return super().gradients(step, task)
        images = torch.cat([step.images, *(part.images for part in kept)])
        x = to_device(task.train.encode(images, generator), setup.device)
        own = torch.tensor(task.outputs).expand(len(step.labels), 2)
        ranges = torch.cat([own, *(ranges_now(part.outputs, task.outputs) for part in kept)]).to(setup.device)
        labels = torch.cat([step.labels, *(part.labels.to(setup.device) for part in kept)])
        each = loss_of_each(labels, ranges)
        result = setup.rule.gradients(x, lambda y: self.loss(y, each(y), len(step.labels), kept))
        result.outputs = result.outputs[:, : len(step.labels)]
        return result

    def loss(self, outputs: Tensor, entropies: Tensor, own: int, kept: list[Kept]) -> Tensor:
        """Return the loss of a batch, ``own`` samples of the task and then the drawn ones.

        Parameters
        ----------
        outputs : Tensor, shape [T, B, C]
        entropies : Tensor, shape [B]
            Cross-entropy of each sample.
        own : int
        kept : list of Kept
        """
        return entropies.mean()

    def after_step(self, step: Step, result: Result, task: Task) -> None:
        generator = self.setup.generator(task.number, step.epoch * step.count + step.number, 5)
        logits = self.setup.rule.readout(result.outputs)
        self.memory.add(step.images, step.labels, task.outputs, logits, generator)

    def tensors(self) -> Tensors:
        return self.memory.tensors()

    def facts(self) -> dict[str, Any]:
        return self.memory.facts()

    def restore(self, tensors: Tensors, facts: dict[str, Any]) -> None:
        self.memory.restore(tensors, facts)


@methods.register("der++")
class DERPlusPlus(ER):
    """Dark experience replay, DER++ (Buzzega et al., Dark experience for general continual learning, NeurIPS 2020).

    The loss is that of the task, plus alpha times the squared distance between the answers to stored samples and those
    that the network gave when they were stored, plus beta times the cross-entropy of another draw of stored samples.
    """

    Config = DERConfig
    draws = 2

    def loss(self, outputs: Tensor, entropies: Tensor, own: int, kept: list[Kept]) -> Tensor:
        dark, _ = kept
        end = own + len(dark.labels)
        logits = dark.logits.to(outputs.device)
        distance = functional.mse_loss(outputs.mean(0)[own:end], logits)
        return entropies[:own].mean() + self.config.alpha * distance + self.config.beta * entropies[end:].mean()
