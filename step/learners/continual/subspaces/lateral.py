"""Lateral neurons that answer in bursts of spikes instead of numbers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neurons.checks import count, positive


@dataclass(frozen=True)
class LateralSpikes:
    """Signed burst code of lateral spiking neurons (Xiao et al., ICLR 2024).

    q(y) = round(clip(y, -s, s) / s * T_l) / T_l * s: up to T_l spikes of either sign stand for activity up to s.

    Parameters
    ----------
    steps : int
        T_l, time steps of a burst.
    range : float
        s, the largest activity a burst stands for.
    """

    steps: int = 1000
    range: float = 20.0

    def __post_init__(self) -> None:
        count("lateral spikes", lateral_steps=self.steps)
        positive("lateral spikes", lateral_range=self.range)

    def __call__(self, y: Tensor) -> Tensor:
        """Return what the bursts for activity ``y`` stand for, in the same shape."""
        spikes = torch.round(y.clamp(-self.range, self.range) * (self.steps / self.range))
        return spikes * (self.range / self.steps)
