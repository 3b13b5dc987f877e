"""What every learner is: a config, a network or rule it fits, answers, and weights on disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from benchmarks.datasets import Dataset
from neurons.registry import Registry
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
