"""Softmax attention of conventional transformers (Vaswani et al., NeurIPS 2017), float or quantised."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neurons import NeuronFactory, factory
from neurons.conventional import NORMAL
from neurons.errors import OptionError
from step.models.layers import LinearNorm
from step.models.transformer.attention.base import Attention, Grid, attentions
from step.models.transformer.attention.frozen import Random, freeze
from step.models.transformer.attention.signed import is_quantised, signed, then
from step.models.transformer.residual import Residual


@attentions.register("softmax")
class SoftmaxAttention(Attention):
    """Multi-head softmax attention of a conventional network, on tokens [T, B, N, C]: the control of spiking ones.

    Q, K, V = W x + b; A = softmax(Q K^T / sqrt(d)); out = W_o (A V) + b. In a network of ``quantised_relu`` every
    operand of a product is quantised to its bits: x, Q, K, V and the merged heads with a sign, A without.

    Parameters
    ----------
    residual : {"spike", "membrane"}
        ``"membrane"``: x is a normed real stream, which is quantised here where the network is, and nothing follows
        the last layer. ``"spike"``: x comes from a neuron, and a neuron follows the last layer.
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
        residual: Residual = "membrane",
        random: Random = False,
    ) -> None:
        super().__init__(dim, heads, grid)
        if not neuron.conventional:
            raise OptionError(
                f"attention 'softmax' multiplies real numbers, and {neuron.name!r} sends spikes; take 'ssa', or a "
                "conventional neuron (gelu, relu, quantised_relu)"
            )
        tokens = grid[0] * grid[1]
        # Mean magnitude of Q, K, V at the start: linear layers of deviation 0.02 on inputs of unit variance.
        start = NORMAL * 0.02 * math.sqrt(dim)
        self.before = (signed(neuron, dim) if residual == "membrane" else None) or nn.Identity()
        query, key, value, last = (LinearNorm(dim, dim, norm=False) for _ in range(4))
        self.query = then(query, signed(neuron, dim, magnitude=start))
        self.key = then(key, signed(neuron, dim, magnitude=start))
        self.value = then(value, signed(neuron, dim, magnitude=start))
        self.weights: nn.Module = nn.Identity()
        self.merged: nn.Module = nn.Identity()
        if is_quantised(neuron):
            self.weights = factory(neuron.name, **{**neuron.options, "magnitude": 1 / tokens})()
            self.merged = signed(neuron, dim, magnitude=start / math.sqrt(tokens)) or nn.Identity()
        self.project = then(last, neuron(features=dim) if residual == "spike" else None)
        freeze(random, query, key)

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        q, k, v = self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))
        if isinstance(self.weights, nn.Identity):  # torch's own product, which does not store the weights
            folded = F.scaled_dot_product_attention(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1))
            mixed = folded.unflatten(0, x.shape[:2])
        else:
            mixed = self._mixing(q, k) @ v
        return self.project(self.merged(self.merge(mixed)))

    def _mixing(self, q: Tensor, k: Tensor) -> Tensor:
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
        return self.weights(torch.softmax(scores, -1))

    def attention_map(self, x: Tensor) -> Tensor:
        x = self.before(x)
        return self._mixing(self.split(self.query(x)), self.split(self.key(x)))
