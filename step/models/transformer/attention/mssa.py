"""Multi-scale spiking attention (MSSA) of MSViT (Hua et al., IJCAI 2025, arXiv:2505.14719)."""

from __future__ import annotations

from torch import Tensor, nn

from neurons import NeuronFactory
from step.models.layers import ConvNorm, LinearNorm, Spiking
from step.models.transformer.attention.base import Attention, Grid, attentions
from step.models.transformer.embedding.base import to_maps, to_tokens
from step.models.transformer.residual import Residual


@attentions.register("mssa")
class MultiScaleSpikingAttention(Attention):
    """MSSA, on tokens [T, B, N, C]: Q-K token attention whose mask also sees each token's neighbours.

    Q, K = neuron(norm(W x)); P = neuron(norm(conv x)), a convolution over three tokens in row order;
    a[n] = neuron_half(sum of Q[n] and P[n] over the channels of a head), one value for each token and head; o = a K;
    out = neuron(norm(W_o o)). ``neuron_half`` fires at half the threshold of the others. No product of matrices.

    Parameters
    ----------
    residual : {"spike", "membrane"}
        With a membrane residual a neuron stands before the projections and none after the last.
    """

    def __init__(
        self, dim: int, heads: int, neuron: NeuronFactory, *, grid: Grid, residual: Residual = "spike"
    ) -> None:
        super().__init__(dim, heads, grid)
        self.before = neuron(features=dim) if residual == "membrane" else nn.Identity()
        self.query = Spiking(LinearNorm(dim, dim, bias=False), neuron(features=dim))
        self.key = Spiking(LinearNorm(dim, dim, bias=False), neuron(features=dim))
        self.local = Spiking(ConvNorm(dim, dim, (1, 3)), neuron(features=dim, axis=-3))
        self.neuron = neuron(features=heads, threshold_scale=0.5)
        last = LinearNorm(dim, dim)
        self.project = Spiking(last, neuron(features=dim)) if residual == "spike" else last

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        mask, key = self.mask(x), self.key(x)
        return self.project((mask.unsqueeze(-1) * key.unflatten(-1, (self.heads, -1))).flatten(-2))

    def mask(self, x: Tensor) -> Tensor:
        """Return the mask of the spikes ``x``, [T, B, N, heads]."""
        local = to_tokens(self.local(to_maps(x, (1, x.shape[2]))))
        counts = [spikes.unflatten(-1, (self.heads, -1)).sum(-1) for spikes in (self.query(x), local)]
        return self.neuron(counts[0] + counts[1])

    def attention_map(self, x: Tensor) -> Tensor:
        """Return the mask, [T, B, heads, 1, N]."""
        return self.mask(self.before(x)).transpose(2, 3).unsqueeze(-2)
