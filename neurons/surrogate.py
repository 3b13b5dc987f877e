"""Surrogate gradients: a hard threshold forward, a smooth derivative backward.

Every surrogate is a small frozen dataclass. ``surrogate(u)`` with ``u = v - threshold`` returns the spikes
``H(u)`` (1 where ``u >= 0``) and lets the gradient through as ``derivative(u)``. ``primitive`` is the smooth
function whose slope ``derivative`` is; it exists for tests and plots.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from neurons.errors import OptionError
from neurons.registry import Registry, name_and_options

surrogates: Registry[Surrogate] = Registry("surrogate", "surrogates")


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(u: Tensor, surrogate: Surrogate) -> Tensor:
        return (u >= 0).to(u.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Surrogate], output: Tensor) -> None:
        u, ctx.surrogate = inputs
        ctx.save_for_backward(u)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (u,) = ctx.saved_tensors
        return gradient * ctx.surrogate.derivative(u), None


class Surrogate(ABC):
    """A spike rule and the derivative used in its place.

    Class attributes
    ----------------
    bell : bool
        Whether the derivative is even, nowhere negative and largest at the threshold, as most are.
    noisy : bool
        Whether the derivative is the slope of ``primitive`` on average only.
    """

    bell: ClassVar[bool] = True
    noisy: ClassVar[bool] = False

    def __call__(self, u: Tensor) -> Tensor:
        """Return spikes in {0, 1} of the shape of ``u`` (membrane potential minus threshold)."""
        return _Spike.apply(u, self)  # type: ignore[no-any-return]

    @abstractmethod
    def derivative(self, u: Tensor) -> Tensor:
        """Return the derivative used backward at ``u``."""

    @abstractmethod
    def primitive(self, u: Tensor) -> Tensor:
        """Return the smooth step whose slope is ``derivative``, up to a constant."""


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise OptionError(f"surrogate option {name!r} must be positive, not {value}")


def _not_negative(**values: float) -> None:
    for name, value in values.items():
        if not value >= 0:
            raise OptionError(f"surrogate option {name!r} must be positive or 0, not {value}")


@surrogates.register("sigmoid")
@dataclass(frozen=True)
class Sigmoid(Surrogate):
    """alpha s(alpha u)(1 - s(alpha u)), s the logistic function; alpha 4 (STEP's default)."""

    alpha: float = 4.0

    def __post_init__(self) -> None:
        _positive(alpha=self.alpha)

    def derivative(self, u: Tensor) -> Tensor:
        s = torch.sigmoid(self.alpha * u)
        return self.alpha * s * (1 - s)

    def primitive(self, u: Tensor) -> Tensor:
        return torch.sigmoid(self.alpha * u)


@surrogates.register("arctan")
@dataclass(frozen=True)
class Arctan(Surrogate):
    """alpha / (2 (1 + (pi alpha u / 2)^2)); alpha 2 (Fang et al., ICCV 2021)."""

    alpha: float = 2.0

    def __post_init__(self) -> None:
        _positive(alpha=self.alpha)

    def derivative(self, u: Tensor) -> Tensor:
        return self.alpha / 2 / (1 + (math.pi / 2 * self.alpha * u) ** 2)

    def primitive(self, u: Tensor) -> Tensor:
        return torch.atan(math.pi / 2 * self.alpha * u) / math.pi + 0.5


@surrogates.register("rectangular")
@dataclass(frozen=True)
class Rectangular(Surrogate):
    """1 / width where |u| <= width / 2, else 0; width 1 (Wu et al., Front. Neurosci. 2018)."""

    width: float = 1.0

    def __post_init__(self) -> None:
        _positive(width=self.width)

    def derivative(self, u: Tensor) -> Tensor:
        return (u.abs() <= self.width / 2).to(u.dtype) / self.width

    def primitive(self, u: Tensor) -> Tensor:
        return (u / self.width + 0.5).clamp(0, 1)


@surrogates.register("triangular")
@dataclass(frozen=True)
class Triangular(Surrogate):
    """damping max(0, 1 - |u| / width); damping 0.3, width 1 (Bellec et al., NeurIPS 2018)."""

    damping: float = 0.3
    width: float = 1.0

    def __post_init__(self) -> None:
        _positive(damping=self.damping, width=self.width)

    def derivative(self, u: Tensor) -> Tensor:
        return self.damping * (1 - u.abs() / self.width).clamp(min=0)

    def primitive(self, u: Tensor) -> Tensor:
        c = u.clamp(-self.width, self.width)
        return self.damping * (c - c * c.abs() / (2 * self.width) + self.width / 2)


@surrogates.register("fast-sigmoid")
@dataclass(frozen=True)
class FastSigmoid(Surrogate):
    """1 / (1 + slope |u|)^2; slope 25 (Zenke & Ganguli, Neural Comput. 2018; default of snnTorch)."""

    slope: float = 25.0

    def __post_init__(self) -> None:
        _positive(slope=self.slope)

    def derivative(self, u: Tensor) -> Tensor:
        return 1 / (1 + self.slope * u.abs()) ** 2

    def primitive(self, u: Tensor) -> Tensor:
        return u / (1 + self.slope * u.abs())


@surrogates.register("gaussian")
@dataclass(frozen=True)
class Gaussian(Surrogate):
    """alpha / sqrt(pi) exp(-alpha^2 u^2), the slope of an error function; alpha 2 (Yin et al., 2021)."""

    alpha: float = 2.0

    def __post_init__(self) -> None:
        _positive(alpha=self.alpha)

    def derivative(self, u: Tensor) -> Tensor:
        return self.alpha / math.sqrt(math.pi) * torch.exp(-((self.alpha * u) ** 2))

    def primitive(self, u: Tensor) -> Tensor:
        return 0.5 * (1 + torch.erf(self.alpha * u))


@surrogates.register("quadratic-gate")
@dataclass(frozen=True)
class QuadraticGate(Surrogate):
    """max(0, alpha - alpha^2 |u|), the slope of a piecewise quadratic step; alpha 2 (BrainCog, SpikingJelly)."""

    alpha: float = 2.0

    def __post_init__(self) -> None:
        _positive(alpha=self.alpha)

    def derivative(self, u: Tensor) -> Tensor:
        return (self.alpha - self.alpha**2 * u.abs()).clamp(min=0)

    def primitive(self, u: Tensor) -> Tensor:
        c = u.clamp(-1 / self.alpha, 1 / self.alpha)
        return 0.5 + self.alpha * c - self.alpha**2 * c * c.abs() / 2


def as_surrogate(surrogate: str | Mapping[str, Any] | Surrogate) -> Surrogate:
    """Return the surrogate for a name, a mapping with a name and options, or a ready one."""
    if isinstance(surrogate, Surrogate):
        return surrogate
    name, options = name_and_options(surrogate, "surrogate")
    return surrogates.create(name, **options)
