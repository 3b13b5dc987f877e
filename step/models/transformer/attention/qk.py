"""Q-K attention of QKFormer (Zhou et al., NeurIPS 2024, arXiv:2403.16552)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from neurons import NeuronFactory
from neurons.errors import OptionError
from step.models.layers import LinearNorm, Spiking
from step.models.transformer.attention.base import Attention, Grid, attentions
from step.models.transformer.residual import Residual


@attentions.register("qk")
class QKAttention(Attention):
    """Q-K attention: Q decides which tokens (or channels) of K are heard; linear in tokens and channels.

    Q, K = neuron(norm(W x)). Mask by tokens: a[n] = neuron_half(sum of Q[n] over the channels of a head), one value
    for each token and head; by channels: a[c] = neuron_half(sum of Q[:, c] over all tokens). o = a K;
    out = neuron(norm(W_o o)). ``neuron_half`` fires at half the threshold of the others. No product of matrices.

    Parameters
    ----------
    mask : {"token", "channel"}
        What the mask chooses.
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
        mask: Literal["token", "channel"] = "token",
    ) -> None:
        super().__init__(dim, heads, grid)
        if mask not in ("token", "channel"):
            raise OptionError(f"mask of the attention 'qk' is 'token' or 'channel', not {mask!r}")
        self.by_token = mask == "token"
        self.before = neuron(features=dim) if residual == "membrane" else nn.Identity()
        self.query = Spiking(LinearNorm(dim, dim, bias=False), neuron(features=dim))
        self.key = Spiking(LinearNorm(dim, dim, bias=False), neuron(features=dim))
        self.neuron = neuron(features=heads if self.by_token else dim, threshold_scale=0.5)
        last = LinearNorm(dim, dim)
        self.project = Spiking(last, neuron(features=dim)) if residual == "spike" else last

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        mask, key = self.mask(self.query(x)), self.key(x)
        if self.by_token:
            return self.project((mask.unsqueeze(-1) * key.unflatten(-1, (self.heads, -1))).flatten(-2))
        return self.project(mask * key)

    def mask(self, query: Tensor) -> Tensor:
        """Return the mask of Q [T, B, N, C]: by tokens [T, B, N, heads], by channels [T, B, 1, C]."""
        if self.by_token:
            return self.neuron(query.unflatten(-1, (self.heads, -1)).sum(-1))
        return self.neuron(query.sum(2, keepdim=True))

    def attention_map(self, x: Tensor) -> Tensor | None:
        """Return the mask by tokens, [T, B, heads, 1, N]; None for one by channels."""
        if not self.by_token:
            return None
        return self.mask(self.query(self.before(x))).transpose(2, 3).unsqueeze(-2)
