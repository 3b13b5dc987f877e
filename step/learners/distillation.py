"""Knowledge distillation: a trained network teaches another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn

from encoders import Encoder
from step.learners.loss import Scores
from step.models import Network


class DistillationConfig(BaseModel):
    """Who teaches, and how."""

    teacher: str | None = Field(None, min_length=1)
    """A finished run of the same results folder that teaches: its id, or the path of its weights file. It may have
    other neurons, time steps and encoding; a conventional network is the usual choice. A teacher of the same seed has
    not seen the samples that are held out here to choose the epoch."""
    distillation: Literal["soft", "hard"] = "soft"
    """``soft``: the distribution of the teacher (Hinton et al., 2015, arXiv 1503.02531); ``hard``: the class that it
    answers (Touvron et al., ICML 2021)."""
    distillation_weight: float = Field(0.5, gt=0, le=1)
    """Share of the teacher in the loss; the labels have the rest."""
    temperature: float = Field(3.0, gt=0)
    """By which the scores of both are divided in soft distillation."""


@dataclass(frozen=True)
class Teacher:
    """A trained network, and how its data are encoded.

    Attributes
    ----------
    network : Network
        Is frozen and put into eval mode.
    encoder : Encoder
    T : int
        Time steps of the teacher.
    """

    network: Network
    encoder: Encoder
    T: int

    def __post_init__(self) -> None:
        self.network.eval().requires_grad_(False)

    def encode(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Encode images [B, ...] as the teacher takes them, [T, B, ...]."""
        return self.encoder(images, self.T, generator=generator)


def distillation_loss(scores: Tensor, taught: Tensor, c: DistillationConfig) -> Tensor:
    """Return how far scores [B, classes] are from those of the teacher.

    Soft: temperature^2 KL(softmax(taught / temperature) || softmax(scores / temperature)), the mean over the batch;
    hard: cross-entropy to the teacher's class.
    """
    if c.distillation == "hard":
        return nn.functional.cross_entropy(scores, taught.argmax(-1))
    student, teacher = (nn.functional.log_softmax(s / c.temperature, -1) for s in (scores, taught))
    return c.temperature**2 * nn.functional.kl_div(student, teacher, reduction="batchmean", log_target=True)


def taught_loss(supervised: Tensor, outputs: Tensor, taught: Tensor, scores: Scores, c: DistillationConfig) -> Tensor:
    """Return (1 - weight) times the loss on the labels plus weight times that to the teacher's outputs [T, B, ...]."""
    weight = c.distillation_weight
    return (1 - weight) * supervised + weight * distillation_loss(scores(outputs), scores(taught), c)
