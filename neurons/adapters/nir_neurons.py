"""The neurons of NIR in full: a value for each neuron, any resistance, leak and reset potential.

What NIR can say and ``neurons.IF``, ``LIF``, ``CUBA`` and ``LeakyIntegrator`` cannot. Source: Pedersen et al.,
"Neuromorphic intermediate representation", Nat. Commun. 15:8122, 2024; by Euler's method, times in time steps.
They are made by reading NIR files, so they have no names of their own in suites.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from neurons.base import Neuron, SpikingNeuron, State
from neurons.cost import traced_cost

Values = float | Tensor
"""One number for all neurons, or a tensor that broadcasts to one sample of the layer."""


class _Held(Neuron):
    """A neuron whose numbers may be tensors: those become buffers, which move and are saved with the network."""

    def hold(self, **values: Values | None) -> None:
        """Keep numbers as attributes and tensors as buffers; None stands for a term that the step leaves out."""
        for name, value in values.items():
            vars(self).pop(name, None)
            if isinstance(value, Tensor):
                self.register_buffer(name, value.clone())  # one number may come under two names
            else:
                setattr(self, name, value)

    def rest(self) -> Values | None:
        """Return the potential at rest; None for 0."""
        return None

    def resting_state(self, x: Tensor) -> State:
        state = super().resting_state(x)
        rest = self.rest()
        return state if rest is None else state | {"v": torch.zeros_like(x[0]) + rest}

    def cost(self) -> dict[str, float]:
        """Return the operations of one update, read off the step with one number in place of each tensor."""
        alike: Any = copy.copy(self)
        alike._buffers = {}
        vars(alike).update({name: float(value.flatten()[0]) for name, value in self.named_buffers()})
        return dict(traced_cost(alike))

    def extra_repr(self) -> str:
        numbers = [f"{name}={value:g}" for name, value in vars(self).items() if type(value) is float]
        return ", ".join(numbers + [f"{name}: {list(value.shape)}" for name, value in self.named_buffers()])


class _Spiking(_Held, SpikingNeuron):
    """A neuron of NIR that fires: threshold and reset potential may be tensors."""

    v_reset: Values | None

    def __init__(self, *, threshold: Values = 1.0, v_reset: Values = 0.0, **options: Any) -> None:
        super().__init__(**options)
        self.hold(threshold=threshold, v_reset=_unless(0.0, v_reset))

    def reset(self, v: Tensor, s: Tensor) -> Tensor:
        if self.reset_mode != "hard" or self.v_reset is None:
            return super().reset(v, s)
        s = s.detach() if self.detach_reset else s
        return v * (1 - s) + s * self.v_reset


class GeneralIF(_Spiking):
    """IF of NIR: h = v + r x; s = H(h - threshold); v_reset where s, else h. Rests at v_reset.

    Parameters
    ----------
    r : float or Tensor
        Potential that a unit of input adds in one time step.
    threshold, v_reset : float or Tensor
    **options
        See :class:`neurons.SpikingNeuron`.
    """

    state = {"v": 0.0}
    r: Values | None

    def __init__(self, r: Values = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.hold(r=_unless(1.0, r))

    def rest(self) -> Values | None:
        return self.v_reset

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        h = v + (x if self.r is None else self.r * x)
        s = self.spike(h - self.threshold)
        return s, self.reset(h, s)


class _Leaky(_Held):
    """The membrane of NIR's LI and LIF: tau dv/dt = v_leak - v + r x. Rests at v_leak."""

    tau: Values
    r: Values | None
    gain: Values | None
    v_leak: Values | None

    def membrane(self, tau: Values, r: Values, v_leak: Values) -> None:
        """Keep the numbers of the membrane."""
        gain = r / tau
        self.hold(tau=tau, r=_unless(1.0, r), gain=_unless(1.0, gain), v_leak=_unless(0.0, v_leak))

    def rest(self) -> Values | None:
        return self.v_leak

    def charge(self, x: Tensor, v: Tensor) -> Tensor:
        """Return the potential after one time step, before any reset."""
        # Two ways to write one sum, so that the usual r = 1 and r = tau round as in the libraries that write them.
        if self.r is None:
            pull = x - v
            return v + (pull if self.v_leak is None else pull + self.v_leak) / self.tau
        pull = -v if self.v_leak is None else self.v_leak - v
        return v + pull / self.tau + (x if self.gain is None else self.gain * x)


class GeneralLIF(_Leaky, _Spiking):
    """LIF of NIR: h = v + (v_leak - v + r x) / tau; s = H(h - threshold); v_reset where s, else h.

    Parameters
    ----------
    tau : float or Tensor
        Membrane time constant in time steps, at least 1.
    r, v_leak, threshold, v_reset : float or Tensor
    **options
        See :class:`neurons.SpikingNeuron`.
    """

    state = {"v": 0.0}

    def __init__(self, tau: Values = 2.0, r: Values = 1.0, v_leak: Values = 0.0, **options: Any) -> None:
        super().__init__(**options)
        self.membrane(tau, r, v_leak)

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        h = self.charge(x, v)
        s = self.spike(h - self.threshold)
        return s, self.reset(h, s)


class GeneralLI(_Leaky):
    """LI of NIR, without spikes: v = v + (v_leak - v + r x) / tau, and v is the output.

    Parameters
    ----------
    tau : float or Tensor
        Time constant in time steps, at least 1.
    r, v_leak : float or Tensor
    """

    state = {"v": 0.0}
    output = "real"

    def __init__(self, tau: Values = 2.0, r: Values = 1.0, v_leak: Values = 0.0) -> None:
        super().__init__()
        self.membrane(tau, r, v_leak)

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        v = self.charge(x, v)
        return v, v


class GeneralCubaLIF(_Spiking):
    """CubaLIF of NIR: i = i + (w_in x - i) / tau_syn; h = v + (v_leak - v + r i) / tau_mem; s = H(h - threshold).

    v_reset where s, else h. Rests at v_leak.

    Parameters
    ----------
    tau_syn, tau_mem : float or Tensor
        Time constants of synapse and membrane in time steps, at least 1.
    w_in, r, v_leak, threshold, v_reset : float or Tensor
    **options
        See :class:`neurons.SpikingNeuron`.
    """

    state = {"i": 0.0, "v": 0.0}
    tau_syn: Values
    tau_mem: Values
    w_in: Values
    r: Values
    w: Values | None
    gain: Values | None
    v_leak: Values | None

    def __init__(
        self,
        tau_syn: Values = 2.0,
        tau_mem: Values = 4.0,
        w_in: Values = 2.0,
        r: Values = 4.0,
        v_leak: Values = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.hold(tau_syn=tau_syn, tau_mem=tau_mem, w_in=w_in, r=r, v_leak=_unless(0.0, v_leak))
        self.hold(w=_unless(1.0, w_in / tau_syn), gain=_unless(1.0, r / tau_mem))

    def rest(self) -> Values | None:
        return self.v_leak

    def step(self, x: Tensor, i: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        i = (1 - 1 / self.tau_syn) * i + (x if self.w is None else self.w * x)
        h = (1 - 1 / self.tau_mem) * v + (i if self.gain is None else self.gain * i)
        if self.v_leak is not None:
            h = h + self.v_leak / self.tau_mem
        s = self.spike(h - self.threshold)
        return s, i, self.reset(h, s)


def _unless(usual: float, value: Values) -> Values | None:
    """Return the value, or None where it is the usual one for all neurons and its term can be left out."""
    alike = bool((value == usual).all()) if isinstance(value, Tensor) else value == usual
    return None if alike else value
