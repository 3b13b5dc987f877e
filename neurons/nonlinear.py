"""Integrate-and-fire neurons with a nonlinear membrane: KLIF, exponential (EIF) and quadratic (QIF)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from neurons.base import SpikingNeuron, neurons
from neurons.checks import positive, time_constant
from neurons.errors import OptionError
from neurons.surrogate import Surrogate


@neurons.register("klif")
class KLIF(SpikingNeuron):
    """LIF with a learned gain k: h = relu(k (v + (x - v) / tau)); s = H(h - threshold); v = reset(h, s).

    The gain, one for each layer, learns the slope of the surrogate gradient (Jiang and Zhang, "KLIF: an optimized
    spiking neuron unit for tuning surrogate gradient slope and membrane potential", arXiv:2302.09238). The reset
    acts on the scaled potential, as in STEP and in SpikingJelly (``scale_reset=False``).

    Parameters
    ----------
    tau : float
        Membrane time constant in time steps, greater than 1.
    k : float
        Gain at the start, positive; 1 in the paper.
    **options
        See :class:`neurons.SpikingNeuron`.
    """

    state = {"v": 0.0}

    def __init__(self, tau: float = 2.0, k: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        time_constant("klif", tau=tau)
        positive("klif", k=k)
        self.tau = tau
        self.k = nn.Parameter(torch.tensor(float(k)))

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        h = torch.relu(self.k * (v + (x - v) / self.tau))
        s = self.spike(h - self.threshold)
        return s, self.reset(h, s)

    def extra_repr(self) -> str:
        return f"tau={self.tau}, {super().extra_repr()}"


class _Upswing(SpikingNeuron):
    """A membrane that runs away above its threshold, so that it must be set back after a spike."""

    state = {"v": 0.0}

    def __init__(
        self,
        *,
        tau: float = 2.0,
        v_reset: float = -0.1,
        threshold: float = 1.0,
        detach_reset: bool = True,
        surrogate: str | dict[str, Any] | Surrogate = "arctan",
    ) -> None:
        super().__init__(threshold=threshold, detach_reset=detach_reset, surrogate=surrogate)
        name = getattr(type(self), "registered_name", type(self).__name__)
        time_constant(name, tau=tau)
        if not v_reset < threshold:
            raise OptionError(f"v_reset of {name} must lie below its threshold {threshold}, not at {v_reset}")
        self.tau = tau
        self.v_reset = v_reset

    def reset(self, v: Tensor, s: Tensor) -> Tensor:
        s = s.detach() if self.detach_reset else s
        return v * (1 - s) + s * self.v_reset

    def extra_repr(self) -> str:
        return f"tau={self.tau}, v_reset={self.v_reset}, {super().extra_repr()}"


@neurons.register("eif")
class EIF(_Upswing):
    """Exponential integrate-and-fire: h = v + (x - v + delta_t exp((v - theta_rh) / delta_t)) / tau.

    s = H(h - threshold); v = h (1 - s) + v_reset s. Fourcaud-Trocme et al., J. Neurosci. 23:11628, 2003; this
    form and these defaults are those of STEP and SpikingJelly. The potential is measured from the resting value of
    its linear part and starts there, at 0, as in STEP; SpikingJelly starts at ``v_reset``. At the defaults the
    exponential outgrows the leak at every potential, so that the neuron fires without input, if slowly.

    The potential runs away above the threshold: the only reset is to ``v_reset``.

    Parameters
    ----------
    delta_t : float
        Sharpness of the upswing, in units of the potential, positive.
    theta_rh : float
        Potential at which the upswing begins (rheobase threshold).
    tau : float
        Membrane time constant in time steps, greater than 1.
    v_reset : float
        Potential after a spike, below the threshold.
    threshold, detach_reset, surrogate
        See :class:`neurons.SpikingNeuron`.
    """

    def __init__(self, delta_t: float = 1.0, theta_rh: float = 0.8, **options: Any) -> None:
        super().__init__(**options)
        positive("eif", delta_t=delta_t)
        self.delta_t = delta_t
        self.theta_rh = theta_rh

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        upswing = self.delta_t * torch.exp((v - self.theta_rh) / self.delta_t)
        h = v + (x - v + upswing) / self.tau
        s = self.spike(h - self.threshold)
        return s, self.reset(h, s)


@neurons.register("qif")
class QIF(_Upswing):
    """Quadratic integrate-and-fire: h = v + (x + a0 v (v - v_c)) / tau; s = H(h - threshold).

    v = h (1 - s) + v_reset s. Gerstner et al., Neuronal Dynamics, 2014, section 5.3; defaults of SpikingJelly, whose
    potential starts at ``v_reset`` and here at rest, 0. The potential runs away above the threshold: the only reset
    is to ``v_reset``.

    Parameters
    ----------
    a0 : float
        Curvature, positive.
    v_c : float
        Potential above which the neuron fires by itself, positive.
    tau : float
        Membrane time constant in time steps, greater than 1.
    v_reset : float
        Potential after a spike, below the threshold.
    threshold, detach_reset, surrogate
        See :class:`neurons.SpikingNeuron`.
    """

    def __init__(self, a0: float = 1.0, v_c: float = 0.8, **options: Any) -> None:
        super().__init__(**options)
        positive("qif", a0=a0, v_c=v_c)
        self.a0 = a0
        self.v_c = v_c

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        h = v + (x + self.a0 * v * (v - self.v_c)) / self.tau
        s = self.spike(h - self.threshold)
        return s, self.reset(h, s)
