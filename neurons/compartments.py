"""Neurons of two compartments."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from neurons.base import ResetMode, SpikingNeuron, neurons
from neurons.checks import fraction
from neurons.errors import OptionError


@neurons.register("tc-lif")
class TCLIF(SpikingNeuron):
    """Two-compartment LIF: d = d - sigmoid(w1) v + x; v = v + sigmoid(w2) d; s = H(v - threshold).

    Then d = d - gamma s and v = v - threshold s. The dendrite d keeps what the soma v forgets; w1 and w2 are
    learned, one each for each layer (Zhang et al., "TC-LIF: a two-compartment spiking neuron model for long-term
    sequential modelling", AAAI 2024, whose beta1 is -sigmoid(w1) and beta2 sigmoid(w2)).

    Parameters
    ----------
    to_dendrite : float
        sigmoid(w1) at the start, how much the soma draws from the dendrite, between 0 and 1.
    to_soma : float
        sigmoid(w2) at the start, how much the dendrite drives the soma, between 0 and 1.
    gamma : float
        How much a spike takes from the dendrite, not negative; 0.5 in the paper's code.
    reset : {"soft", "hard", "none"}
        The paper's soft one; hard puts the soma to 0 and leaves the dendrite alone, as the paper's code does.
    **options
        See :class:`neurons.SpikingNeuron`.
    """

    state = {"d": 0.0, "v": 0.0}

    def __init__(
        self,
        to_dendrite: float = 0.5,
        to_soma: float = 0.5,
        gamma: float = 0.5,
        *,
        reset: ResetMode = "soft",
        **options: Any,
    ) -> None:
        super().__init__(reset=reset, **options)
        fraction("tc-lif", to_dendrite=to_dendrite, to_soma=to_soma)
        if not gamma >= 0:
            raise OptionError(f"gamma of tc-lif must not be negative, not {gamma}")
        self.gamma = gamma
        self.w1 = nn.Parameter(torch.tensor(math.log(to_dendrite / (1 - to_dendrite))))
        self.w2 = nn.Parameter(torch.tensor(math.log(to_soma / (1 - to_soma))))

    def step(self, x: Tensor, d: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        d = d - torch.sigmoid(self.w1) * v + x
        v = v + torch.sigmoid(self.w2) * d
        s = self.spike(v - self.threshold)
        if self.reset_mode == "soft":
            d = d - self.gamma * (s.detach() if self.detach_reset else s)
        return s, d, self.reset(v, s)

    def extra_repr(self) -> str:
        return f"gamma={self.gamma}, {super().extra_repr()}"
