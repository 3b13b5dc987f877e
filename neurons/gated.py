"""LIF neurons with gates: GLIF mixes ways to leak, to gather and to reset; CLIF remembers its own firing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from neurons.base import Neuron, SpikingNeuron, neurons
from neurons.checks import fraction, time_constant
from neurons.errors import OptionError
from neurons.surrogate import Surrogate, as_surrogate


def _logit(name: str, value: float) -> nn.Parameter:
    """Return the parameter whose sigmoid is ``value``."""
    fraction("glif", **{name: value})
    return nn.Parameter(torch.tensor(math.log(value / (1 - value))))


@neurons.register("glif")
class GLIF(Neuron):
    """Gated LIF: learned gates mix exponential with linear leak, weighted with plain input, hard with soft reset.

    With the gates a (leak), b (input) and g (reset), the decay factor d, the linear leak l, the conductance c, the
    step down r and the threshold, all of them learned, one for each layer, and kept in (0, 1) by a sigmoid:

        h = (1 - a (1 - d)) v (1 - g s) - (1 - a) l + x (1 - b (1 - c)) - (1 - g) r s
        s' = H(h - threshold);  v' = h

    where s is the spike of the step before. A gate of 1 means exponential leak, weighted input, hard reset; a gate of
    0 linear leak, plain input, soft reset. Source: Yao et al., NeurIPS 2022. The gates get a gradient (in STEP's
    first version they were made binary and detached, so they stayed as they began). The paper has one conductance for
    each time step; here one serves all steps, so that sequences of any length can be run and streamed.

    Parameters
    ----------
    gates : three floats in (0, 1)
        First values of a, b and g; those of STEP.
    decay : float in (0, 1)
        Factor by which exponential leak shrinks the potential in one time step (tau in the paper).
    threshold : float in (0, 1)
        First threshold.
    linear_leak : float in (0, 1)
        Potential lost in one time step by linear leak; the default is threshold / (2 T) of the paper at T = 4.
    conductance : float in (0, 1)
        Weight of the input.
    step_down : float in (0, 1)
        Potential lost with a spike by soft reset.
    detach_reset : bool
        Whether the reset hides the spike from the gradient.
    surrogate : str, mapping or Surrogate
        Derivative used in place of that of the threshold.
    """

    state = {"v": 0.0, "s": 0.0}

    def __init__(
        self,
        *,
        gates: Sequence[float] = (0.6, 0.8, 0.6),
        decay: float = 0.25,
        threshold: float = 0.5,
        linear_leak: float = 0.0625,
        conductance: float = 0.5,
        step_down: float = 0.5,
        detach_reset: bool = False,
        surrogate: str | dict[str, Any] | Surrogate = "rectangular",
    ) -> None:
        super().__init__()
        if len(gates) != 3:
            raise OptionError(f"gates of glif are three numbers (leak, input, reset), not {len(gates)}")
        self.leak_gate, self.input_gate, self.reset_gate = (_logit("gates", value) for value in gates)
        self.decay = _logit("decay", decay)
        self.threshold = _logit("threshold", threshold)
        self.linear_leak = _logit("linear_leak", linear_leak)
        self.conductance = _logit("conductance", conductance)
        self.step_down = _logit("step_down", step_down)
        self.detach_reset = detach_reset
        self.surrogate = as_surrogate(surrogate)

    def step(self, x: Tensor, v: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        a, b, g = (torch.sigmoid(gate) for gate in (self.leak_gate, self.input_gate, self.reset_gate))
        keep = 1 - a * (1 - torch.sigmoid(self.decay))
        last = s.detach() if self.detach_reset else s
        h = v * keep * (1 - last * g) - (1 - a) * torch.sigmoid(self.linear_leak)
        h = h + x * (1 - b * (1 - torch.sigmoid(self.conductance)))
        h = h - last * ((1 - g) * torch.sigmoid(self.step_down))
        s = self.surrogate(h - torch.sigmoid(self.threshold))
        return s, h, s

    def extra_repr(self) -> str:
        return f"detach_reset={self.detach_reset}, surrogate={self.surrogate}"


@neurons.register("clif")
class CLIF(SpikingNeuron):
    """Complementary LIF: a second potential m counts recent spikes and deepens the soft reset.

        h = v (1 - 1 / tau) + x;  s = H(h - threshold)
        m' = m sigmoid(h / tau) + s;  v' = h - s (threshold + sigmoid(m'))

    The input is not divided by tau. Source: Huang et al., ICML 2024.

    Parameters
    ----------
    tau : float
        Membrane time constant in time steps, greater than 1.
    threshold : float
        Potential at and above which a spike is sent.
    detach_reset : bool
        Whether the reset hides the spike from the gradient; the paper lets the gradient through.
    surrogate : str, mapping or Surrogate
        Derivative used in place of that of the threshold; a rectangle of width 1 in the paper.
    """

    state = {"v": 0.0, "m": 0.0}

    def __init__(
        self,
        tau: float = 2.0,
        *,
        threshold: float = 1.0,
        detach_reset: bool = False,
        surrogate: str | dict[str, Any] | Surrogate = "rectangular",
    ) -> None:
        super().__init__(threshold=threshold, reset="soft", detach_reset=detach_reset, surrogate=surrogate)
        time_constant("clif", tau=tau)
        self.tau = tau

    def step(self, x: Tensor, v: Tensor, m: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        h = v - v / self.tau + x
        s = self.spike(h - self.threshold)
        m = m * torch.sigmoid(h / self.tau) + s
        fired = s.detach() if self.detach_reset else s
        return s, h - fired * (self.threshold + torch.sigmoid(m)), m

    def extra_repr(self) -> str:
        return f"tau={self.tau}, {super().extra_repr()}"
