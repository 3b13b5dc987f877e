"""Neurons with synaptic currents, and the leaky membranes of snnTorch: CUBA, alpha, Lapicque, leaky integrator."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from neurons.base import Neuron, SpikingNeuron, neurons
from neurons.checks import fraction, positive, time_constant
from neurons.errors import OptionError


class _Delayable(SpikingNeuron):
    """A neuron whose reset comes at once, or with the next time step as in snnTorch."""

    def __init__(self, *, reset_delay: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.reset_delay = reset_delay

    def _fire(self, h: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return the spikes and the potential for the charged potential ``h`` and the one before, ``v``."""
        if self.reset_delay:
            h = self.reset(h, (v >= self.threshold).to(h.dtype))
            return self.spike(h - self.threshold), h
        s = self.spike(h - self.threshold)
        return s, self.reset(h, s)


@neurons.register("cuba")
class CUBA(_Delayable):
    """Current-based synaptic LIF: i = alpha i + x; h = beta v + i; s = H(h - threshold); v = reset(h, s).

    The neuron of Loihi (Davies et al., IEEE Micro 38:82, 2018), ``Synaptic`` in snnTorch (Eshraghian et al.,
    Proc. IEEE 111:1016, 2023) and ``CUBALIFNode`` in SpikingJelly, whose decays are the defaults.

    Parameters
    ----------
    alpha : float
        What is left of the synaptic current after one time step, between 0 and 1.
    beta : float
        What is left of the potential after one time step, between 0 and 1.
    reset_delay : bool
        Whether the reset waits for the next time step, as snnTorch does by default.
    **options
        See :class:`neurons.SpikingNeuron`.
    """

    state = {"i": 0.0, "v": 0.0}

    def __init__(self, alpha: float = 0.5, beta: float = 0.75, **options: Any) -> None:
        super().__init__(**options)
        fraction("cuba", alpha=alpha, beta=beta)
        self.alpha = alpha
        self.beta = beta

    def step(self, x: Tensor, i: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        i = self.alpha * i + x
        s, v = self._fire(self.beta * v + i, v)
        return s, i, v

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}, beta={self.beta}, {super().extra_repr()}"


@neurons.register("alpha")
class Alpha(SpikingNeuron):
    """Alpha-function membrane: e = alpha e + x; i = beta i - x; v = tau_alpha (e + i); s = H(v - threshold).

    tau_alpha = ln(alpha) / (ln(beta) - ln(alpha)) + 1. The potential answers an input spike with a delay, as a
    difference of exponentials. Equations of ``Alpha`` in snnTorch (Eshraghian et al., Proc. IEEE 111:1016, 2023),
    its reset included, which comes with the next time step: after a spike, r = 1,

    - hard: e, i and v are 0 for one time step, whose input is lost;
    - soft: e loses the threshold, i is 0 and v changes by the i of the time step before.

    Parameters
    ----------
    alpha : float
        What is left of the excitatory current after one time step, between ``beta`` and 1.
    beta : float
        What is left of the inhibitory current after one time step, between 0 and ``alpha``.
    **options
        See :class:`neurons.SpikingNeuron`; the reset is always hidden from the gradient, as in snnTorch.
    """

    state = {"e": 0.0, "i": 0.0, "v": 0.0}

    def __init__(self, alpha: float = 0.9, beta: float = 0.8, **options: Any) -> None:
        super().__init__(**options)
        fraction("alpha", alpha=alpha, beta=beta)
        if not alpha > beta:
            raise OptionError(f"alpha of alpha must be greater than its beta, not {alpha} with beta {beta}")
        self.alpha = alpha
        self.beta = beta
        self.tau_alpha = math.log(alpha) / (math.log(beta) - math.log(alpha)) + 1

    def step(  # type: ignore[override]
        self, x: Tensor, e: Tensor, i: Tensor, v: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        before = i
        fired = (v >= self.threshold).to(x.dtype)
        e = self.alpha * e + x
        i = self.beta * i - x
        v = self.tau_alpha * (e + i)
        if self.reset_mode == "hard":
            e, i, v = e * (1 - fired), i * (1 - fired), v * (1 - fired)
        elif self.reset_mode == "soft":
            e, i, v = e - fired * self.threshold, i * (1 - fired), v + fired * before
        return self.spike(v - self.threshold), e, i, v

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}, beta={self.beta}, {super().extra_repr()}"


@neurons.register("lapicque")
class Lapicque(_Delayable):
    """Lapicque's circuit of a resistor and a capacitor: h = (1 - dt / (r c)) v + (dt / c) x; s = H(h - threshold).

    v = reset(h, s). Lapicque, J. Physiol. Pathol. Gen. 9:620, 1907; ``Lapicque`` in snnTorch.

    Parameters
    ----------
    r : float
        Resistance, in megaohm where the others are in nF and ms; 5 in snnTorch's tutorial.
    c : float
        Capacitance, in nF.
    dt : float
        Length of a time step, in ms, at most ``r c``.
    reset_delay : bool
        Whether the reset waits for the next time step, as in snnTorch.
    **options
        See :class:`neurons.SpikingNeuron`.
    """

    state = {"v": 0.0}

    def __init__(self, r: float = 5.0, c: float = 1.0, dt: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        positive("lapicque", r=r, c=c, dt=dt)
        if dt > r * c:
            raise OptionError(f"dt of lapicque must be at most the time constant r c = {r * c:g}, not {dt}")
        self.r, self.c, self.dt = r, c, dt

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return self._fire((1 - self.dt / (self.r * self.c)) * v + x * (self.dt / self.c), v)

    def extra_repr(self) -> str:
        return f"r={self.r}, c={self.c}, dt={self.dt}, {super().extra_repr()}"


@neurons.register("leaky-integrator")
class LeakyIntegrator(Neuron):
    """Leaky integrator for read-outs, without spikes: v = v + (x - v) / tau, and v is the output.

    The membrane of :class:`neurons.LIF` without threshold (``NonSpikingLIFNode`` in SpikingJelly, LI in Norse).

    Parameters
    ----------
    tau : float
        Membrane time constant in time steps, greater than 1.
    """

    state = {"v": 0.0}
    output = "real"

    def __init__(self, tau: float = 2.0) -> None:
        super().__init__()
        time_constant("leaky-integrator", tau=tau)
        self.tau = tau

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        v = v + (x - v) / self.tau
        return v, v

    def extra_repr(self) -> str:
        return f"tau={self.tau}"
