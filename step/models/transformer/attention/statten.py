"""Spatial-temporal attention (STAtten) (Lee et al., CVPR 2025, arXiv:2409.19764)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neurons import NeuronFactory
from neurons.checks import count, positive
from step.models.layers import LinearNorm, Spiking
from step.models.transformer.attention.base import Attention, Grid, attentions
from step.models.transformer.residual import Residual


def block_sums(x: Tensor, block: int) -> Tensor:
    """Return for each step of ``x`` [T, ...] the sum over the steps of its block; the last block may be shorter."""
    steps = x.shape[0]
    whole = steps - steps % block
    sums = []
    if whole:
        sums.append(x[:whole].unflatten(0, (-1, block)).sum(1).repeat_interleave(block, 0))
    if whole < steps:
        sums.append(x[whole:].sum(0, keepdim=True).expand(steps - whole, *x.shape[1:]))
    return sums[0] if len(sums) == 1 else torch.cat(sums)


@attentions.register("statten")
class SpatialTemporalAttention(Attention):
    """Spatial-temporal attention: tokens hear those of all time steps of their block, on tokens [T, B, N, C].

    Q, K, V = neuron(norm(W x)). The steps of a block of L are merged, so that a head has Q, K, V of L N tokens;
    o = neuron_half(scale Q (K^T V)) in that order, d^2 sums for each block; the neuron runs over single steps again;
    out = neuron(norm(W_o o)). Since K^T V is a sum over the merged tokens, it is the sum over the steps of a block of
    the products of single steps, and is computed so.

    T need not be a multiple of the block: the last block is shorter then (the authors' code asks for a multiple).
    A step hears later ones of its block, so a network with this attention does not stream.

    Parameters
    ----------
    block : int
        Time steps that are merged: 2 of the paper's 4 for still images, 4 of 16 for event data.
    scale : float, optional
        Factor on the product; 1 / height of the map when left out, as in the authors' code for still images.
    residual : {"spike", "membrane"}
        With a membrane residual, the paper's, a neuron stands before the projections and none after the last.
    """

    streams = False

    def __init__(
        self,
        dim: int,
        heads: int,
        neuron: NeuronFactory,
        *,
        grid: Grid,
        residual: Residual = "spike",
        block: int = 2,
        scale: float | None = None,
    ) -> None:
        super().__init__(dim, heads, grid)
        count("the attention statten", block=block)
        self.block, self.scale = block, 1 / grid[0] if scale is None else scale
        positive("the attention statten", scale=self.scale)
        self.before = neuron(features=dim) if residual == "membrane" else nn.Identity()
        self.query = Spiking(LinearNorm(dim, dim, bias=False), neuron(features=dim))
        self.key = Spiking(LinearNorm(dim, dim, bias=False), neuron(features=dim))
        self.value = Spiking(LinearNorm(dim, dim, bias=False), neuron(features=dim))
        self.neuron = neuron(features=dim, threshold_scale=0.5)
        last = LinearNorm(dim, dim)
        self.project = Spiking(last, neuron(features=dim)) if residual == "spike" else last

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        q, k, v = self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))
        context = block_sums(k.transpose(-2, -1) @ v, self.block)
        return self.project(self.neuron(self.merge(q @ context * self.scale)))

    def attention_map(self, x: Tensor) -> Tensor:
        """Return how the tokens of ``x`` are mixed; a column sums up what is heard of a token in all steps of a block.

        Returns
        -------
        Tensor, shape [T, B, heads, N, N]
        """
        x = self.before(x)
        q, k = self.split(self.query(x)), self.split(self.key(x))
        return q @ block_sums(k, self.block).transpose(-2, -1) * self.scale
