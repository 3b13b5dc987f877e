"""Long short-term memory, plain or with the initialisation that covers a given span of time."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from neurons import NeuronFactory, State
from step.models.base import models
from step.models.paper import Paper
from step.models.sequence.budget import BudgetConfig
from step.models.sequence.stacked import AtOnce, Stacked


class GatedConfig(BudgetConfig):
    """Sizes of a recurrent network with gates."""

    hidden: int | None = Field(None, ge=1)
    """Units of every layer; 128 when neither it nor ``parameters`` is given."""
    layers: int = Field(1, ge=1)


class GatedCell(AtOnce):
    """Base of recurrent layers with gates: two linear layers, weights and initial values as in torch.

    All weights and biases start uniform in +-1 / sqrt(hidden).

    Parameters
    ----------
    inputs, hidden : int
    gates : int
        Linear maps of the input, and of the outputs of the step before.
    states : tuple of str
    """

    def __init__(self, inputs: int, hidden: int, gates: int, states: tuple[str, ...]) -> None:
        super().__init__(inputs, dict.fromkeys(states, hidden))
        self.hidden = hidden
        self.input = nn.Linear(inputs, gates * hidden)
        self.recurrent = nn.Linear(hidden, gates * hidden)
        bound = 1 / math.sqrt(hidden)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    @property
    def weights(self) -> list[Tensor]:
        """The parameters in the order of torch."""
        return [self.input.weight, self.recurrent.weight, self.input.bias, self.recurrent.bias]


class LSTMCell(GatedCell):
    """Long short-term memory (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000).

    i, f, g, o = W x_t + b + V h_{t-1} + b';  c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g);
    h_t = sigmoid(o) tanh(c_t).

    Parameters
    ----------
    inputs, hidden : int
    chrono : float, optional
        Longest span of time in the data, T_max, in time steps. The biases of the forget gate then start as
        log(u) with u uniform in [1, T_max - 1], those of the input gate as their negatives (Tallec and Ollivier, "Can
        recurrent neural networks warp time?", ICLR 2018): time constants spread from 1 to T_max.
    """

    def __init__(self, inputs: int, hidden: int, chrono: float | None = None) -> None:
        super().__init__(inputs, hidden, 4, ("h", "c"))
        if chrono is not None:
            with torch.no_grad():
                forget = torch.empty(hidden).uniform_(1, chrono - 1).log()
                self.input.bias[: 2 * hidden] = torch.cat((-forget, forget))
                self.recurrent.bias[: 2 * hidden] = 0

    def step(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        i, f, g, o = (self.input(x) + self.recurrent(h)).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        return h, h, c

    def at_once(self, x: Tensor, state: State | None, *, keep: bool) -> tuple[Tensor, State]:
        start = self.resting_state(x) if state is None else state
        before = (start["h"].unsqueeze(0), start["c"].unsqueeze(0))
        y, h, c = torch.lstm(x, before, self.weights, True, 1, 0.0, self.training, False, False)
        return y, {"h": h[0], "c": c[0]}


class LSTMConfig(GatedConfig):
    """Sizes of an LSTM."""

    chrono: float | None = Field(None, gt=2)
    """Longest span of time in the data, in time steps, for the chrono initialisation; that of torch when left out."""


@models.register("lstm")
class LSTM(Stacked):
    """Long short-term memory: layers of gated cells, then a linear read-out; ``chrono`` prepares it for long spans."""

    Config = LSTMConfig
    config: LSTMConfig
    paper: ClassVar[Paper | None] = Paper(
        "Long short-term memory",
        "Neural Computation",
        1997,
        "10.1162/neco.1997.9.8.1735",
        note="Forget gates as in Gers et al. 2000; two biases for each gate, as in torch. With chrono the initial "
        "biases of Tallec and Ollivier, ICLR 2018, arXiv:1804.11188.",
    )

    def __init__(self, config: LSTMConfig, neuron: NeuronFactory) -> None:
        super().__init__(config, neuron)
        c = self.config
        sizes = (c.features, *[c.width] * c.layers)
        self.layers = nn.Sequential(*(LSTMCell(n, m, c.chrono) for n, m in pairwise(sizes)))
        self.readout = nn.Linear(c.width, c.classes)
