"""Attention for spiking transformers."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from neurons import NeuronFactory
from neurons.errors import OptionError
from step.models.layers import LinearNorm
from step.models.transformer.residual import Residual

Order = Literal["auto", "scores", "context"]


def attention_product(q: Tensor, k: Tensor, v: Tensor, order: Order = "auto") -> Tensor:
    """Return Q K^T V, multiplied in the cheaper order.

    There is no softmax between the factors, so the product is associative: (Q K^T) V ("scores") takes
    2 N^2 d multiply-accumulates for each head, Q (K^T V) ("context") takes 2 N d^2.

    Parameters
    ----------
    q, k, v : Tensor, shape [..., N, d]
    order : {"auto", "scores", "context"}
    """
    if order == "auto":
        order = "scores" if q.shape[-2] <= q.shape[-1] else "context"
    if order == "scores":
        return (q @ k.transpose(-2, -1)) @ v
    return q @ (k.transpose(-2, -1) @ v)


class SpikingSelfAttention(nn.Module):
    """Spiking self-attention of Spikformer (Zhou et al., ICLR 2023), on tokens [T, B, N, C].

    Q, K, V = neuron(norm(W x)); o = neuron_half(scale Q K^T V), heads merged before the neuron;
    out = neuron(norm(W_o o)). ``neuron_half`` fires at half the threshold of the others.

    Parameters
    ----------
    dim : int
        Channels, a multiple of ``heads``.
    heads : int
    scale : float
        Factor on the product, in place of a softmax.
    residual : {"spike", "membrane"}
        With a membrane residual a neuron stands before the projections and none after the last.
    order : {"auto", "scores", "context"}
        Order of the product, see :func:`attention_product`.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        neuron: NeuronFactory,
        *,
        scale: float = 0.125,
        residual: Residual = "spike",
        order: Order = "auto",
    ) -> None:
        super().__init__()
        if dim % heads:
            raise OptionError(f"dim must be a multiple of heads, and {dim} is not one of {heads}")
        self.heads, self.scale, self.order = heads, scale, order
        self.before = neuron(features=dim) if residual == "membrane" else nn.Identity()
        self.query = nn.Sequential(LinearNorm(dim, dim), neuron(features=dim))
        self.key = nn.Sequential(LinearNorm(dim, dim), neuron(features=dim))
        self.value = nn.Sequential(LinearNorm(dim, dim), neuron(features=dim))
        self.neuron = neuron(features=dim, threshold_scale=0.5)
        after = [neuron(features=dim)] if residual == "spike" else []
        self.project = nn.Sequential(LinearNorm(dim, dim), *after)

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        q, k, v = (self._split(part(x)) for part in (self.query, self.key, self.value))
        product = attention_product(q, k, v, self.order) * self.scale
        return self.project(self.neuron(product.transpose(2, 3).flatten(3)))

    def _split(self, x: Tensor) -> Tensor:
        """[T, B, N, C] to [T, B, heads, N, C / heads]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(2, 3)
