"""Integrate-and-fire neurons: IF, LIF and PLIF."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from neurons.base import SpikingNeuron, neurons
from neurons.errors import OptionError


@neurons.register("if")
class IF(SpikingNeuron):
    """Integrate-and-fire: h = v + x; s = H(h - threshold); v = reset(h, s)."""

    state = {"v": 0.0}

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        h = v + x
        s = self.spike(h - self.threshold)
        return s, self.reset(h, s)


@neurons.register("lif")
class LIF(SpikingNeuron):
    """Leaky integrate-and-fire: h = v + (x - v) / tau; s = H(h - threshold); v = reset(h, s).

    The input is divided by tau, as in Spikformer, SpikingJelly (``decay_input=True``) and STEP.

    Parameters
    ----------
    tau : float
        Membrane time constant in time steps, greater than 1.
    **options
        See :class:`neurons.SpikingNeuron`.
    """

    state = {"v": 0.0}

    def __init__(self, tau: float = 2.0, **options: Any) -> None:
        super().__init__(**options)
        if not tau > 1:
            raise OptionError(f"tau of lif is counted in time steps and must be greater than 1, not {tau}")
        self.tau = tau

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        h = v + (x - v) / self.tau
        s = self.spike(h - self.threshold)
        return s, self.reset(h, s)

    def extra_repr(self) -> str:
        return f"tau={self.tau}, {super().extra_repr()}"


@neurons.register("plif")
class PLIF(SpikingNeuron):
    """Parametric LIF: h = v + (x - v) sigmoid(w), w learned, one for each layer (Fang et al., ICCV 2021).

    Parameters
    ----------
    tau : float
        Membrane time constant at the start, greater than 1: w = -ln(tau - 1).
    **options
        See :class:`neurons.SpikingNeuron`.
    """

    state = {"v": 0.0}

    def __init__(self, tau: float = 2.0, **options: Any) -> None:
        super().__init__(**options)
        if not tau > 1:
            raise OptionError(f"tau of plif is counted in time steps and must be greater than 1, not {tau}")
        self.w = nn.Parameter(torch.tensor(-math.log(tau - 1)))

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        h = v + (x - v) * torch.sigmoid(self.w)
        s = self.spike(h - self.threshold)
        return s, self.reset(h, s)
