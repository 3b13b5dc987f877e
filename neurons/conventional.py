"""Conventional activations as neurons without time: with them a network is its own twin."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from neurons.base import Neuron, neurons
from neurons.errors import OptionError


@neurons.register("relu")
class ReLU(Neuron):
    """Rectified linear unit: max(x, 0); the conventional twin, run with T = 1."""

    conventional = True
    output = "real"

    def step(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return torch.relu(x)


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


@neurons.register("quantised_relu")
class QuantisedReLU(Neuron):
    """Quantised ReLU: d round(clamp(x / d, 0, 2^bits - 1)), step size d learned (LSQ, Esser et al., ICLR 2020).

    Rounding passes the gradient straight through; the gradient of the step size is scaled by
    1 / sqrt(features * levels), as in the paper. The paper sets the first step size from the first batch; here
    it is 2 E|x| / sqrt(levels) for a standard normal input, what a normalisation layer delivers, so that no
    result depends on which batch came first.

    Parameters
    ----------
    bits : int
        Activation bits, 1 to 16.
    """

    conventional = True
    output = "quantised"

    def __init__(self, bits: int = 4) -> None:
        super().__init__()
        if not 1 <= bits <= 16:
            raise OptionError(f"bits of quantised_relu must be 1 to 16, not {bits}")
        self.bits = bits
        self.levels = 2**bits - 1
        self.step_size = nn.Parameter(torch.tensor(2 * math.sqrt(2 / math.pi) / math.sqrt(self.levels)))

    def step(self, x: Tensor) -> Tensor:  # type: ignore[override]
        features = x[0].numel()
        d = _ScaleGradient.apply(self.step_size.abs().clamp(min=1e-6), 1 / math.sqrt(features * self.levels))
        return d * _Round.apply((x / d).clamp(0, self.levels))

    def extra_repr(self) -> str:
        return f"bits={self.bits}"


@neurons.register("gelu")
class GELU(Neuron):
    """Gaussian error linear unit: x (1 + erf(x / sqrt(2))) / 2 (Hendrycks and Gimpel, arXiv:1606.08415); T = 1."""

    conventional = True
    output = "real"

    def step(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return 0.5 * x * (1 + torch.erf(x * math.sqrt(0.5)))
