"""Accurate addition-only spiking self-attention (A2OS2A) (Guo et al., CVPR 2025, arXiv:2503.00226)."""

from __future__ import annotations

from torch import Tensor, nn

from neurons import NeuronFactory
from step.models.layers import LinearNorm, Spiking
from step.models.transformer.attention.base import Attention, Grid, attentions
from step.models.transformer.attention.signed import rectified, signed, then
from step.models.transformer.attention.ssa import Order, attention_product
from step.models.transformer.residual import Residual


@attentions.register("a2os2a")
class AdditionOnlyAttention(Attention):
    """Accurate addition-only spiking self-attention: binary Q, real K, ternary V, on tokens [T, B, N, C].

    Q = neuron(norm(W x)) in {0, 1}; K = relu(norm(W x)); V = ternary(norm(W x)) in {-1, 0, 1};
    o = neuron(Q K^T V), heads merged before the neuron, without softmax and without scale;
    out = neuron(norm(W_o o)). Every product has spikes on one side, so it is a sum of signed real numbers.

    Kinds of Q, K and V, the order and the absence of softmax and scale are the paper's. Not established, and done as
    in Spikformer: the projection W_o behind o. The neuron of o fires at the network's own threshold, since the paper
    scales nothing. Conventional networks: Q is their activation, K is rectified, V signed (see ``signed``).

    Parameters
    ----------
    ternary : str
        Neuron of V; its threshold, time constant, reset and surrogate are those of the network's neuron.
    order : {"auto", "scores", "context"}
        Order of the product, see :func:`attention_product`.
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
        ternary: str = "ternary-lif",
        order: Order = "auto",
    ) -> None:
        super().__init__(dim, heads, grid)
        self.order = order
        self.before = neuron(features=dim) if residual == "membrane" else nn.Identity()
        self.query = Spiking(LinearNorm(dim, dim), neuron(features=dim))
        self.key = Spiking(LinearNorm(dim, dim), rectified(neuron, dim))
        self.value = then(LinearNorm(dim, dim), signed(neuron, dim, ternary=ternary))
        self.neuron = neuron(features=dim)
        last = LinearNorm(dim, dim)
        self.project = Spiking(last, neuron(features=dim)) if residual == "spike" else last

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        q, k, v = self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))
        return self.project(self.neuron(self.merge(attention_product(q, k, v, self.order))))

    def attention_map(self, x: Tensor) -> Tensor:
        x = self.before(x)
        return self.split(self.query(x)) @ self.split(self.key(x)).transpose(-2, -1)
