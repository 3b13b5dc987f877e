"""Recurrent LIF neurons: the spikes of the step before come back through learned weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from neurons.base import SpikingNeuron, neurons
from neurons.checks import count, time_constant
from neurons.cost import update_cost
from neurons.errors import ShapeError
from neurons.integrate_and_fire import LIF


@neurons.register("recurrent-lif")
class RecurrentLIF(SpikingNeuron):
    """LIF that hears itself (one-to-one): i = x + w s; h = v + (i - v) / tau; s' = H(h - threshold); v = reset(h, s').

    s is the spike of the step before; w is learned, one for each layer. Source: one-to-one recurrence of snnTorch's
    ``RLeaky`` (Eshraghian et al., Proc. IEEE 2023) with the LIF of this package, which divides its input by tau.

    Parameters
    ----------
    tau : float
        Membrane time constant in time steps, greater than 1.
    weight : float
        First w; 1, as in snnTorch, when left out.
    **options
        See :class:`neurons.SpikingNeuron`.
    """

    state = {"v": 0.0, "s": 0.0}

    def __init__(self, tau: float = 2.0, *, weight: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        time_constant("recurrent-lif", tau=tau)
        self.tau = tau
        self.weight = nn.Parameter(torch.tensor(float(weight)))

    def step(self, x: Tensor, v: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        h = v + (x + s * self.weight - v) / self.tau
        s = self.spike(h - self.threshold)
        return s, self.reset(h, s), s

    def extra_repr(self) -> str:
        return f"tau={self.tau}, {super().extra_repr()}"


@neurons.register("dense-recurrent-lif")
class DenseRecurrentLIF(SpikingNeuron):
    """LIF layer that hears itself (dense): i = x + W s; h = v + (i - v) / tau; s' = H(h - threshold); v = reset(h, s').

    s are the spikes of the step before; W [features, features] is learned, mixes the channels of each position and
    starts as the weight of ``nn.Linear`` does, uniform in +-1 / sqrt(features). Source: dense recurrence of
    snnTorch's ``RLeaky`` (Eshraghian et al., Proc. IEEE 2023), without its bias, with the LIF of this package.

    Parameters
    ----------
    features : int
        Number of channels.
    axis : int
        Axis of the channels, counted from the last.
    tau : float
        Membrane time constant in time steps, greater than 1.
    **options
        See :class:`neurons.SpikingNeuron`.
    """

    state = {"v": 0.0, "s": 0.0}

    def __init__(self, features: int = 64, *, axis: int = -1, tau: float = 2.0, **options: Any) -> None:
        super().__init__(**options)
        count("dense-recurrent-lif", features=features)
        time_constant("dense-recurrent-lif", tau=tau)
        self.features = features
        self.axis = axis
        self.tau = tau
        bound = 1 / math.sqrt(features)
        self.weight = nn.Parameter(torch.empty(features, features).uniform_(-bound, bound))

    def step(self, x: Tensor, v: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        if x.dim() < 1 - self.axis or x.shape[self.axis] != self.features:
            raise ShapeError(
                f"dense-recurrent-lif was made for {self.features} channels on axis {self.axis}, not for one step of "
                f"{list(x.shape)}; set its options features and axis"
            )
        heard = functional.linear(s.movedim(self.axis, -1), self.weight).movedim(-1, self.axis)
        h = v + (x + heard - v) / self.tau
        s = self.spike(h - self.threshold)
        return s, self.reset(h, s), s

    def cost(self) -> dict[str, float]:
        """Return the operations of one update: those of a LIF, and a sum for each feature, as if all had fired."""
        counted = update_cost(LIF(self.tau, threshold=self.threshold, reset=self.reset_mode))
        return counted | {"add": counted["add"] + self.features}

    def extra_repr(self) -> str:
        return f"features={self.features}, axis={self.axis}, tau={self.tau}, {super().extra_repr()}"
