"""Neurons of differentiation on spike representation (DSR): the gradient is that of firing rates, not of spikes.

Source: Meng et al., "Training High-Performance Low-Latency Spiking Neural Networks by Differentiation on Spike
Representation", CVPR 2022. Over a whole sequence the (weighted) firing rate of a neuron is close to a clamped linear
function of the (weighted) mean of its input current; that function is what is differentiated. So a layer keeps two bits
for each neuron instead of its input at every time step, and the error at its input is the same at all of them.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from neurons.base import Neuron, State, neurons
from neurons.checks import positive
from neurons.loop import run_steps

FLOOR = 0.0005
"""Smallest threshold that learning can reach (Meng et al., CVPR 2022, released code)."""


class RateNeuron(Neuron):
    """Base of the neurons of DSR.

    The reset is soft. A spike carries a value, ``threshold / dt``, so that the weighted mean of the output has the
    scale of a current. The gradient reaches the input of the whole sequence and the threshold; it does not pass through
    a state that the neuron goes on from.

    Parameters
    ----------
    threshold : float
        V: what a spike takes from the potential, and the scale of its value.
    alpha : float
        A spike is sent at and above alpha V.
    learn_threshold : bool
        Whether V is a parameter, one for each layer, kept at 0.0005 or above.

    Attributes
    ----------
    levels : int
        1: a neuron sends 0 or one value.
    """

    state = {"v": 0.0}
    output = "quantised"
    eager_reason = "its gradient is that of a whole sequence"
    levels = 1
    dt: float = 1.0
    rate_tau: float = 1.0
    """What the mean current is divided by to give the rate."""

    def __init__(self, threshold: float, alpha: float, learn_threshold: bool) -> None:
        super().__init__()
        positive(getattr(self, "registered_name", type(self).__name__), threshold=threshold, alpha=alpha)
        self.alpha = alpha
        self.threshold: float | nn.Parameter = threshold
        if learn_threshold:
            self.threshold = nn.Parameter(torch.tensor(float(threshold)))

    @property
    def level(self) -> float | Tensor:
        """V, kept at 0.0005 or above; its gradient stops there."""
        if isinstance(self.threshold, Tensor):
            return (self.threshold - FLOOR).relu() + FLOOR
        return max(self.threshold, FLOOR)

    @property
    def step_size(self) -> float | Tensor:
        """Value of a spike, as a number."""
        level = self.level
        return (level.detach() if isinstance(level, Tensor) else level) / self.dt

    def weights(self, x: Tensor) -> Tensor:
        """Return the share [T] of each time step in the weighted mean over the steps of ``x`` [T, ...]."""
        return torch.full((len(x),), 1 / len(x), dtype=x.dtype, device=x.device)

    def rate(self, x: Tensor) -> Tensor:
        """Return the weighted mean [...] over the time steps of ``x`` [T, ...]."""
        return torch.tensordot(self.weights(x), x, dims=1)

    def charge(self, x: Tensor, v: Tensor) -> Tensor:
        """Return the potential after one time step of the current ``x``."""
        return v + x

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        level = self.level
        m = self.charge(x, v)
        s = (m >= self.alpha * level).to(x.dtype)
        return s * (level / self.dt), m - s * level

    def run(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Run over the time steps of ``x``; the gradient is that of the rates over exactly these."""
        self._check_input(x)
        if state is not None:
            self._checked(state, x)
        start = self.resting_state(x) if state is None else state
        level = self.level
        output, v = _Rates.apply(x, level if isinstance(level, Tensor) else None, start["v"], self)
        return output, {"v": v}

    def saturated(self, a: Tensor, level: Tensor | float) -> Tensor:
        """Return where a mean current ``a`` asks for more spikes than there are time steps."""
        return a > level * self.rate_tau / self.dt

    def moves(self, a: Tensor, level: Tensor | float) -> Tensor:
        """Return where the rate follows a mean current ``a``."""
        return (a > 0) & (a < level * self.rate_tau / self.dt)

    def extra_repr(self) -> str:
        learned = isinstance(self.threshold, nn.Parameter)
        return f"threshold={float(self.step_size) * self.dt:g}, alpha={self.alpha}, learn_threshold={learned}"


