"""Elastic weight consolidation (Kirkpatrick et al., PNAS 2017, arXiv 1612.00796)."""

from __future__ import annotations

from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional

from step.learners.base import to_device
from step.learners.continual.methods.base import MethodConfig, Setup, Task, Tensors, drawn_from, loss_among, methods
from step.learners.continual.methods.springs import Springs


class EWCConfig(MethodConfig):
    """Options of elastic weight consolidation."""

    strength: float = Field(1.0, gt=0)
    """Weight lambda of the penalty; SGD diverges where lr times lambda times the largest importance exceeds 2."""
    samples: int = Field(200, ge=1)
    """Samples of each task that the importance is estimated from, one gradient each."""
    labels: Literal["sampled", "true"] = "sampled"
    """Labels behind the gradients: drawn from what the network answers, as the Fisher information has it, or those of
    the data, the "empirical" Fisher (Kunstner et al., NeurIPS 2019, on the difference)."""
    online: bool = False
    """One running importance around the latest weights instead of one for each task (Schwarz et al., ICML 2018)."""
    decay: float = Field(1.0, gt=0, le=1)
    """What of the running importance is left after a task, gamma of the online form."""

    @model_validator(mode="after")
    def _online(self) -> Self:
        if self.decay != 1 and not self.online:
            raise ValueError("decay has no effect without online: true; leave it out")
        return self


@methods.register("ewc")
class EWC(Springs):
    """Elastic weight consolidation (Kirkpatrick et al., 2017): weights that mattered are held by springs.

    After each task k the diagonal F_k of the Fisher information at the weights w_k is estimated; later losses get
    lambda / 2 sum_k F_k (w - w_k)^2. The sum over tasks is kept as one quadratic, with the summed importance, its
    centre, and a constant, so that memory does not grow with the tasks.
    """

    Config = EWCConfig

    def __init__(self, config: EWCConfig, setup: Setup) -> None:
        super().__init__(config, setup)
        self.constant = torch.zeros((), device=setup.device)

    @property
    def stiffness(self) -> float:
        return float(self.config.strength) / 2

    def penalty(self) -> Tensor:
        return super().penalty() + self.stiffness * self.constant

    def end(self, task: Task) -> None:
        fisher, c = self._fisher(task), self.config
        for path, p in self.weights.items():
            new, here = fisher[path], p.detach().clone()
            old = self.importance.get(path, torch.zeros_like(new))
            if c.online:
                self.importance[path], self.centre[path] = c.decay * old + new, here
                continue
            # a (w - u)^2 + b (w - v)^2 = (a + b) (w - centre)^2 + a b / (a + b) (u - v)^2
            both = old + new
            share = torch.where(both > 0, new / both.clamp(min=torch.finfo(both.dtype).tiny), 0.0)
            way = here - self.centre.get(path, here)
            self.constant = self.constant + (old * share * way.square()).sum()
            self.importance[path], self.centre[path] = both, here - (1 - share) * way

    def _fisher(self, task: Task) -> Tensors:
        """Return the mean square of the gradients of single samples."""
        setup = self.setup
        generator = setup.generator(task.number, 1)
        setup.network.eval()
        total = {path: torch.zeros_like(p) for path, p in self.weights.items()}
        count = 0
        low, high = task.outputs
        for x, labels in drawn_from(task.train, self.config.samples, 1, generator).epoch():
            x = to_device(x, setup.device)
            if self.config.labels == "sampled":
                with torch.no_grad():
                    shares = functional.softmax(setup.network(x).mean(0)[:, low:high], -1).cpu()
                labels = low + torch.multinomial(shares, 1, generator=generator)[:, 0]
            setup.network.zero_grad(set_to_none=True)
            setup.rule.gradients(x, loss_among(labels.to(setup.device), task.outputs))
            for path, p in self.weights.items():
                if p.grad is not None:
                    total[path] += p.grad.square()
            count += 1
        setup.network.zero_grad(set_to_none=True)
        return {path: value / count for path, value in total.items()}

    def tensors(self) -> Tensors:
        return {**super().tensors(), "constant": self.constant}

    def restore(self, tensors: Tensors, facts: dict[str, Any]) -> None:
        super().restore(tensors, facts)
        self.constant = tensors["constant"].to(self.setup.device)
