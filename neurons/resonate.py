"""Resonate-and-fire neurons: damped oscillators that answer to their own frequency."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from neurons.base import SpikingNeuron, neurons
from neurons.checks import positive
from neurons.errors import OptionError
from neurons.surrogate import Surrogate


class _Resonator(SpikingNeuron):
    """What the two balanced resonators share: their parameters, and a refractory variable in place of a reset."""

    state = {"u": 0.0, "v": 0.0, "q": 0.0}

    def __init__(
        self,
        omega: float | Sequence[float] = 10.0,
        damping: float | Sequence[float] = 1.0,
        *,
        dt: float = 0.01,
        gain: float = 100.0,
        refractory_decay: float = 0.9,
        threshold: float = 1.0,
        detach_reset: bool = False,
        surrogate: str | dict[str, Any] | Surrogate = "arctan",
    ) -> None:
        super().__init__(threshold=threshold, reset="none", detach_reset=detach_reset, surrogate=surrogate)
        name = getattr(type(self), "registered_name", type(self).__name__)
        positive(name, dt=dt, gain=gain)
        if not 0 <= refractory_decay < 1:
            raise OptionError(f"refractory_decay of {name} must be at least 0 and less than 1, not {refractory_decay}")
        for value in omega if isinstance(omega, Sequence) else [omega]:
            if not 0 < value * dt < 1:
                raise OptionError(f"omega of {name} must be positive and less than 1 / dt = {1 / dt:g}, not {value}")
        for value in damping if isinstance(damping, Sequence) else [damping]:
            if not value > 0:
                raise OptionError(f"damping of {name} must be positive, not {value}")
        self.dt = dt
        self.gain = gain
        self.refractory_decay = refractory_decay
        self.omega = nn.Parameter(torch.tensor(omega, dtype=torch.get_default_dtype()))
        self.damping = nn.Parameter(torch.tensor(damping, dtype=torch.get_default_dtype()))

    def fire(self, u: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        """Return the spikes and the refractory variable after them."""
        s = self.spike(u - q - self.threshold)
        return s, self.refractory_decay * q + (s.detach() if self.detach_reset else s)

    def extra_repr(self) -> str:
        return f"dt={self.dt}, gain={self.gain}, threshold={self.threshold}, surrogate={self.surrogate}"


@neurons.register("resonate-and-fire")
class ResonateAndFire(_Resonator):
    """Balanced resonate-and-fire (BRF): u + i v = (1 + dt (b + i omega)) (u + i v) + dt gain x.

    s = H(u - q - threshold); q = 0.9 q + s; b = p - |damping| - q, with p = (-1 + sqrt(1 - (dt omega)^2)) / dt, the
    boundary beyond which the oscillation would grow; b and s use the q from before the step. A spike raises both
    the threshold and the damping for a while; nothing is reset, so that the phase survives (Higuchi, Kairat, Bohte
    and Otte, "Balanced resonate-and-fire neurons", ICML 2024).

    Parameters
    ----------
    omega : float or sequence of float
        Angular frequency at the start in rad/s, one for the layer or one for each place of the last dimension;
        learned. Positive and less than 1 / dt.
    damping : float or sequence of float
        Offset from the boundary at the start in 1/s, positive; learned.
    dt : float
        Length of a time step in seconds; 0.01 in the paper.
    gain : float
        Factor of the input. The paper's is 1, with weights that make up for dt; the default, 1 / 0.01, lets inputs
        of size one fire.
    refractory_decay : float
        What is left of q after one time step; 0.9 in the paper.
    detach_reset : bool
        Whether q hides the spike from the gradient; it does not in the paper.
    threshold, surrogate
        See :class:`neurons.SpikingNeuron`.
    """

    def step(  # type: ignore[override]
        self, x: Tensor, u: Tensor, v: Tensor, q: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        turn = self.dt * self.omega.abs()
        # held above 0 in case learning drives omega past 1 / dt, where no explicit step is stable
        boundary = ((1 - turn * turn).clamp(min=1e-6).sqrt() - 1) / self.dt
        shrink = 1 + self.dt * (boundary - self.damping.abs() - q)
        u, v = shrink * u - turn * v + (self.dt * self.gain) * x, shrink * v + turn * u
        s, q = self.fire(u, q)
        return s, u, v, q


@neurons.register("harmonic-resonate-and-fire")
class HarmonicResonateAndFire(_Resonator):
    """Balanced harmonic resonate-and-fire: v = v + dt u; u = u + dt (gain x - 2 b u - omega^2 v).

    s = H(u - q - threshold); q = 0.9 q + s; b = dt omega^2 / 2 + |damping| + q, with the q from before the step: a
    damped harmonic oscillator in place of the complex one of ``resonate-and-fire``, with the same refractory
    variable. From the code of Higuchi, Kairat, Bohte and Otte, "Balanced resonate-and-fire neurons", ICML 2024.

    Parameters
    ----------
    omega, damping, dt, gain, refractory_decay, detach_reset, threshold, surrogate
        See :class:`neurons.ResonateAndFire`.
    """

    def step(  # type: ignore[override]
        self, x: Tensor, u: Tensor, v: Tensor, q: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        stiffness = self.omega * self.omega
        b = self.dt / 2 * stiffness + self.damping.abs() + q
        v = v + self.dt * u
        u = u + (self.dt * self.gain) * x - 2 * self.dt * b * u - self.dt * stiffness * v
        s, q = self.fire(u, q)
        return s, u, v, q
