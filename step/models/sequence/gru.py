"""Gated recurrent units."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from neurons import NeuronFactory, State
from step.models.base import models
from step.models.paper import Paper
from step.models.sequence.lstm import GatedCell, GatedConfig
from step.models.sequence.stacked import Stacked


class GRUCell(GatedCell):
    """Gated recurrent units (Cho et al., EMNLP 2014), with the reset behind the recurrent weights as in torch.

    r, z = sigmoid(W x_t + b + V h_{t-1} + b');  n = tanh(W_n x_t + b_n + r (V_n h_{t-1} + b'_n));
    h_t = (1 - z) n + z h_{t-1}.

    Parameters
    ----------
    inputs, hidden : int
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__(inputs, hidden, 3, ("h",))

    def step(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        (xr, xz, xn), (hr, hz, hn) = self.input(x).chunk(3, -1), self.recurrent(h).chunk(3, -1)
        z = (xz + hz).sigmoid()
        n = (xn + (xr + hr).sigmoid() * hn).tanh()
        h = n + z * (h - n)
        return h, h

    def at_once(self, x: Tensor, state: State | None, *, keep: bool) -> tuple[Tensor, State]:
        start = self.resting_state(x) if state is None else state
        y, h = torch.gru(x, start["h"].unsqueeze(0), self.weights, True, 1, 0.0, self.training, False, False)
        return y, {"h": h[0]}


class GRUConfig(GatedConfig):
    """Sizes of a network of gated recurrent units."""


@models.register("gru")
class GRU(Stacked):
    """Gated recurrent units: layers of gated cells, then a linear read-out."""

    Config = GRUConfig
    config: GRUConfig
    paper: ClassVar[Paper | None] = Paper(
        "Learning phrase representations using RNN encoder-decoder for statistical machine translation",
        "EMNLP",
        2014,
        "arXiv:1406.1078",
        note="The reset gate acts behind the recurrent weights, and each gate has two biases, as in torch.",
    )

    def __init__(self, config: GRUConfig, neuron: NeuronFactory) -> None:
        super().__init__(config, neuron)
        c = self.config
        sizes = (c.features, *[c.width] * c.layers)
        self.layers = nn.Sequential(*(GRUCell(n, m) for n, m in pairwise(sizes)))
        self.readout = nn.Linear(c.width, c.classes)
