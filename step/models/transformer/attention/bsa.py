"""Bipolar self-attention (BSA) with Shiftmax (Wang et al., NeurIPS 2025)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neurons import NeuronFactory
from neurons.checks import positive
from step.models.layers import LinearNorm, Spiking
from step.models.transformer.attention.base import Attention, Grid, attentions
from step.models.transformer.attention.signed import signed, then
from step.models.transformer.residual import Residual


def shiftmax(scores: Tensor) -> Tensor:
    """Return 2^s / 2^ceil(log2(sum 2^s)) over the last axis: a softmax of base 2 whose divisor is a power of two.

    With whole scores both powers are shifts. The rows sum to more than a half and at most 1: rounding the divisor up
    keeps them from being exactly stochastic. Backward, rounding passes the gradient straight through, so the gradient
    is that of 2^s / sum 2^s times the row's sum.
    """
    # Less the largest score, rounded up: a shift of both powers by a whole number, which cancels.
    powers = torch.pow(2.0, scores - scores.detach().amax(-1, keepdim=True).ceil())
    total = powers.sum(-1, keepdim=True)
    factor = torch.pow(2.0, -total.detach().log2().ceil())
    if torch.is_grad_enabled():
        factor = factor * (total.detach() / total)  # one, with the gradient of the sum that was rounded
    return powers * factor


@attentions.register("bsa")
class BipolarSelfAttention(Attention):
    """Bipolar self-attention: ternary Q and K, scores normalised by Shiftmax, on tokens [T, B, N, C].

    Q, K = ternary(norm(W x)) in {-1, 0, 1}; V = neuron(norm(W x)) in {0, 1}; A = shiftmax(scale Q K^T);
    o = neuron_low(A V), heads merged before the neuron; out = neuron(norm(W_o o)). ``neuron_low`` fires at a share of
    the threshold of the others.

    A reconstruction. Established: ternary product of Q and K, base-2 powers normalised so that the rows are nearly
    stochastic (Shiftmax), a separate V. From others' accounts of the paper: the divisor is the next power of two. Not
    established: the ternary neuron, the scale, and the threshold behind the product. The scale is 1 here, so that all
    exponents are whole and the powers are shifts, which the paper claims of Shiftmax. The threshold is an eighth of
    the others': A V is an average of bits, so at the half of SSA a neuron would be silent unless most tokens agree.
    Conventional networks: Q and K are signed (see ``signed``).

    Parameters
    ----------
    scale : float
        Factor on the scores; d^-0.5 is that of a conventional attention.
    threshold_scale : float
        Threshold of the neuron behind the product, as a share of the network's.
    ternary : str
        Neuron of Q and K; its threshold, time constant, reset and surrogate are those of the network's neuron.
    residual : {"spike", "membrane"}
        With a membrane residual a neuron stands before the projections and none after the last.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        neuron: NeuronFactory,
        *,
        grid: Grid,
        residual: Residual = "spike",
        scale: float = 1.0,
        threshold_scale: float = 0.125,
        ternary: str = "ternary-lif",
    ) -> None:
        super().__init__(dim, heads, grid)
        positive("the attention bsa", scale=scale, threshold_scale=threshold_scale)
        self.scale = scale
        self.before = neuron(features=dim) if residual == "membrane" else nn.Identity()
        self.query = then(LinearNorm(dim, dim), signed(neuron, dim, ternary=ternary))
        self.key = then(LinearNorm(dim, dim), signed(neuron, dim, ternary=ternary))
        self.value = Spiking(LinearNorm(dim, dim), neuron(features=dim))
        self.neuron = neuron(features=dim, threshold_scale=threshold_scale)
        last = LinearNorm(dim, dim)
        self.project = Spiking(last, neuron(features=dim)) if residual == "spike" else last

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        mixed = self.weights(x) @ self.split(self.value(x))
        return self.project(self.neuron(self.merge(mixed)))

    def weights(self, x: Tensor) -> Tensor:
        """Return A [T, B, heads, N, N] of the spikes ``x``."""
        q, k = self.split(self.query(x)), self.split(self.key(x))
        return shiftmax(q @ k.transpose(-2, -1) * self.scale)

    def attention_map(self, x: Tensor) -> Tensor:
        return self.weights(self.before(x))
