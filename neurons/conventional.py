"""Conventional activations as neurons without time: with them a network is its own twin."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from neurons.base import Neuron, neurons
from neurons.checks import positive
from neurons.errors import OptionError

NORMAL = math.sqrt(2 / math.pi)
"""E|x| of a standard normal x."""


@neurons.register("relu")
class ReLU(Neuron):
    """Rectified linear unit: max(x, 0); the conventional twin, run with T = 1."""

    conventional = True
    output = "real"

    def step(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return torch.relu(x)


@neurons.register("identity")
class Identity(Neuron):
    """The identity, y = x; the neuron of networks that have no place for one, such as an LSTM; T = 1."""

    conventional = True
    output = "real"

    def step(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return x

    def cost(self) -> dict[str, float]:
        """Return that an update takes no operations."""
        return {}


class _Round(torch.autograd.Function):
    """Rounding whose gradient passes straight through."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.round(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return gradient


class _ScaleGradient(torch.autograd.Function):
    """The identity, with the gradient multiplied by a constant."""

    @staticmethod
    def forward(x: Tensor, scale: float) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        ctx.scale = inputs[1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return gradient * ctx.scale, None


def learned_step(x: Tensor, step_size: Tensor, low: int, high: int, terms: int) -> Tensor:
    """Quantise with a learned step size d: d round(clamp(x / d, low, high)) (LSQ, Esser et al., ICLR 2020).

    Rounding passes the gradient straight through; that of the step size is scaled by 1 / sqrt(terms * high).

    Parameters
    ----------
    x : Tensor
    step_size : Tensor, shape []
        d; its sign does not count, and it is kept from 0.
    low, high : int
        Smallest and largest code.
    terms : int
        Values that one step size serves: the features of a layer, or its weights.
    """
    d = _ScaleGradient.apply(step_size.abs().clamp(min=1e-6), 1 / math.sqrt(terms * high))
    return d * _Round.apply((x / d).clamp(low, high))


def first_step(magnitude: float, high: int) -> float:
    """Return the step size that LSQ starts with, 2 E|x| / sqrt(high), for values of the mean ``magnitude``."""
    return 2 * magnitude / math.sqrt(high)


class _Quantiser(Neuron):
    """Base of quantised activations with a learned step size.

    The paper sets the first step size from the first batch; here it is set from the expected magnitude of the input,
    so that no result depends on which batch came first.

    Attributes
    ----------
    levels : int
        Steps from the smallest code to the largest; tells the bits of a code.
    """

    conventional = True
    output = "quantised"

    def __init__(self, bits: int, magnitude: float, low: int, high: int) -> None:
        super().__init__()
        positive(getattr(self, "registered_name", type(self).__name__), magnitude=magnitude)
        self.bits = bits
        self.low, self.high = low, high
        self.levels = high - low
        self.step_size = nn.Parameter(torch.tensor(first_step(magnitude, high)))

    def step(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return learned_step(x, self.step_size, self.low, self.high, x[0].numel())

    def extra_repr(self) -> str:
        return f"bits={self.bits}"


@neurons.register("quantised_relu")
class QuantisedReLU(_Quantiser):
    """Quantised ReLU: d round(clamp(x / d, 0, 2^bits - 1)), step size d learned (LSQ, Esser et al., ICLR 2020).

    Rounding passes the gradient straight through; the gradient of the step size is scaled by
    1 / sqrt(features * levels), as in the paper. The paper sets the first step size from the first batch; here
    it is 2 magnitude / sqrt(levels), so that no result depends on which batch came first.

    Parameters
    ----------
    bits : int
        Activation bits, 1 to 16.
    magnitude : float
        E|x| expected of the first inputs; that of a standard normal input, what a normalisation layer delivers,
        when left out.
    """

    def __init__(self, bits: int = 4, *, magnitude: float = NORMAL) -> None:
        if not 1 <= bits <= 16:
            raise OptionError(f"bits of quantised_relu must be 1 to 16, not {bits}")
        super().__init__(bits, magnitude, 0, 2**bits - 1)


@neurons.register("quantised")
class Quantised(_Quantiser):
    """Signed quantiser: d round(clamp(x / d, -2^(bits-1), 2^(bits-1) - 1)), step size d learned (LSQ, ICLR 2020).

    For operands with a sign, as the queries, keys and values of a quantised transformer; zero is a code, and there is
    no offset. Step size and gradients as in quantised_relu, with 2^(bits-1) - 1 for the levels.

    Parameters
    ----------
    bits : int
        Bits of a code with its sign, 2 to 16.
    magnitude : float
        E|x| expected of the first inputs; that of a standard normal input when left out.
    """

    def __init__(self, bits: int = 4, *, magnitude: float = NORMAL) -> None:
        if not 2 <= bits <= 16:
            raise OptionError(f"bits of quantised must be 2 to 16, one of them the sign, not {bits}")
        super().__init__(bits, magnitude, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


@neurons.register("gelu")
class GELU(Neuron):
    """Gaussian error linear unit: x (1 + erf(x / sqrt(2))) / 2 (Hendrycks and Gimpel, arXiv:1606.08415); T = 1."""

    conventional = True
    output = "real"

    def step(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return 0.5 * x * (1 + torch.erf(x * math.sqrt(0.5)))
