"""Surrogates whose derivative changes sign: a bell with negative flanks, and a square wave cut off after few terms."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from neurons.errors import OptionError
from neurons.surrogate import Surrogate, _not_negative, _positive, surrogates


@surrogates.register("multi-gaussian")
@dataclass(frozen=True)
class MultiGaussian(Surrogate):
    """scale ((1 + h) N(0, w) - h N(w, s w) - h N(-w, s w)); w 0.5, h 0.15, s 6, scale 0.5 (Yin et al., 2021).

    N(m, w) is the normal density at u of mean m and standard deviation w. Yin et al., Nat. Mach. Intell. 2021.
    """

    width: float = 0.5
    height: float = 0.15
    spread: float = 6.0
    scale: float = 0.5

    bell = False

    def __post_init__(self) -> None:
        _positive(width=self.width, spread=self.spread, scale=self.scale)
        _not_negative(height=self.height)

    def derivative(self, u: Tensor) -> Tensor:
        w, h, flank = self.width, self.height, self.width * self.spread
        bell = (1 + h) * _density(u, w) - h * _density(u - w, flank) - h * _density(u + w, flank)
        return self.scale * bell

    def primitive(self, u: Tensor) -> Tensor:
        w, h, flank = self.width, self.height, self.width * self.spread
        step = (1 + h) * _cumulative(u, w) - h * _cumulative(u - w, flank) - h * _cumulative(u + w, flank)
        return self.scale * step


def _density(u: Tensor, width: float) -> Tensor:
    return torch.exp(-(u**2) / (2 * width**2)) / (width * math.sqrt(2 * math.pi))


def _cumulative(u: Tensor, width: float) -> Tensor:
    return 0.5 * (1 + torch.erf(u / (width * math.sqrt(2))))


@surrogates.register("squarewave-fourier")
@dataclass(frozen=True)
class SquarewaveFourier(Surrogate):
    """4 / period sum_i cos((2 i - 1) 2 pi u / period), i = 1 to terms; period 8, terms 1 (SpikingJelly, its n - 1)."""

    period: float = 8.0
    terms: int = 1

    bell = False

    def __post_init__(self) -> None:
        _positive(period=self.period)
        if self.terms < 1 or self.terms != int(self.terms):
            raise OptionError(f"surrogate option 'terms' must be a whole number of at least 1, not {self.terms}")

    def derivative(self, u: Tensor) -> Tensor:
        total = torch.zeros_like(u)
        for i in range(1, int(self.terms) + 1):
            total = total + torch.cos((2 * i - 1) * 2 * math.pi / self.period * u)
        return 4 / self.period * total

    def primitive(self, u: Tensor) -> Tensor:
        total = torch.zeros_like(u)
        for i in range(1, int(self.terms) + 1):
            total = total + torch.sin((2 * i - 1) * 2 * math.pi / self.period * u) / (2 * i - 1)
        return 0.5 + 2 / math.pi * total
