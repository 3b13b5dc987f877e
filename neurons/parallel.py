"""Parallel spiking neurons: no reset, so the potentials of all time steps are one matrix product (PSN family)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from neurons.base import Neuron, State, neurons
from neurons.checks import count, positive
from neurons.errors import OptionError, ShapeError
from neurons.surrogate import Surrogate, as_surrogate


@neurons.register("psn")
class PSN(Neuron):
    """Parallel spiking neuron: h = W x + b over the time axis, W [T, T] and b [T] learned; s = H(h).

    Every step sees all T steps, later ones too, so a PSN neither streams nor runs for another T. W starts as the
    weight of ``nn.Linear`` does, uniform in +-1 / sqrt(T); b starts at minus the threshold.
    Source: Fang et al., NeurIPS 2023.

    Parameters
    ----------
    T : int
        Number of time steps.
    threshold : float
        First threshold of every step.
    surrogate : str, mapping or Surrogate
        Derivative used in place of that of the threshold.
    """

    streams = False

    def __init__(
        self, T: int = 4, *, threshold: float = 1.0, surrogate: str | dict[str, Any] | Surrogate = "arctan"
    ) -> None:
        super().__init__()
        count(self._name(), T=T)
        positive(self._name(), threshold=threshold)
        self.T = T
        self.weight = nn.Parameter(torch.empty(T, T).uniform_(-1 / math.sqrt(T), 1 / math.sqrt(T)))
        self.bias = nn.Parameter(torch.full((T, 1), -float(threshold)))
        self.surrogate = as_surrogate(surrogate)

    def mixing(self) -> Tensor:
        """Return the matrix [T, T] by which the time steps are mixed."""
        return self.weight

    def step(self, x: Tensor) -> Tensor:  # type: ignore[override]
        raise ShapeError(f"{self._name()} mixes its {self.T} time steps and has no single one; call it on [T, B, ...]")

    def run(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Run over exactly T time steps, from rest; a state to go on from is refused."""
        self._check_input(x)
        if state is not None:
            raise ShapeError(f"{self._name()} mixes all its time steps and cannot go on from a state; run all at once")
        if x.shape[0] != self.T:
            raise ShapeError(f"{self._name()} was made for T = {self.T} time steps, not {x.shape[0]}; set its option T")
        return self.surrogate(torch.addmm(self.bias, self.mixing(), x.flatten(1))).view_as(x), {}

    def cost(self) -> dict[str, float]:
        """Return the operations of one update: a product and a sum for each step it sees, then the comparison."""
        return {"mul": self.T, "add": self.T, "cmp": 1}

    def _name(self) -> str:
        return str(getattr(self, "registered_name", type(self).__name__))

    def extra_repr(self) -> str:
        return f"T={self.T}, surrogate={self.surrogate}"


@neurons.register("masked-psn")
class MaskedPSN(PSN):
    """Masked PSN: as PSN, but step t sees the steps t - k + 1 to t only; the others fade out as the mask closes.

        W' = (masking M + 1 - masking) W,  M[t, j] = 1 where t - k < j <= t, else 0

    Source: Fang et al., NeurIPS 2023, who raise ``masking`` from 0 to 1 during training: set the attribute for that.

    Parameters
    ----------
    T : int
        Number of time steps.
    k : int
        How many steps, the present one included, a step sees.
    masking : float in [0, 1]
        How far the mask is closed; 1, fully closed, when left out.
    **options
        See :class:`PSN`.
    """

    def __init__(self, T: int = 4, k: int = 2, *, masking: float = 1.0, **options: Any) -> None:
        super().__init__(T, **options)
        count("masked-psn", k=k)
        if not 0 <= masking <= 1:
            raise OptionError(f"masking of masked-psn must be from 0 to 1, not {masking}")
        self.k = k
        self.masking = masking
        self.mask: Tensor
        self.register_buffer("mask", torch.ones(T, T).tril().triu(1 - k), persistent=False)

    def mixing(self) -> Tensor:
        """Return the matrix [T, T] by which the time steps are mixed, masked as far as ``masking`` says."""
        return (self.masking * self.mask + (1 - self.masking)) * self.weight

    def cost(self) -> dict[str, float]:
        """Return the operations of one update, averaged over the steps: the first k - 1 see fewer than k."""
        terms = float(self.mask.sum()) / self.T if self.masking == 1 else self.T
        return {"mul": terms, "add": terms, "cmp": 1}

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, k={self.k}, masking={self.masking}"


@neurons.register("sliding-psn")
class SlidingPSN(Neuron):
    """Sliding PSN: h = sum_i w[i] x[t - k + 1 + i] + b, the k weights w and b learned, shared by all steps; s = H(h).

    The last weight belongs to the present step. It starts at 1, each older one at half of the next; b starts at minus
    the threshold. Steps before the first count as 0. The state holds the last k - 1 inputs, ``x1`` the latest.
    Source: Fang et al., NeurIPS 2023.

    Parameters
    ----------
    k : int
        How many steps, the present one included, a step sees.
    threshold : float
        First threshold.
    surrogate : str, mapping or Surrogate
        Derivative used in place of that of the threshold.
    """

    def __init__(
        self, k: int = 2, *, threshold: float = 1.0, surrogate: str | dict[str, Any] | Surrogate = "arctan"
    ) -> None:
        super().__init__()
        count("sliding-psn", k=k)
        positive("sliding-psn", threshold=threshold)
        self.k = k
        self.state = {f"x{age}": 0.0 for age in range(1, k)}  # type: ignore[misc]
        # k scalars, not one tensor [k]: a step with scalars alone compiles to a fused loop
        self.weights = nn.ParameterList([nn.Parameter(torch.tensor(2.0 ** (i + 1 - k))) for i in range(k)])
        self.bias = nn.Parameter(torch.tensor(-float(threshold)))
        self.surrogate = as_surrogate(surrogate)

    def step(self, x: Tensor, *past: Tensor) -> Tensor | tuple[Tensor, ...]:
        seen = (x, *past)
        h = x * self.weights[self.k - 1]
        for age in range(1, self.k):
            h = h + seen[age] * self.weights[self.k - 1 - age]
        return (self.surrogate(h + self.bias), *seen[: self.k - 1])

    def extra_repr(self) -> str:
        return f"k={self.k}, surrogate={self.surrogate}"
