"""Spike-driven self-attention (SDSA) of the Spike-driven Transformer (Yao et al., NeurIPS 2023, arXiv:2307.01694)."""

from __future__ import annotations

from torch import Tensor, nn

from neurons import NeuronFactory
from step.models.layers import LinearNorm, Spiking
from step.models.transformer.attention.base import Attention, Grid, attentions
from step.models.transformer.attention.frozen import Random, freeze
from step.models.transformer.residual import Residual


@attentions.register("sdsa")
class SpikeDrivenSelfAttention(Attention):
    """Spike-driven self-attention, on tokens [T, B, N, C]: masks and sums only, linear in N and in C.

    Q, K, V = neuron(norm(W x)); g = neuron_half(sum over tokens of K * V), one bit for each channel; o = Q * g;
    out = norm(W_o o), and a neuron behind it with a spike residual. ``neuron_half`` fires at half the threshold of the
    others, as in the published code. No product mixes channels, so heads change nothing but the attention map.

    Parameters
    ----------
    residual : {"spike", "membrane"}
        With a membrane residual, as in the paper, a neuron stands before the projections and none after the last.
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
        self.before = neuron(features=dim) if residual == "membrane" else nn.Identity()
        self.query = Spiking(LinearNorm(dim, dim, bias=False), neuron(features=dim))
        self.key = Spiking(LinearNorm(dim, dim, bias=False), neuron(features=dim))
        self.value = Spiking(LinearNorm(dim, dim, bias=False), neuron(features=dim))
        self.neuron = neuron(features=dim, threshold_scale=0.5)
        last = LinearNorm(dim, dim)
        self.project = Spiking(last, neuron(features=dim)) if residual == "spike" else last
        freeze(random, self.query.layer, self.key.layer)

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.before(x)
        return self.project(self.query(spikes) * self.gate(self.votes(spikes)))

    def votes(self, spikes: Tensor) -> Tensor:
        """Return K * V, [T, B, N, C]: which tokens vote for which channels to open."""
        return self.key(spikes) * self.value(spikes)

    def gate(self, votes: Tensor) -> Tensor:
        """Return the channels that open, [T, B, 1, C]."""
        return self.neuron(votes.sum(dim=2, keepdim=True))

    def attention_map(self, x: Tensor) -> Tensor:
        """Return how many channels of a head each token helped to open, [T, B, heads, 1, N].

        The sum over the channels of the head of K * V * g: the votes of a token, counted where the gate opened.
        """
        votes = self.votes(self.before(x))
        return self.split(votes * self.gate(votes)).sum(-1).unsqueeze(3)
