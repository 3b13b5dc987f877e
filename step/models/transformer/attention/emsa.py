"""Experts mixture spiking attention (EMSA) of SEMM (Zhou et al., NeurIPS 2024)."""

from __future__ import annotations

from torch import Tensor, nn

from neurons import NeuronFactory
from neurons.errors import OptionError
from step.models.layers import LinearNorm, Spiking
from step.models.transformer.attention.base import Attention, Grid, attentions
from step.models.transformer.attention.frozen import Random, freeze
from step.models.transformer.attention.ssa import Order, attention_product
from step.models.transformer.residual import Residual


@attentions.register("emsa")
class ExpertsMixtureAttention(Attention):
    """Experts mixture spiking attention, on tokens [T, B, N, C].

    Each head is an expert with queries Q_i of its own; keys K and values V (all C channels) are shared. A router fires
    for each token and expert: R = neuron(norm(W_r x)). y = sum over i of R_i * neuron(scale Q_i K^T V), an integer up
    to the number of experts; out = neuron(norm(W_o y)). The neurons of experts fire at the full threshold. Experts
    have their own potentials, but parameters of the neuron model (a learned time constant) in common.

    Parameters
    ----------
    heads : int
        Experts.
    residual : {"spike", "membrane"}
        With a membrane residual a neuron stands before the projections and none after the last.
    width : int, optional
        Channels of queries and keys, dim / heads when left out.
    scale : float
        Factor on the product.
    order : {"auto", "scores", "context"}
        Order of the product, see :func:`~.ssa.attention_product`.
    random : bool or "norms"
        Whether the queries of all experts and the key keep their initial weights, see :data:`~.frozen.Random`.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        neuron: NeuronFactory,
        *,
        grid: Grid,
        residual: Residual = "spike",
        width: int | None = None,
        scale: float = 0.125,
        order: Order = "auto",
        random: Random = False,
    ) -> None:
        super().__init__(dim, heads, grid)
        width = dim // heads if width is None else width
        if width < 1:
            raise OptionError(f"width of an expert must be at least 1, not {width}")
        self.scale, self.order = scale, order
        self.before = neuron(features=dim) if residual == "membrane" else nn.Identity()
        # The queries of all experts in one layer: linear rows and norms do not hear each other.
        self.query = Spiking(LinearNorm(dim, heads * width), neuron(features=heads * width))
        self.key = Spiking(LinearNorm(dim, width), neuron(features=width))
        self.value = Spiking(LinearNorm(dim, dim), neuron(features=dim))
        self.router = Spiking(LinearNorm(dim, heads), neuron(features=heads))
        self.neuron = neuron(features=dim)
        last = LinearNorm(dim, dim)
        self.project = Spiking(last, neuron(features=dim)) if residual == "spike" else last
        freeze(random, self.query.layer, self.key.layer)

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.before(x)
        product = attention_product(self.queries(spikes), self.key(spikes), self.value(spikes), self.order)
        outputs = self.neuron(product.unflatten(2, (-1, self.heads)) * self.scale)
        return self.project((self.router(spikes).unsqueeze(-1) * outputs).sum(dim=3))

    def queries(self, spikes: Tensor) -> Tensor:
        """Return the queries of all experts, [T, B, N * heads, width]: as they lie in memory, experts innermost."""
        return self.query(spikes).unflatten(-1, (self.heads, -1)).flatten(2, 3)

    def attention_map(self, x: Tensor) -> Tensor:
        """Return R_i * scale Q_i K^T of each expert, [T, B, heads, N, N]; its sum over experts is what arrives."""
        spikes = self.before(x)
        scores = self.queries(spikes) @ self.key(spikes).transpose(-2, -1) * self.scale
        return (scores.unflatten(2, (-1, self.heads)) * self.router(spikes).unsqueeze(-1)).transpose(2, 3)
