"""Lopsided surrogates: what has fired gets more gradient, or a longer tail, than what has not."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neurons.surrogate import Surrogate, _not_negative, _positive, surrogates


@surrogates.register("leaky-k-relu")
@dataclass(frozen=True)
class LeakyKReLU(Surrogate):
    """k where u >= 0, else leak; leak 0, k 1 (SpikingJelly); leak 0.1 is snnTorch's leaky spike operator."""

    leak: float = 0.0
    k: float = 1.0

    bell = False

    def __post_init__(self) -> None:
        _not_negative(leak=self.leak)
        _positive(k=self.k)

    def derivative(self, u: Tensor) -> Tensor:
        above = (u >= 0).to(u.dtype)
        return self.k * above + self.leak * (1 - above)

    def primitive(self, u: Tensor) -> Tensor:
        return self.k * u.clamp(min=0) + self.leak * u.clamp(max=0)


@surrogates.register("log-tailed-relu")
@dataclass(frozen=True)
class LogTailedReLU(Surrogate):
    """alpha where u <= 0, 1 up to u = 1, 1 / u beyond; alpha 0 (Cai et al., CVPR 2017; SpikingJelly)."""

    alpha: float = 0.0

    bell = False

    def __post_init__(self) -> None:
        _not_negative(alpha=self.alpha)

    def derivative(self, u: Tensor) -> Tensor:
        above = (u > 0).to(u.dtype)
        return above / u.clamp(min=1) + self.alpha * (1 - above)

    def primitive(self, u: Tensor) -> Tensor:
        return self.alpha * u.clamp(max=0) + u.clamp(0, 1) + torch.log(u.clamp(min=1))


@surrogates.register("s2nn")
@dataclass(frozen=True)
class S2NN(Surrogate):
    """alpha s(alpha u)(1 - s(alpha u)) where u < 0, else beta / (1 + u); alpha 4, beta 1 (Suetake et al., 2022)."""

    alpha: float = 4.0
    beta: float = 1.0

    bell = False

    def __post_init__(self) -> None:
        _positive(alpha=self.alpha, beta=self.beta)

    def derivative(self, u: Tensor) -> Tensor:
        s = torch.sigmoid(self.alpha * u)
        return torch.where(u < 0, self.alpha * s * (1 - s), self.beta / (1 + u.clamp(min=0)))

    def primitive(self, u: Tensor) -> Tensor:
        return torch.sigmoid(self.alpha * u.clamp(max=0)) + self.beta * torch.log(1 + u.clamp(min=0))
