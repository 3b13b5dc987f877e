"""SDSA-3, spike-driven self-attention of Meta-SpikeFormer (Yao et al., ICLR 2024, arXiv:2404.03663)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from neurons import NeuronFactory
from step.models.base import fold_time
from step.models.layers import LinearNorm, Spiking
from step.models.transformer.attention.base import Attention, Grid, attentions
from step.models.transformer.attention.frozen import Random, freeze
from step.models.transformer.attention.ssa import Order, attention_product
from step.models.transformer.embedding.base import to_maps, to_tokens
from step.models.transformer.residual import Residual


class RepConv(nn.Module):
    """Convolution that is trained in three pieces: 1x1, norm, depth-wise 3x3, 1x1, norm; on tokens [T, B, N, C].

    Nothing in it is nonlinear, so in eval mode it is one 3x3 convolution of the spikes. For this the depth-wise
    convolution sees beyond the border what the norm before it makes of 0, instead of 0. The published code has one
    more norm behind the last, which changes no function that the layer can learn.

    Parameters
    ----------
    inputs, outputs : int
        Channels.
    grid : (int, int)
        Height and width of the tokens.
    """

    def __init__(self, inputs: int, outputs: int, grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        self.first = LinearNorm(inputs, inputs, bias=False)
        self.depthwise = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)
        self.last = LinearNorm(inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        maps = fold_time(self._depthwise, to_maps(self.first(x), self.grid))
        return self.last(to_tokens(maps))

    def _depthwise(self, maps: Tensor) -> Tensor:
        # The border enters as a sum of its own, the same for all samples: nothing is padded or copied.
        return self.depthwise(maps) + self._border()

    def _border(self) -> Tensor:
        """Return what the surroundings of the map add to each place, [C, H, W]."""
        norm = self.first.norm
        if isinstance(norm, nn.BatchNorm1d):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            # As in the published code, the border follows the running statistics and passes no gradient to the norm.
            zero = norm.bias.detach() - norm.running_mean * norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
        else:
            zero = self.first.linear.bias  # where the norm was folded into it
        height, width = self.grid
        around = zero[:, None, None] - F.pad(zero[:, None, None].expand(-1, height, width), (1, 1, 1, 1))
        return F.conv2d(around, self.depthwise.weight, groups=len(zero))


@attentions.register("sdsa-3")
class SpikeDrivenSelfAttention3(Attention):
    """SDSA-3 of Meta-SpikeFormer, on tokens [T, B, N, C]: spiking self-attention whose projections are RepConvs.

    Q, K, V = neuron(RepConv x); o = neuron_half(scale Q K^T V); out = RepConv o, and a neuron behind it with a spike
    residual. ``neuron_half`` fires at half the threshold of the others.

    Parameters
    ----------
    residual : {"spike", "membrane"}
        With a membrane residual, as in the paper, a neuron stands before the projections and none after the last.
    scale : float
        Factor on the product.
    order : {"auto", "scores", "context"}
        Order of the product, see :func:`~.ssa.attention_product`.
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
        scale: float = 0.125,
        order: Order = "auto",
        random: Random = False,
    ) -> None:
        super().__init__(dim, heads, grid)
        self.scale, self.order = scale, order
        self.before = neuron(features=dim) if residual == "membrane" else nn.Identity()
        self.query = Spiking(RepConv(dim, dim, grid), neuron(features=dim))
        self.key = Spiking(RepConv(dim, dim, grid), neuron(features=dim))
        self.value = Spiking(RepConv(dim, dim, grid), neuron(features=dim))
        self.neuron = neuron(features=dim, threshold_scale=0.5)
        last = RepConv(dim, dim, grid)
        self.project = Spiking(last, neuron(features=dim)) if residual == "spike" else last
        freeze(random, self.query.layer, self.key.layer)

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.before(x)
        q, k, v = self.split(self.query(spikes)), self.split(self.key(spikes)), self.split(self.value(spikes))
        product = attention_product(q, k, v, self.order) * self.scale
        return self.project(self.neuron(self.merge(product)))

    def attention_map(self, x: Tensor) -> Tensor:
        spikes = self.before(x)
        return self.split(self.query(spikes)) @ self.split(self.key(spikes)).transpose(-2, -1) * self.scale
