"""Synaptic intelligence (Zenke, Poole and Ganguli, Continual learning through synaptic intelligence, ICML 2017)."""

from __future__ import annotations

import torch
from pydantic import Field

from step.learners.continual.methods.base import MethodConfig, Setup, Step, Task, Tensors, methods
from step.learners.continual.methods.springs import Springs
from step.learners.continual.rules import Result


class SIConfig(MethodConfig):
    """Options of synaptic intelligence."""

    strength: float = Field(0.1, gt=0)
    """Weight c of the penalty; 0.1 for permuted MNIST in the paper."""
    damping: float = Field(0.1, gt=0)
    """What is added to the squared way of a weight, xi; 0.1 for permuted MNIST in the paper."""


@methods.register("si")
class SI(Springs):
    """Synaptic intelligence (Zenke et al., 2017): each weight's share in making the loss fall is its importance.

    Along the steps of a task, omega sums -g dw of the loss without the penalty; after it, the importance grows by
    max(omega, 0) / ((way of the weight over the task)^2 + xi), and later losses get c importance (w - w_before)^2.
    """

    Config = SIConfig

    def __init__(self, config: SIConfig, setup: Setup) -> None:
        super().__init__(config, setup)
        self._path: Tensors = {}
        self._start: Tensors = {}
        self._gradient: Tensors = {}
        self._before: Tensors = {}

    def start(self, task: Task) -> None:
        self._start = {path: p.detach().clone() for path, p in self.weights.items()}
        self._path = {path: torch.zeros_like(p) for path, p in self.weights.items()}

    def of_loss(self) -> None:
        self._gradient = {path: p.grad.clone() for path, p in self.weights.items() if p.grad is not None}

    def before_step(self) -> None:
        self._before = {path: p.detach().clone() for path, p in self.weights.items()}

    def after_step(self, step: Step, result: Result, task: Task) -> None:
        for path, gradient in self._gradient.items():
            way = self.setup.network.get_parameter(path).detach() - self._before[path]
            self._path[path] -= gradient * way

    def end(self, task: Task) -> None:
        for path, p in self.weights.items():
            here = p.detach().clone()
            way = (here - self._start[path]).square() + self.config.damping
            gained = self._path[path].clamp(min=0) / way
            self.importance[path] = gained + self.importance.get(path, torch.zeros_like(gained))
            self.centre[path] = here
        self._path, self._start, self._gradient, self._before = {}, {}, {}, {}
