"""Neurons whose threshold adapts to their own spikes."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from neurons.base import ResetMode, SpikingNeuron, neurons
from neurons.checks import positive
from neurons.errors import OptionError


@neurons.register("alif")
class ALIF(SpikingNeuron):
    """Adaptive-threshold LIF: h = alpha v + (1 - alpha) x; B = threshold + beta b; s = H((h - B) / B).

    v = reset(h, s), where a soft reset takes B away; then b = rho b + (1 - rho) s. alpha = exp(-1 / tau),
    rho = exp(-1 / tau_adaptation). The neuron of long short-term memory spiking networks, LSNN (Bellec et al., "Long
    short-term memory and learning-to-learn in networks of spiking neurons", NeurIPS 2018), with the constants of
    its sequential MNIST task. As in the paper the surrogate sees the potential in units of the threshold. The reset
    acts at once; the paper subtracts B in the next time step, without leak. The paper's refractory period and
    transmission delay are left out.

    Parameters
    ----------
    tau : float
        Membrane time constant in time steps; 20 in the paper, which calls a time step 1 ms.
    tau_adaptation : float
        Time constant of the threshold in time steps; 700 in the paper.
    beta : float
        How much the threshold rises for b = 1, a neuron that fires in every step; 1.8 in the paper.
    threshold : float
        Threshold of a neuron that has been silent, b0; 0.01 in the paper, whose currents are small accordingly.
    **options
        See :class:`neurons.SpikingNeuron`; the reset is soft in the paper and by default.
    """

    state = {"v": 0.0, "b": 0.0}

    def __init__(
        self,
        tau: float = 20.0,
        tau_adaptation: float = 700.0,
        beta: float = 1.8,
        *,
        threshold: float = 0.01,
        reset: ResetMode = "soft",
        **options: Any,
    ) -> None:
        super().__init__(threshold=threshold, reset=reset, **options)
        positive("alif", tau=tau, tau_adaptation=tau_adaptation)
        if not beta >= 0:
            raise OptionError(f"beta of alif must not be negative, not {beta}")
        self.tau = tau
        self.tau_adaptation = tau_adaptation
        self.beta = beta
        self.alpha = math.exp(-1 / tau)
        self.rho = math.exp(-1 / tau_adaptation)

    def step(self, x: Tensor, v: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        h = self.alpha * v + (1 - self.alpha) * x
        level = self.threshold + self.beta * b
        s = self.spike((h - level) / level)
        back = s.detach() if self.detach_reset else s
        if self.reset_mode == "soft":
            h = h - back * level
        elif self.reset_mode == "hard":
            h = h * (1 - back)
        return s, h, self.rho * b + (1 - self.rho) * s

    def extra_repr(self) -> str:
        return f"tau={self.tau}, tau_adaptation={self.tau_adaptation}, beta={self.beta}, {super().extra_repr()}"
