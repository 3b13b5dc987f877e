"""Surrogates whose derivative is noisy."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neurons.surrogate import Surrogate, _not_negative, surrogates


@surrogates.register("stochastic")
@dataclass(frozen=True)
class Stochastic(Surrogate):
    """1 where u >= 0, else variance (r - 0.5 + mean), r noise in [0, 1); mean 0, variance 0.2 (snnTorch's operator).

    The noise comes from the last digits of u and not from a random generator: the same potential gets the same
    gradient, so that a run can be repeated and a kernel compared with the loop. ``primitive`` is that of the mean.
    """

    mean: float = 0.0
    variance: float = 0.2

    bell = False
    noisy = True

    def __post_init__(self) -> None:
        _not_negative(mean=self.mean, variance=self.variance)

    def derivative(self, u: Tensor) -> Tensor:
        noise = u * 7919.0
        noise = (noise - torch.floor(noise)) * 947.0
        noise = noise - torch.floor(noise)
        return torch.where(u >= 0, 1.0, self.variance * (noise - 0.5 + self.mean))

    def primitive(self, u: Tensor) -> Tensor:
        return u.clamp(min=0) + self.variance * self.mean * u.clamp(max=0)
