"""What every learner is: a config, a network or rule it fits, answers, and weights on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from benchmarks.datasets import Dataset
from neurons.registry import Registry
from step.learners import checkpoint
from step.models import Network

learners: Registry[Any] = Registry("learner", "learners")

Progress = Callable[[dict[str, Any]], None]
"""Receives ``{"epoch", "epochs", "share"}`` while learning and the metrics of each finished epoch."""


class LearnerConfig(BaseModel):
    """Settings of a learner; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    batch: int = Field(64, ge=2)

    def check(self, network: Network, dataset: Dataset) -> None:
        """Raise a StepError when such a network cannot learn such data like this; called before anything runs."""


class NetworkLearner:
    """Base of learners that are a network with weights: how it answers, and its weights on disk."""

    network: Network
    device: torch.device

    def predict(self, x: Tensor, *, last: bool = False, lengths: Tensor | None = None) -> Tensor:
        """Return the network's outputs [T, B, ...] for x [T, B, ...], in eval mode; with ``last`` as [1, B, ...]."""
        self.network.eval()
        with torch.no_grad():
            x = to_device(x, self.device)
            return self.network.last(x, None if lengths is None else lengths.to(x.device)) if last else self.network(x)

    def save(self, path: Path) -> None:
        """Write the weights as safetensors."""
        checkpoint.write(path, self.network.state_dict(), {"parameters": self.network.parameter_count})

    def load(self, path: Path) -> None:
        """Read weights that ``save`` wrote."""
        tensors, _ = checkpoint.read(path)
        self.network.load_state_dict(tensors)


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """Move x [T, B, ...]; where all time steps are one memory they stay so, and only that moves."""
    if x.device.type != device.type and len(x) > 1 and x.stride(0) == 0:
        return x[0].to(device).unsqueeze(0).expand_as(x)
    return x.to(device)
