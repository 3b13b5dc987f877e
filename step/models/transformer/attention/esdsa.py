"""E-SDSA, efficient spike-driven self-attention of E-SpikeFormer (Yao et al., IEEE TPAMI 2025, arXiv:2411.16061)."""

from __future__ import annotations

from torch import Tensor, nn

from neurons import Neuron, NeuronFactory
from neurons.errors import OptionError
from step.models.layers import LinearNorm, Spiking
from step.models.transformer.attention.base import Attention, Grid, attentions
from step.models.transformer.attention.ssa import Order, attention_product
from step.models.transformer.residual import Residual


@attentions.register("e-sdsa")
class EfficientSpikeDrivenSelfAttention(Attention):
    """E-SDSA, on tokens [T, B, N, C]: spiking self-attention whose values are wider than queries and keys.

    Q, K, V = neuron(P x), with ``expansion`` times the channels for V; o = neuron(scale Q K^T V); out = P o. P is a
    linear layer with norm, or two of them one behind the other, which in eval mode are one. Spikes of neurons that
    count enter the product as a share of the largest count, so that Q, K and V lie in [0, 1] whatever the neuron.

    Parameters
    ----------
    expansion : int
        Channels of the values, as a multiple of ``dim``.
    inner : float, optional
        Channels between the two linear layers of a projection, as a multiple of its inputs; one layer when left out.
    scale : float, optional
        Factor on the product; 2 / sqrt(dim / heads) when left out.
    residual : {"membrane", "spike"}
        With a membrane residual, as in the paper, a neuron stands before the projections and none after the last.
    order : {"auto", "scores", "context"}
        Order of the product, see :func:`~.ssa.attention_product`.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        neuron: NeuronFactory,
        *,
        grid: Grid,
        residual: Residual = "membrane",
        expansion: int = 4,
        inner: float | None = None,
        scale: float | None = None,
        order: Order = "auto",
    ) -> None:
        super().__init__(dim, heads, grid)
        if expansion < 1:
            raise OptionError(f"expansion of the attention 'e-sdsa' must be 1 or more, not {expansion}")
        if inner is not None and inner * dim < 1:
            raise OptionError(f"inner of the attention 'e-sdsa' must leave a channel or more, not {inner}")
        values = dim * expansion
        self.order = order
        self.before = neuron(features=dim) if residual == "membrane" else nn.Identity()
        self.query = Spiking(_projection(dim, dim, inner), neuron(features=dim))
        self.key = Spiking(_projection(dim, dim, inner), neuron(features=dim))
        self.value = Spiking(_projection(dim, values, inner), neuron(features=values))
        self.neuron = neuron(features=values)
        last = _projection(values, dim, inner)
        self.project = Spiking(last, neuron(features=dim)) if residual == "spike" else last
        factor = 2 * (dim // heads) ** -0.5 if scale is None else scale
        largest = _largest_count(self.query.neuron)
        self.map_scale, self.scale = factor / largest**2, factor / largest**3

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        q, k, v = self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))
        return self.project(self.neuron(self.merge(attention_product(q, k, v, self.order) * self.scale)))

    def attention_map(self, x: Tensor) -> Tensor:
        x = self.before(x)
        return self.split(self.query(x)) @ self.split(self.key(x)).transpose(-2, -1) * self.map_scale


def _largest_count(neuron: Neuron) -> int:
    """Return how many spikes a neuron sends in one step at most; 1 for those that do not count."""
    return int(getattr(neuron, "levels", 1)) if neuron.output == "integer" else 1


def _projection(inputs: int, outputs: int, inner: float | None) -> nn.Module:
    if inner is None:
        return LinearNorm(inputs, outputs, bias=False)
    between = int(inputs * inner)
    return nn.Sequential(LinearNorm(inputs, between, bias=False), LinearNorm(between, outputs, bias=False))
