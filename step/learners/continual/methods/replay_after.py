"""Fine-tuning on a few stored samples of all tasks whenever one is over (memory replay of Xiao et al., ICLR 2024)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from step.learners.base import to_device
from step.learners.continual.methods.base import Setup, Task, Tensors, loss_among
from step.learners.continual.methods.memory import ranges_now

Stored = tuple[Tensor, Tensor, Tensor]
"""Images, labels and outputs [2] of a task."""


class ReplayAfterConfig(BaseModel):
    """Options of the fine-tuning after each task."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    per_class: int = Field(50, ge=1)
    """Samples of each class of a task that are kept, the first in the order of the data; 5 for miniImageNet."""
    epochs: int = Field(20, ge=1)
    """Times that all kept samples are seen after a task; 1 for permuted MNIST."""
    lr: float = Field(1e-3, gt=0)
    """Learning rate; 0.01 for permuted MNIST. With schedule: cosine it falls from epoch to epoch."""
    batch: int = Field(50, ge=1)
    """Samples of each task in a step; 5 for miniImageNet."""


class ReplayAfter:
    """Keeps the first samples of each class of every task, and fine-tunes on all of them, nothing being projected.

    Parameters
    ----------
    config : ReplayAfterConfig
    setup : Setup
    """

    def __init__(self, config: ReplayAfterConfig, setup: Setup) -> None:
        self.config = config
        self.setup = setup
        self.stored: list[Stored] = []

    def keep(self, task: Task) -> None:
        """Keep samples of a task."""
        labels = task.train.split.labels[task.train.indices]
        chosen = torch.cat([(labels == c).nonzero()[: self.config.per_class, 0] for c in labels.unique()]).sort().values
        some = replace(task.train, indices=task.train.indices[chosen], batch=len(chosen), shuffle=False, augment=None)
        drawn = next(some.images())
        self.stored.append((drawn.images.cpu(), drawn.labels.cpu(), torch.tensor(task.outputs)))

    def tune(self, task: Task, optimiser: torch.optim.Optimizer, cosine: bool) -> float:
        """Learn from all stored samples; return the mean loss of the last epoch.

        Parameters
        ----------
        task : Task
            The latest one.
        optimiser : torch.optim.Optimizer
        cosine : bool
            Whether the learning rate falls.
        """
        c, mean = self.config, 0.0
        for epoch in range(c.epochs):
            generator = self.setup.generator(task.number, epoch, 7)
            rate = c.lr * (1 + math.cos(math.pi * epoch / c.epochs)) / 2 if cosine else c.lr
            for group in optimiser.param_groups:
                group["lr"] = rate
            orders = [torch.randperm(len(labels), generator=generator).split(c.batch) for _, labels, _ in self.stored]
            losses = []
            for number in range(max(map(len, orders))):
                optimiser.zero_grad(set_to_none=True)
                for stored, order in zip(self.stored, orders, strict=True):
                    if number < len(order):
                        losses.append(self._gradient(stored, order[number], task, generator))
                optimiser.step()
            mean = float(torch.stack(losses).mean())
        return mean

    def _gradient(self, stored: Stored, rows: Tensor, task: Task, generator: torch.Generator) -> Tensor:
        images, labels, outputs = stored
        low, high = ranges_now(outputs[None], task.outputs)[0].tolist()
        x = to_device(task.train.encode(images[rows], generator), self.setup.device)
        loss = loss_among(labels[rows].to(self.setup.device), (low, high))
        return self.setup.rule.gradients(x, loss).loss

    def tensors(self) -> Tensors:
        """Return all stored samples as tensors."""
        names = ("images", "labels", "outputs")
        return {
            f"{number}.{name}": part
            for number, stored in enumerate(self.stored)
            for name, part in zip(names, stored, strict=True)
        }

    def restore(self, tensors: Tensors) -> None:
        """Take back what :meth:`tensors` gave."""
        count = len(tensors) // 3
        self.stored = [(tensors[f"{n}.images"], tensors[f"{n}.labels"], tensors[f"{n}.outputs"]) for n in range(count)]


def replay_after(options: dict[str, Any] | None, setup: Setup) -> ReplayAfter | None:
    """Return the fine-tuning with some options; None without."""
    return None if options is None else ReplayAfter(ReplayAfterConfig(**options), setup)
