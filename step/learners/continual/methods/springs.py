"""What methods have in common that hold weights by a quadratic penalty."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from step.learners import checkpoint
from step.learners.continual.methods.base import Method, MethodConfig, Setup, Step, Task, Tensors
from step.learners.continual.rules import Result


class Springs(Method):
    """Base of the methods that add stiffness * sum importance (w - centre)^2 to the loss.

    The gradient of the penalty is written down, so that it joins that of any learning rule.
    """

    def __init__(self, config: MethodConfig, setup: Setup) -> None:
        super().__init__(config, setup)
        self.importance: Tensors = {}
        self.centre: Tensors = {}
        self._seen: list[Tensor] = []

    @property
    def stiffness(self) -> float:
        """Factor on the penalty."""
        return float(self.config.strength)

    def penalty(self) -> Tensor:
        """Return the penalty at the present weights."""
        total = torch.zeros((), device=self.setup.device)
        for path, p in self.setup.network.named_parameters():
            if path in self.importance:
                total = total + (self.importance[path] * (p.detach() - self.centre[path]).square()).sum()
        return self.stiffness * total

    def gradients(self, step: Step, task: Task) -> Result:
        result = super().gradients(step, task)
        self._seen.append(self.penalty())
        self.of_loss()
        for path, p in self.weights.items():
            if path in self.importance:
                pull = 2 * self.stiffness * self.importance[path] * (p.detach() - self.centre[path])
                p.grad = pull if p.grad is None else p.grad + pull
        return result

    def of_loss(self) -> None:
        """See the gradients of the loss before those of the penalty join them."""

    def numbers(self) -> dict[str, float]:
        seen, self._seen = self._seen, []
        return {"penalty": float(torch.stack(seen).mean())} if seen else {}

    def tensors(self) -> Tensors:
        return {
            **checkpoint.with_prefix("importance", self.importance),
            **checkpoint.with_prefix("centre", self.centre),
        }

    def restore(self, tensors: Tensors, facts: dict[str, Any]) -> None:
        moved = {key: value.to(self.setup.device) for key, value in tensors.items()}
        self.importance = checkpoint.without_prefix("importance", moved)
        self.centre = checkpoint.without_prefix("centre", moved)
