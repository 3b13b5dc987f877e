"""Spiking self-attention (SSA) of Spikformer (Zhou et al., ICLR 2023, arXiv:2209.15425)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from neurons import NeuronFactory
from step.models.layers import LinearNorm, Spiking
from step.models.transformer.attention.base import Attention, Grid, attentions
from step.models.transformer.attention.frozen import Random, freeze
from step.models.transformer.residual import Residual

Order = Literal["auto", "scores", "context"]


def attention_product(q: Tensor, k: Tensor, v: Tensor, order: Order = "auto") -> Tensor:
    """Return Q K^T V, multiplied in the cheaper order.

    There is no softmax between the factors, so the product is associative: (Q K^T) V ("scores") takes
    2 N^2 d multiply-accumulates for each head, Q (K^T V) ("context") takes 2 N d^2.

    Parameters
    ----------
    q, k, v : Tensor, shapes [..., M, d], [..., N, d], [..., N, e]
        In most attentions M = N and e = d.
    order : {"auto", "scores", "context"}
    """
    if order == "auto":
        asked, heard, width, values = q.shape[-2], k.shape[-2], q.shape[-1], v.shape[-1]
        cheaper = asked * heard * (width + values) <= (asked + heard) * width * values
        order = "scores" if cheaper else "context"
    if order == "scores":
        return (q @ k.transpose(-2, -1)) @ v
    return q @ (k.transpose(-2, -1) @ v)


@attentions.register("ssa")
class SpikingSelfAttention(Attention):
    """Spiking self-attention of Spikformer, on tokens [T, B, N, C].

    Q, K, V = neuron(norm(W x)); o = neuron_half(scale Q K^T V), heads merged before the neuron;
    out = neuron(norm(W_o o)). ``neuron_half`` fires at half the threshold of the others.

    Parameters
    ----------
    scale : float
        Factor on the product, in place of a softmax.
    order : {"auto", "scores", "context"}
        Order of the product, see :func:`attention_product`.
    residual : {"spike", "membrane"}
        With a membrane residual a neuron stands before the projections and none after the last.
    bias : bool
        Whether queries, keys and values have a bias, as in Spikformer. The norm behind makes it idle, and later models
        leave it out.
    random : bool or "norms"
        Whether queries and keys keep their initial weights, see :data:`~.frozen.Random`.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        neuron: NeuronFactory,
        *,
        grid: Grid,
        residual: Residual = "spike",
        scale: float = 0.125,
        order: Order = "auto",
        bias: bool = True,
        random: Random = False,
    ) -> None:
        super().__init__(dim, heads, grid)
        self.scale, self.order = scale, order
        self.before = neuron(features=dim) if residual == "membrane" else nn.Identity()
        self.query = Spiking(LinearNorm(dim, dim, bias=bias), neuron(features=dim))
        self.key = Spiking(LinearNorm(dim, dim, bias=bias), neuron(features=dim))
        self.value = Spiking(LinearNorm(dim, dim, bias=bias), neuron(features=dim))
        self.neuron = neuron(features=dim, threshold_scale=0.5)
        last = LinearNorm(dim, dim)
        self.project = Spiking(last, neuron(features=dim)) if residual == "spike" else last
        freeze(random, self.query.layer, self.key.layer)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.operands(self.before(x))
        product = attention_product(q, k, v, self.order) * self.scale
        return self.project(self.neuron(self.merge(product)))

    def operands(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return Q, K, V of the spikes ``x``, each [T, B, heads, N, d]."""
        return self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))

    def attention_map(self, x: Tensor) -> Tensor:
        q, k, _ = self.operands(self.before(x))
        return q @ k.transpose(-2, -1) * self.scale
