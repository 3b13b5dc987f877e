"""Neurons in millivolts and milliseconds: Izhikevich, Hodgkin-Huxley and the conductance LIF of Diehl and Cook."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from neurons.base import SpikingNeuron, neurons
from neurons.checks import count, positive
from neurons.errors import OptionError
from neurons.surrogate import Surrogate

_BROAD: dict[str, Any] = {"name": "arctan", "alpha": 0.1}
"""A surrogate as broad as potentials in mV are: half its height 6 mV from the threshold."""


class _Membrane(SpikingNeuron):
    """A membrane with its own reset, whose threshold in mV is no option shared with the other neurons."""

    def __init__(
        self,
        *,
        detach_reset: bool = True,
        surrogate: str | dict[str, Any] | Surrogate = _BROAD,
    ) -> None:
        super().__init__(detach_reset=detach_reset, surrogate=surrogate)

    def _hidden(self, s: Tensor) -> Tensor:
        return s.detach() if self.detach_reset else s

    def extra_repr(self) -> str:
        return f"threshold={self.threshold}, surrogate={self.surrogate}"


@neurons.register("izhikevich")
class Izhikevich(_Membrane):
    """Izhikevich: dv/dt = 0.04 v^2 + 5 v + 140 - u + gain x; du/dt = a (b v - u); spike at v >= v_peak.

    After a spike v = c and u = u + d (Izhikevich, IEEE Trans. Neural Netw. 14:1569, 2003). As in the paper's
    programme a time step makes several Euler steps of v and then one of u; unlike there, v stays where it first
    reaches the peak, so that the parabola cannot run away before the reset and u does not see it. Starts at
    v = -65, u = b v, as the programme does.

    Parameters
    ----------
    a : float
        Rate of the recovery variable in 1/ms. The defaults of a to d are a regular spiking cell.
    b : float
        How much the recovery variable follows the potential.
    c : float
        Potential after a spike in mV, below ``v_peak``.
    d : float
        Step of the recovery variable after a spike.
    dt : float
        Length of a time step in ms.
    steps : int
        Euler steps of v in one time step; 2 of 0.5 ms in the paper.
    gain : float
        Current for an input of 1. The paper's currents are about 10; with the default, 20, inputs of size one fire.
    v_peak : float
        Potential of the peak in mV.
    v_floor : float
        Potential in mV below which no current takes v; minus infinity for the bare equation. Far below, where no
        cell goes, an Euler step would jump across the parabola into a spike.
    detach_reset, surrogate
        See :class:`neurons.SpikingNeuron`; the surrogate sees mV, and the default is broad accordingly.
    """

    state = {"v": -65.0, "u": -13.0}

    def __init__(
        self,
        a: float = 0.02,
        b: float = 0.2,
        c: float = -65.0,
        d: float = 8.0,
        *,
        dt: float = 1.0,
        steps: int = 2,
        gain: float = 20.0,
        v_peak: float = 30.0,
        v_floor: float = -100.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        positive("izhikevich", dt=dt, gain=gain)
        count("izhikevich", steps=steps)
        if not v_floor <= c < v_peak:
            raise OptionError(f"c of izhikevich must lie between v_floor {v_floor} and v_peak {v_peak} mV, not at {c}")
        self.a, self.b, self.c, self.d = a, b, c, d
        self.dt, self.steps, self.gain = dt, int(steps), gain
        self.threshold = v_peak
        self.v_floor = v_floor
        self.state = {"v": -65.0, "u": b * -65.0}  # type: ignore[misc]

    def step(self, x: Tensor, v: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        current = self.gain * x + 140 - u
        for _ in range(self.steps):
            rise = self.dt / self.steps * ((0.04 * v + 5) * v + current)
            v = torch.where(v < self.threshold, v + rise, v).clamp(min=self.v_floor)
        u = u + self.dt * self.a * (self.b * v - u)
        s = self.spike(v - self.threshold)
        fired = self._hidden(s)
        return s, v * (1 - fired) + self.c * fired, u + self.d * s


def _ratio(y: Tensor) -> Tensor:
    """Return y / (1 - exp(-y)), which is 1 at y = 0."""
    y = torch.where(y.abs() < 1e-6, 1e-6, y)
    return -y / torch.expm1(-y)


@neurons.register("hodgkin-huxley")
class HodgkinHuxley(_Membrane):
    """Hodgkin-Huxley: C dv/dt = gain x - 120 m^3 h (v - 50) - 36 n^4 (v + 77) - 0.3 (v + 54.387).

    Each gate follows dp/dt = alpha_p (1 - p) - beta_p p with, v in mV and rates in 1/ms,

    - m: alpha = 0.1 (v + 40) / (1 - exp(-(v + 40) / 10)), beta = 4 exp(-(v + 65) / 18);
    - h: alpha = 0.07 exp(-(v + 65) / 20), beta = 1 / (1 + exp(-(v + 35) / 10));
    - n: alpha = 0.01 (v + 55) / (1 - exp(-(v + 55) / 10)), beta = 0.125 exp(-(v + 65) / 80).

    Squid axon at 6.3 degrees, C = 1 uF/cm^2, conductances in mS/cm^2 (Hodgkin and Huxley, J. Physiol. 117:500, 1952,
    with the resting potential at -65 mV as in Dayan and Abbott, Theoretical Neuroscience, 2001, chapter 5).

    A time step makes several linearly implicit Euler steps, p = (p + k alpha_p) / (1 + k (alpha_p + beta_p)) and
    likewise v with the conductances after that, which no k makes unstable; the rates are taken at v held within
    200 mV of zero, so that no current makes them overflow. A spike is sent in the time step in
    which v comes from below to ``v_threshold`` or above. There is no reset: the currents bring v back.

    Parameters
    ----------
    dt : float
        Length of a time step in ms, at most 0.5, so that a spike, about 1 ms long, is not stepped over.
    steps : int
        Integration steps in one time step.
    gain : float
        Current in uA/cm^2 for an input of 1. Repetitive firing begins at about 6 uA/cm^2; with the default, 20,
        inputs of size one fire.
    v_threshold : float
        Potential in mV whose crossing counts as a spike.
    surrogate
        See :class:`neurons.SpikingNeuron`; it sees mV, and the default is broad accordingly.
    """

    state = {"v": -65.0, "m": 0.052932, "h": 0.596121, "n": 0.317677}

    def __init__(
        self,
        *,
        dt: float = 0.5,
        steps: int = 5,
        gain: float = 20.0,
        v_threshold: float = 0.0,
        surrogate: str | dict[str, Any] | Surrogate = _BROAD,
    ) -> None:
        super().__init__(surrogate=surrogate)
        positive("hodgkin-huxley", dt=dt, gain=gain)
        count("hodgkin-huxley", steps=steps)
        if dt > 0.5:
            raise OptionError(f"dt of hodgkin-huxley must be at most 0.5 ms, or spikes are stepped over, not {dt}")
        if not -65 < v_threshold < 40:
            raise OptionError(f"v_threshold of hodgkin-huxley must lie between -65 and 40 mV, not at {v_threshold}")
        self.dt, self.steps, self.gain = dt, int(steps), gain
        self.threshold = v_threshold

    def step(  # type: ignore[override]
        self, x: Tensor, v: Tensor, m: Tensor, h: Tensor, n: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        before = v
        k = self.dt / self.steps
        current = self.gain * x
        for _ in range(self.steps):
            w = v.clamp(-200, 200)
            rise, fall = _ratio((w + 40) / 10), 4 * torch.exp((w + 65) / -18)
            m = (m + k * rise) / (1 + k * (rise + fall))
            rise, fall = 0.07 * torch.exp((w + 65) / -20), torch.sigmoid((w + 35) / 10)
            h = (h + k * rise) / (1 + k * (rise + fall))
            rise, fall = 0.1 * _ratio((w + 55) / 10), 0.125 * torch.exp((w + 65) / -80)
            n = (n + k * rise) / (1 + k * (rise + fall))
            sodium = 120 * (m * m * m) * h
            squared = n * n
            potassium = 36 * (squared * squared)
            drive = current + 50 * sodium - 77 * potassium - 0.3 * 54.387
            v = (v + k * drive) / (1 + k * (sodium + potassium + 0.3))
        s = self.spike(v - self.threshold) * (before < self.threshold).to(v.dtype)
        return s, v, m, h, n


@neurons.register("conductance-lif")
class ConductanceLIF(_Membrane):
    """Conductance LIF of Diehl and Cook: tau dv/dt = (v_rest - v) + g_e (v_exc - v) + g_i (v_inh - v).

    dg_e/dt = -g_e / tau_e; dg_i/dt = -g_i / tau_i; dtheta/dt = -theta / tau_theta. Input arrives at the beginning of
    a time step: what is positive is added to g_e, what is negative, with its sign turned, to g_i; then one Euler
    step. A spike is sent where v >= v_threshold + theta and the last one is at least ``refractory`` ago; then
    v = v_reset and theta = theta + theta_plus. v goes on integrating in between (Diehl and Cook, Front. Comput.
    Neurosci. 9:99, 2015; places by Hussaini et al., IEEE RA-L 2022, VPRSNN).

    The defaults are the excitatory cells of Diehl and Cook. Their inhibitory cells: tau 10, v_rest -60, v_reset -45,
    v_threshold -40, v_inh -85, theta_start 0, theta_plus 0, refractory 2. VPRSNN uses tau_i 0.5 with dt 0.1, and its
    refractory timer runs at a tenth of real time: refractory 50. Both start at v_rest - 40 mV; here v starts
    at v_rest, and another start is a state given to ``run``.

    Parameters
    ----------
    tau, tau_e, tau_i, tau_theta : float
        Time constants of the membrane, the two conductances and the adaptation in ms, at least ``dt``.
    v_rest, v_reset, v_exc, v_inh : float
        Resting, reset and the two reversal potentials in mV.
    v_threshold : float
        Threshold in mV for theta = 0.
    theta_start, theta_plus : float
        Adaptation at rest and its step after a spike in mV. ``theta_plus=0`` freezes it, the decay being as slow
        as it is.
    refractory : float
        Least time between two spikes in ms.
    dt : float
        Length of a time step in ms.
    gain : float
        Conductance, in units of the leak, for an input of 1. The default, 5, lets inputs of size one fire; 1 where
        the weights are those of the paper.
    detach_reset, surrogate
        See :class:`neurons.SpikingNeuron`; the surrogate sees mV, and the default is broad accordingly.
    """

    state = {"v": -65.0, "g_e": 0.0, "g_i": 0.0, "theta": 20.0, "wait": 0.0}

    def __init__(
        self,
        *,
        tau: float = 100.0,
        tau_e: float = 1.0,
        tau_i: float = 2.0,
        tau_theta: float = 1e7,
        v_rest: float = -65.0,
        v_reset: float = -65.0,
        v_exc: float = 0.0,
        v_inh: float = -100.0,
        v_threshold: float = -72.0,
        theta_start: float = 20.0,
        theta_plus: float = 0.05,
        refractory: float = 5.0,
        dt: float = 0.5,
        gain: float = 5.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        positive("conductance-lif", dt=dt, gain=gain)
        for name, value in {"tau": tau, "tau_e": tau_e, "tau_i": tau_i, "tau_theta": tau_theta}.items():
            if not dt <= value < math.inf:
                raise OptionError(f"{name} of conductance-lif must be at least dt = {dt} ms and finite, not {value}")
        if not v_inh <= v_rest < v_threshold + theta_start <= v_exc or not v_reset < v_threshold + theta_start:
            raise OptionError(
                "conductance-lif needs v_inh <= v_rest < v_threshold + theta_start <= v_exc and v_reset below the "
                f"threshold, not {v_inh}, {v_rest}, {v_threshold + theta_start}, {v_exc} and {v_reset} mV"
            )
        if not (theta_start >= 0 and theta_plus >= 0 and refractory >= 0):
            raise OptionError("theta_start, theta_plus and refractory of conductance-lif must not be negative")
        self.tau, self.tau_e, self.tau_i, self.tau_theta = tau, tau_e, tau_i, tau_theta
        self.v_rest, self.v_reset, self.v_exc, self.v_inh = v_rest, v_reset, v_exc, v_inh
        self.theta_start, self.theta_plus, self.refractory = theta_start, theta_plus, refractory
        self.dt, self.gain = dt, gain
        self.threshold = v_threshold
        self.state = {**self.state, "v": v_rest, "theta": theta_start}  # type: ignore[misc]

    def step(  # type: ignore[override]
        self, x: Tensor, v: Tensor, g_e: Tensor, g_i: Tensor, theta: Tensor, wait: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        dt = self.dt
        g_e = g_e + self.gain * torch.relu(x)
        g_i = g_i + self.gain * torch.relu(-x)
        v = v + dt / self.tau * (self.v_rest - v + g_e * (self.v_exc - v) + g_i * (self.v_inh - v))
        theta = theta * (1 - dt / self.tau_theta)
        # counted down in ms; the half step keeps rounding from costing a whole one
        ready = (wait < dt / 2).to(v.dtype)
        s = self.spike(v - theta - self.threshold) * ready
        fired = self._hidden(s)
        return (
            s,
            v * (1 - fired) + self.v_reset * fired,
            g_e * (1 - dt / self.tau_e),
            g_i * (1 - dt / self.tau_i),
            theta + self.theta_plus * s,
            # the spiking step itself counts, hence one dt less
            torch.where(fired > 0, self.refractory - dt, torch.relu(wait - dt)),
        )
