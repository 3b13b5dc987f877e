"""A mixture of experts as one neuron: HD-LIF lets IF, LIF, PLIF and EIF vote."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from neurons.base import Neuron, SpikingNeuron, State, neurons
from neurons.checks import count, positive
from neurons.cost import update_cost
from neurons.errors import ShapeError
from neurons.integrate_and_fire import IF, LIF, PLIF
from neurons.nonlinear import EIF
from neurons.surrogate import Surrogate, as_surrogate


class _Potential(Neuron):
    """The potential of another neuron after its reset, and its threshold in the steps in which it fires."""

    state = {"v": 0.0}
    output = "real"

    def __init__(self, expert: SpikingNeuron) -> None:
        super().__init__()
        self.expert = expert

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        s, v = self.expert.step(x, v)
        fired = s.detach()
        return v * (1 - fired) + self.expert.threshold * fired, v


@neurons.register("hd-lif")
class HDLIF(Neuron):
    """HD-LIF: s = H(sum_e g_e m_e - level), m_e the potentials of IF, LIF, PLIF and EIF, gated by g = softmax(W x + b).

    m_e is the potential of expert e after its reset, and its threshold in the steps in which it fires. The gate g, one
    for each expert and token, sees the ``features`` channels of the token in all T steps; in eval mode the two largest
    are kept and scaled to the sum 1. Source: Wu et al., "Spiking Point Transformer for point cloud classification",
    AAAI 2025, in the form of STEP, except for two slips there: the gate mixed time with batch, so that samples
    influenced each other, and every potential of exactly 0 counted as fired, so that silence could set the neuron off.

    Every step sees all T steps, later ones too, so that it neither streams nor runs for another T.

    Parameters
    ----------
    features : int
        Channels of a token.
    T : int
        Number of time steps.
    axis : int
        Axis of the channels, counted from the last.
    tau : float
        Membrane time constant of LIF, PLIF (at the start) and EIF in time steps, greater than 1.
    threshold : float
        Threshold of the experts.
    level : float
        What the vote must reach.
    surrogate : str, mapping or Surrogate
        Derivative used in place of that of the thresholds.
    """

    streams = False

    def __init__(
        self,
        features: int = 64,
        T: int = 4,
        *,
        axis: int = -1,
        tau: float = 2.0,
        threshold: float = 0.5,
        level: float = 0.2,
        surrogate: str | dict[str, Any] | Surrogate = "sigmoid",
    ) -> None:
        super().__init__()
        count("hd-lif", features=features, T=T)
        positive("hd-lif", level=level)
        self.features, self.T, self.axis, self.level = features, T, axis, level
        self.surrogate = as_surrogate(surrogate)
        shared: dict[str, Any] = {"threshold": threshold, "surrogate": self.surrogate}
        experts = [IF(**shared), LIF(tau, **shared), PLIF(tau, **shared), EIF(tau=tau, **shared)]
        self.experts = nn.ModuleList([_Potential(expert) for expert in experts])
        bound = 1 / math.sqrt(T * features)
        self.weight = nn.Parameter(torch.empty(len(experts), T * features).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(len(experts)).uniform_(-bound, bound))

    def step(self, x: Tensor) -> Tensor:  # type: ignore[override]
        raise ShapeError(f"hd-lif gates by all its {self.T} time steps and has no single one; call it on [T, B, ...]")

    def gates(self, x: Tensor) -> Tensor:
        """Return the weights of the experts, [experts, B, ...] with the axis of the channels kept at length 1."""
        tokens = x.movedim(self.axis, -1).movedim(0, -2).flatten(-2)  # [B, ..., T * features]
        g = functional.linear(tokens, self.weight, self.bias).softmax(-1)
        if not self.training:
            second = g.topk(2, dim=-1).values[..., 1:]
            g = torch.where(g >= second, g, 0.0)
            g = g / g.sum(-1, keepdim=True)
        return g.movedim(-1, 0).unsqueeze(self.axis)

    def run(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Run over exactly T time steps, from rest; a state to go on from is refused."""
        self._check_input(x)
        if state is not None:
            raise ShapeError("hd-lif gates by all its time steps and cannot go on from a state; run all at once")
        if x.shape[0] != self.T:
            raise ShapeError(f"hd-lif was made for T = {self.T} time steps, not {x.shape[0]}; set its option T")
        if x.dim() < 2 - self.axis or x.shape[self.axis] != self.features:
            raise ShapeError(
                f"hd-lif was made for {self.features} channels on axis {self.axis}, not for {list(x.shape)}; "
                "set its options features and axis"
            )
        vote = torch.zeros((), dtype=x.dtype, device=x.device)
        for gate, expert in zip(self.gates(x), self.experts, strict=True):
            vote = vote + gate * expert(x)
        return self.surrogate(vote - self.level), {}

    @property
    def state_words(self) -> int:
        """One potential for each expert."""
        return len(self.experts)

    def cost(self) -> dict[str, float]:
        """Return the operations of one update: the experts, their vote, and the share of the gate."""
        total: Counter[str] = Counter()
        for expert in self.experts:
            total.update(update_cost(expert))  # type: ignore[arg-type]
        number = len(self.experts)
        total.update({"mul": 2 * number, "add": 2 * number, "cmp": 1})
        return {**total, "exp": total["exp"] + number / (self.T * self.features)}

    def extra_repr(self) -> str:
        return f"features={self.features}, T={self.T}, axis={self.axis}, level={self.level}"
