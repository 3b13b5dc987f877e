"""What is timed beside the ELM neuron: its released loops restated, recurrent layers of torch, and a batched loop.

The loops are those of the neuron's authors (Spieler et al., ICLR 2024, arXiv 2306.16922, code at
github.com/AaronSpieler/elmneuron) written anew from the equations: at every step the synapses, a product of branches
and decayed memory put together, the update of the memory, and the read-out.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neurons.elm import ELM
from neurons.elm.recurrence import MLP

INPUTS, MEMORY, CLASSES = 700, 100, 20
"""Channels and words of the Spiking Heidelberg Digits, and the size of the neuron for them."""


class ReleasedLoop(nn.Module):
    """The released neuron with the weights of ours; its readout is [T, B, classes].

    Version 1 filters each synapse before the branch sums them up, version 2 filters branches.
    """

    def __init__(self, ours: ELM) -> None:
        super().__init__()
        first, second = ours.linears
        self.first, self.second, self.read_out = (copy.deepcopy(layer) for layer in (first, second, ours.w_y))
        self.synapses = nn.Parameter(ours.synapse_weight.detach().clone())
        self.version, self.branches = ours.version, ours.branches
        decay = ours.branch_decay()
        assert decay is not None
        self.branch_decay: Tensor
        self.decay: Tensor
        self.gain: Tensor
        self.register_buffer("branch_decay", decay.detach().expand(self.branches).clone())
        self.register_buffer("decay", ours.memory_decay().detach().clone())
        self.register_buffer("gain", ours.memory_gain().detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        weights = F.relu(self.synapses)
        b = x.new_zeros(x.shape[1], self.branches)
        m = x.new_zeros(x.shape[1], len(self.decay))
        found = []
        for x_t in x:
            if self.version == "v1":
                b = self.branch_decay * b + weights * x_t
                branches = b.view(len(b), self.branches, -1).sum(-1)
            else:
                b = self.branch_decay * b + (weights * x_t).view(len(b), self.branches, -1).sum(-1)
                branches = b
            z = self.second(F.relu(self.first(torch.cat([branches, self.decay * m], -1))))
            m = self.decay * m + self.gain * (1.7159 * torch.tanh(z * 2 / 3))
            found.append(self.read_out(m))
        return torch.stack(found)


class Layer(nn.Module):
    """A recurrent layer of torch and a read-out of its last step."""

    def __init__(self, kind: Callable[[int, int], nn.Module], width: int) -> None:
        super().__init__()
        self.layer, self.read_out = kind(INPUTS, width), nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.read_out(self.layer(x)[0][-1:])
        return out


def parameters(module: nn.Module) -> int:
    """Return how many numbers are trained."""
    return sum(value.numel() for value in module.parameters() if value.requires_grad)


def layer_like(ours: nn.Module, kind: Callable[[int, int], nn.Module]) -> Layer:
    """Return the layer whose number of parameters comes nearest to that of ``ours``."""
    wanted = parameters(ours)
    with torch.device("meta"):
        width = min(range(1, 257), key=lambda width: abs(parameters(Layer(kind, width)) - wanted))
    return Layer(kind, width)


def neuron(version: str) -> ELM:
    """Return the neuron that is timed, read out as real numbers."""
    return ELM(INPUTS, outputs=CLASSES, memory=MEMORY, version="v1" if version == "v1" else "v2", readout="real")


def batched_loop(u: Tensor, m: Tensor, decay: Tensor, gain: Tensor, mlp: MLP) -> Tensor:
    """Return what :func:`neurons.elm.recurrence.memory` returns for one hidden layer, by products of all neurons.

    Neurons come first inside, as the batched product wants them.
    """
    inner, outer, bias = mlp.weights[0].transpose(1, 2), mlp.weights[1].transpose(1, 2), mlp.biases[0].unsqueeze(1)
    m, decay, gain = m.transpose(0, 1), decay.unsqueeze(1), gain.unsqueeze(1)
    found = []
    for u_t in u.transpose(1, 2):
        k = decay * m
        z = torch.baddbmm(bias, F.relu(torch.baddbmm(u_t, k, inner)), outer)
        m = k + gain * (1.7159 * torch.tanh(z * 2 / 3))
        found.append(m)
    return torch.stack(found).transpose(1, 2)
