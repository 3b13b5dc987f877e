"""Dual spike self-attention (DSSA) of SpikingResformer (Shi et al., CVPR 2024, arXiv:2403.14302)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neurons import NeuronFactory
from neurons.errors import OptionError
from step.models.layers import ConvNorm, LinearNorm, Spiking
from step.models.transformer.attention.base import Attention, Grid, attentions
from step.models.transformer.embedding import to_maps, to_tokens
from step.models.transformer.residual import Residual


@attentions.register("dssa")
class DualSpikeSelfAttention(Attention):
    """Dual spike self-attention: patches attend to spikes, and both products have spikes as one factor.

    S = spikes of the input, d channels x N tokens for each head; y1, y2 = halves of norm(conv_pxp(S)), d channels x P
    patches for each head; A = neuron(y1^T S / sqrt(f_S d)), P x N spikes; o = neuron(y2 A / sqrt(f_A P));
    out = norm(W_o o).

    f_S and f_A are the firing rates of S and A in each head: moving averages (``momentum``) over training batches,
    which start as the rate of the first batch in which the head spikes and are kept for eval mode. Until then they
    are 0 and count as 1, as if every neuron fired. The rate of an activation that is no spike is its mean magnitude.

    Parameters
    ----------
    patch : int
        Side p of a patch; rows and columns left over by the last whole patch are in none.
    residual : {"spike", "membrane"}
        With a membrane residual a neuron makes the spikes S and none stands after the last layer.
    """

    momentum = 0.999
    input_rate: Tensor
    attention_rate: Tensor

    def __init__(
        self, dim: int, heads: int, neuron: NeuronFactory, *, grid: Grid, residual: Residual = "spike", patch: int = 1
    ) -> None:
        super().__init__(dim, heads, grid)
        if not 1 <= patch <= min(grid):
            raise OptionError(
                f"patch of the attention 'dssa' must be 1 to {min(grid)}, the side of its map, not {patch}"
            )
        self.before = neuron(features=dim) if residual == "membrane" else nn.Identity()
        self.dual = ConvNorm(dim, 2 * dim, patch, patch, padding=0)
        self.attend = neuron(features=grid[0] * grid[1])
        self.neuron = neuron(features=dim)
        last = LinearNorm(dim, dim, bias=False)
        self.project = Spiking(last, neuron(features=dim)) if residual == "spike" else last
        self.register_buffer("input_rate", torch.zeros(heads))
        self.register_buffer("attention_rate", torch.zeros(heads))

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        y1, y2 = self.patches(x)
        spikes = self.split(x)
        self._follow(self.input_rate, spikes)
        attention = self.scores(y1, spikes)
        self._follow(self.attention_rate, attention)
        o = attention.transpose(-2, -1) @ (y2 * self._scale(self.attention_rate, y2.shape[-2]))
        return self.project(self.neuron(self.merge(o)))

    def patches(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return y1 and y2 of the spikes ``x`` [T, B, N, C], each [T, B, heads, P, d]."""
        y = to_tokens(self.dual(to_maps(x, self.grid))).unflatten(-1, (self.heads, 2, -1))
        return y.select(-2, 0).transpose(2, 3), y.select(-2, 1).transpose(2, 3)

    def scores(self, y1: Tensor, spikes: Tensor) -> Tensor:
        """Return A, [T, B, heads, P, N], of y1 and the spikes [T, B, heads, N, d]."""
        # The scale is on the smaller factor, not on the product: the same number, and fewer multiplications.
        return self.attend((y1 * self._scale(self.input_rate, y1.shape[-1])) @ spikes.transpose(-2, -1))

    def _scale(self, rate: Tensor, terms: int) -> Tensor:
        """Return 1 / sqrt(rate * terms) for each head, to be multiplied with [T, B, heads, ., .]."""
        return ((rate + (rate == 0)) * terms).rsqrt().view(-1, 1, 1)

    def _follow(self, rate: Tensor, spikes: Tensor) -> None:
        """Move the average firing rates towards those of the spikes [T, B, heads, ., .] of a training batch."""
        if not self.training:
            return
        with torch.no_grad():
            now = spikes.abs().mean((0, 1, 3, 4)).to(rate.dtype)
            rate.copy_(torch.where(rate > 0, self.momentum * rate + (1 - self.momentum) * now, now))

    def attention_map(self, x: Tensor) -> Tensor:
        """Return A, [T, B, heads, P, N]: one row for each patch, fewer than there are tokens where ``patch`` > 1."""
        x = self.before(x)
        return self.scores(self.patches(x)[0], self.split(x))
