"""Bell-shaped surrogates: largest at the threshold, and the further from it, the less gradient they let through."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neurons.errors import OptionError
from neurons.surrogate import Surrogate, _not_negative, _positive, surrogates


@surrogates.register("piecewise-exponential")
@dataclass(frozen=True)
class PiecewiseExponential(Surrogate):
    """alpha / 2 exp(-alpha |u|); alpha 1 (Shrestha & Orchard, NeurIPS 2018; SpikingJelly)."""

    alpha: float = 1.0

    def __post_init__(self) -> None:
        _positive(alpha=self.alpha)

    def derivative(self, u: Tensor) -> Tensor:
        return self.alpha / 2 * torch.exp(-self.alpha * u.abs())

    def primitive(self, u: Tensor) -> Tensor:
        return 0.5 + 0.5 * torch.sign(u) * (1 - torch.exp(-self.alpha * u.abs()))


@surrogates.register("spike-rate-escape")
@dataclass(frozen=True)
class SpikeRateEscape(Surrogate):
    """slope exp(-beta |u - centre|); slope 25, beta 1, centre 0 (Gerstner & Kistler, 2002; centre 1 in snnTorch)."""

    slope: float = 25.0
    beta: float = 1.0
    centre: float = 0.0

    def __post_init__(self) -> None:
        _positive(slope=self.slope, beta=self.beta)

    def derivative(self, u: Tensor) -> Tensor:
        return self.slope * torch.exp(-self.beta * (u - self.centre).abs())

    def primitive(self, u: Tensor) -> Tensor:
        z = u - self.centre
        return self.slope / self.beta * torch.sign(z) * (1 - torch.exp(-self.beta * z.abs()))


@surrogates.register("soft-sign")
@dataclass(frozen=True)
class SoftSign(Surrogate):
    """alpha / (2 (1 + alpha |u|)^2), the slope of a soft sign from 0 to 1; alpha 2 (SpikingJelly)."""

    alpha: float = 2.0

    def __post_init__(self) -> None:
        _positive(alpha=self.alpha)

    def derivative(self, u: Tensor) -> Tensor:
        return self.alpha / 2 / (1 + self.alpha * u.abs()) ** 2

    def primitive(self, u: Tensor) -> Tensor:
        return 0.5 * (1 + self.alpha * u / (1 + self.alpha * u.abs()))


@surrogates.register("super-spike")
@dataclass(frozen=True)
class SuperSpike(Surrogate):
    """alpha / (1 + |u|)^2; alpha 1 (Zenke & Ganguli, Neural Comput. 2018, in the form of SpikingJelly)."""

    alpha: float = 1.0

    def __post_init__(self) -> None:
        _positive(alpha=self.alpha)

    def derivative(self, u: Tensor) -> Tensor:
        return self.alpha / (1 + u.abs()) ** 2

    def primitive(self, u: Tensor) -> Tensor:
        return self.alpha * u / (1 + u.abs())


@surrogates.register("sparse-fast-sigmoid")
@dataclass(frozen=True)
class SparseFastSigmoid(Surrogate):
    """1 / (1 + slope |u|)^2 where |u| < width, else 0; slope 25, width 1 (Perez-Nieves & Goodman, NeurIPS 2021)."""

    slope: float = 25.0
    width: float = 1.0

    def __post_init__(self) -> None:
        _positive(slope=self.slope, width=self.width)

    def derivative(self, u: Tensor) -> Tensor:
        return (u.abs() < self.width).to(u.dtype) / (1 + self.slope * u.abs()) ** 2

    def primitive(self, u: Tensor) -> Tensor:
        c = u.clamp(-self.width, self.width)
        return c / (1 + self.slope * c.abs())


@surrogates.register("q-pseudo-spike")
@dataclass(frozen=True)
class QPseudoSpike(Surrogate):
    """(1 + 2 |u| / (alpha - 1))^-alpha, a tail of chosen weight; alpha 2, above 1 (Herranz-Celotti & Rouat, 2022)."""

    alpha: float = 2.0

    def __post_init__(self) -> None:
        if not self.alpha > 1:
            raise OptionError(f"surrogate option 'alpha' of q-pseudo-spike must be greater than 1, not {self.alpha}")

    def derivative(self, u: Tensor) -> Tensor:
        return (1 + 2 / (self.alpha - 1) * u.abs()) ** -self.alpha

    def primitive(self, u: Tensor) -> Tensor:
        tail = (1 + 2 / (self.alpha - 1) * u.abs()) ** (1 - self.alpha)
        return 0.5 + 0.5 * torch.sign(u) * (1 - tail)


@surrogates.register("nonzero-sign-log-abs")
@dataclass(frozen=True)
class NonzeroSignLogAbs(Surrogate):
    """alpha / (1 + alpha |u|), the slope of sign(u) ln(1 + alpha |u|); alpha 1 (SpikingJelly)."""

    alpha: float = 1.0

    def __post_init__(self) -> None:
        _positive(alpha=self.alpha)

    def derivative(self, u: Tensor) -> Tensor:
        return self.alpha / (1 + self.alpha * u.abs())

    def primitive(self, u: Tensor) -> Tensor:
        return torch.sign(u) * torch.log(1 + self.alpha * u.abs())


@surrogates.register("fake-numerical-gradient")
@dataclass(frozen=True)
class FakeNumericalGradient(Surrogate):
    """min(1 / |u|, alpha), the difference quotient of the signs, capped; alpha 0.3 (SpikingJelly)."""

    alpha: float = 0.3

    def __post_init__(self) -> None:
        _positive(alpha=self.alpha)

    def derivative(self, u: Tensor) -> Tensor:
        return 1 / u.abs().clamp(min=1 / self.alpha)

    def primitive(self, u: Tensor) -> Tensor:
        z = self.alpha * u.abs()
        return torch.sign(u) * torch.where(z <= 1, z, 1 + torch.log(z.clamp(min=1)))


@surrogates.register("gate")
@dataclass(frozen=True)
class Gate(Surrogate):
    """1 where |u| < 1 / alpha, else 0; alpha 2 (BrainCog, STEP); height 1 whatever the width."""

    alpha: float = 2.0

    def __post_init__(self) -> None:
        _positive(alpha=self.alpha)

    def derivative(self, u: Tensor) -> Tensor:
        return (u.abs() < 1 / self.alpha).to(u.dtype)

    def primitive(self, u: Tensor) -> Tensor:
        return u.clamp(-1 / self.alpha, 1 / self.alpha)


@surrogates.register("piecewise-leaky-relu")
@dataclass(frozen=True)
class PiecewiseLeakyReLU(Surrogate):
    """1 / (2 width) where |u| < width, else leak; width 1, leak 0.01 (SpikingJelly)."""

    width: float = 1.0
    leak: float = 0.01

    def __post_init__(self) -> None:
        _positive(width=self.width)
        _not_negative(leak=self.leak)

    def derivative(self, u: Tensor) -> Tensor:
        inside = (u.abs() < self.width).to(u.dtype)
        return inside / (2 * self.width) + self.leak * (1 - inside)

    def primitive(self, u: Tensor) -> Tensor:
        c = u.clamp(-self.width, self.width)
        return c / (2 * self.width) + 0.5 + self.leak * (u - c)


@surrogates.register("straight-through")
@dataclass(frozen=True)
class StraightThrough(Surrogate):
    """1 everywhere: the gradient passes unchanged (Bengio et al., 2013; snnTorch, SpikingJelly's pass)."""

    def derivative(self, u: Tensor) -> Tensor:
        return torch.ones_like(u)

    def primitive(self, u: Tensor) -> Tensor:
        return u
