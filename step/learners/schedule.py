"""Learning rate over the epochs."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, Field


class ScheduleConfig(BaseModel):
    """How long is trained, and at which learning rates."""

    epochs: int = Field(20, ge=1)
    lr: float = Field(1e-3, gt=0)
    """Highest learning rate."""
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    """``cosine``: half a cosine from ``lr`` to ``min_lr`` (Loshchilov and Hutter, ICLR 2017); ``step``: times
    ``decay_rate`` every ``decay_epochs``; ``constant``."""
    min_lr: float = Field(1e-5, ge=0)
    """Learning rate at the end of the cosine."""
    warmup: float = Field(1.0, ge=0)
    """Epochs over which the learning rate rises linearly from ``warmup_lr``; they are part of ``epochs``."""
    warmup_lr: float = Field(0.0, ge=0)
    cooldown: int = Field(0, ge=0)
    """Epochs at ``min_lr`` after the cosine; they come on top of ``epochs``, as in timm."""
    decay_epochs: int = Field(30, ge=1)
    decay_rate: float = Field(0.1, gt=0, le=1)

    @property
    def all_epochs(self) -> int:
        """Epochs that are trained, the cool-down among them."""
        return self.epochs + self.cooldown


def learning_rate(c: ScheduleConfig, progress: float) -> float:
    """Return the learning rate of the step that ends ``progress`` epochs after the start.

    The rate changes with every step. The cosine begins where the warm-up ends (timm begins it at 0 and skips the
    part that the warm-up covers).
    """
    warmup = min(c.warmup, c.epochs)
    if progress < warmup:
        low = min(c.warmup_lr, c.lr)
        return low + (c.lr - low) * progress / warmup
    if c.schedule == "constant":
        return c.lr
    if c.schedule == "step":
        epoch = max(math.ceil(progress) - 1, 0)  # the last step of an epoch belongs to it
        return c.lr * c.decay_rate ** (epoch // c.decay_epochs)
    share = (progress - warmup) / max(c.epochs - warmup, 1e-9)
    low = min(c.min_lr, c.lr)
    return low + (c.lr - low) * (1 + math.cos(math.pi * min(share, 1.0))) / 2
