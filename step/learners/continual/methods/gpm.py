"""Gradient projection memory (Saha, Garg and Roy, ICLR 2021, arXiv 2103.09762)."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from step.learners.continual.methods.base import Task, methods
from step.learners.continual.methods.parts import SubspacePart
from step.learners.continual.methods.projection import Projected, ProjectionConfig


class GPMConfig(ProjectionConfig):
    """Options of gradient projection memory."""

    subspace: SubspacePart = Field({"name": "svd"}, validate_default=True)
    """How the subspace of each layer is learned; its ``threshold`` is the share of energy that is kept."""
    samples: int = Field(300, ge=1)
    """Samples of each task whose activity is looked at when it is over; 300 for permuted MNIST in the authors' code."""


@methods.register("gpm")
class GPM(Projected):
    """Gradient projection memory (Saha et al., 2021): gradients keep out of the main directions of past activity.

    When a task is over, the activity of some of its samples is decomposed, and each layer keeps as many directions as
    hold a share of its energy.
    """

    Config: ClassVar[type[GPMConfig]] = GPMConfig
    streaming = False

    def paths(self, task: Task) -> list[str]:
        return list(self.setup.layers)
