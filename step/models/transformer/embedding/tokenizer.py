"""Spiking Tokenizer of Spikingformer (Zhou et al., 2023, arXiv:2304.11954)."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from neurons import NeuronFactory
from neurons.errors import OptionError
from step.models.layers import ConvNorm, MaxPool, Spiking
from step.models.transformer.embedding.base import Embedding, Pools, embeddings, halved, halvings
from step.models.transformer.residual import Residual


@embeddings.register("tokenizer")
class SpikingTokenizer(Embedding):
    """Spiking Tokenizer: five convolutions 3x3 with norm, of dim/8, dim/4, dim/2, dim and dim channels, no shortcut.

    A neuron stands between every two convolutions, and behind it the map is halved where asked for. Membrane residual:
    the last convolution has no neuron. Spike residual: it has one.

    Parameters
    ----------
    channels : int
        Channels of the image.
    dim : int
        Channels of a token, a multiple of 8.
    pools : int or sequence of bool
        Which of the first four convolutions are followed by a halving (one entry for each), or how many of them, the
        last ones.
    """

    def __init__(
        self,
        channels: int,
        dim: int,
        image_size: int,
        pools: Pools,
        neuron: NeuronFactory,
        *,
        residual: Residual = "membrane",
    ) -> None:
        super().__init__()
        if dim % 8:
            raise OptionError(f"dim of this patch embedding must be a multiple of 8, not {dim}")
        halves = halvings(pools)
        side = halved(image_size, sum(halves))
        self.grid = (side, side)
        self.stages = nn.Sequential()
        widths = (channels, dim // 8, dim // 4, dim // 2, dim)
        for (inputs, outputs), halve in zip(pairwise(widths), halves, strict=True):
            spikes = Spiking(ConvNorm(inputs, outputs), neuron(features=outputs, axis=-3))
            self.stages.append(nn.Sequential(spikes, *([MaxPool()] if halve else [])))
        last = ConvNorm(dim, dim)
        self.last = Spiking(last, neuron(features=dim, axis=-3)) if residual == "spike" else last

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.stages(x))