class _Rates(torch.autograd.Function):
    """Spikes forward, the slope of the rates backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, level: Tensor | None, v: Tensor, neuron: RateNeuron) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        output, (last,) = run_steps(neuron.step, x, [v])
        a, now = neuron.rate(x), neuron.level if level is None else level
        ctx.save_for_backward(neuron.moves(a, now), neuron.saturated(a, now) if ctx.needs_input_grad[1] else None)
        ctx.neuron = neuron
        ctx.mark_non_differentiable(last)
        return output, last

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, delta: Tensor, _: Tensor) -> tuple[Any, ...]:
        neuron: RateNeuron = ctx.neuron
        moves, saturated = ctx.saved_tensors
        mean = neuron.rate(delta)  # g / T
        for_x = for_level = None
        if ctx.needs_input_grad[0]:
            for_x = (mean * moves / neuron.rate_tau).expand_as(delta)
        if ctx.needs_input_grad[1]:
            for_level = neuron.dt * len(delta) * (mean * saturated).sum()
        return for_x, for_level, None, None


@neurons.register("dsr-lif")
class DSRLIF(RateNeuron):
    """LIF of DSR: m = b v + (1 - b) x, b = exp(-dt / tau); s = H(m - alpha V); v = m - V s; it sends s V / dt.

    The weighted mean of a sequence is sum_t w_t x_t / sum_t w_t with w_t = exp(-(T - t) dt / tau), t = 1 .. T. With a
    that of the input current, and g that of the gradient of the output times T: dx_t = g / (T tau) at every step where
    0 < a < V tau / dt, else 0, and dV = dt g where a > V tau / dt. (The slope of the rate by V would give g / dt; dt g
    is what the authors' code takes, a smaller learning rate of V.)
    Source: Meng et al., CVPR 2022; numbers of Xiao et al., ICLR 2024.

    Parameters
    ----------
    tau : float
        Membrane time constant, in units of time.
    dt : float
        Length of a time step, in units of time.
    threshold, alpha, learn_threshold
        See :class:`RateNeuron`.
    """

    def __init__(
        self,
        tau: float = 1.0,
        dt: float = 0.05,
        *,
        threshold: float = 0.3,
        alpha: float = 0.3,
        learn_threshold: bool = False,
    ) -> None:
        super().__init__(threshold, alpha, learn_threshold)
        positive("dsr-lif", tau=tau, dt=dt)
        self.tau = self.rate_tau = tau
        self.dt = dt
        self.keep = math.exp(-dt / tau)

    def charge(self, x: Tensor, v: Tensor) -> Tensor:
        """Return the potential after one time step of the current ``x``."""
        return self.keep * v + (1 - self.keep) * x

    def weights(self, x: Tensor) -> Tensor:
        """Return the share [T] of each time step in the weighted mean; later steps count more."""
        ago = torch.arange(len(x) - 1, -1, -1, dtype=torch.float64, device=x.device)
        return torch.softmax(-ago * (self.dt / self.tau), 0).to(x.dtype)

    def extra_repr(self) -> str:
        return f"tau={self.tau}, dt={self.dt}, {super().extra_repr()}"


@neurons.register("dsr-if")
class DSRIF(RateNeuron):
    """IF of DSR: m = v + x; s = H(m - alpha V); v = m - V s; it sends s V.

    With a the mean input current and g the sum of the gradient of the output: dx_t = g / T at every step where
    0 <= a <= V, else 0, and dV = g where a > V. Source: Meng et al., CVPR 2022.

    Parameters
    ----------
    threshold, alpha, learn_threshold
        See :class:`RateNeuron`.
    """

    def __init__(self, *, threshold: float = 1.0, alpha: float = 0.5, learn_threshold: bool = False) -> None:
        super().__init__(threshold, alpha, learn_threshold)

    def moves(self, a: Tensor, level: Tensor | float) -> Tensor:
        """Return where the rate follows a mean current ``a``; both ends count."""
        return (a >= 0) & (a <= level)
