"""Stem and tokenizer of SGLFormer (Zhang et al., Frontiers in Neuroscience 2024)."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from neurons import NeuronFactory
from step.models.layers import ConvNorm, MaxPool, Spiking
from step.models.transformer.embedding.base import Embedding, Pools, embeddings, halved, halvings
from step.models.transformer.residual import Residual


@embeddings.register("sgl")
class GlobalLocalTokenizer(Embedding):
    """SGLFormer's stem and tokenizer: five convolutions, max-pooling between norm and neuron.

    A stem of dim/6 channels, conv 3x3 - norm - neuron, and four stages of dim/4, dim/2, dim and dim channels: conv
    3x3 - norm - max-pooling 3x3 in those that halve the map - neuron. With a membrane residual the last stage has no
    neuron.

    Parameters
    ----------
    channels : int
        Channels of the image.
    dim : int
        Channels of a token; dim/6 and dim/4 are rounded down.
    pools : int or sequence of bool
        How many of the last stages halve the map, or which (one entry for each of the four stages).
    """

    def __init__(
        self,
        channels: int,
        dim: int,
        image_size: int,
        pools: Pools,
        neuron: NeuronFactory,
        *,
        residual: Residual = "spike",
    ) -> None:
        super().__init__()
        halves = halvings(pools)
        side = halved(image_size, sum(halves))
        self.grid = (side, side)
        widths = [dim // 6, dim // 4, dim // 2, dim, dim]
        self.stem = Spiking(ConvNorm(channels, widths[0]), neuron(features=widths[0], axis=-3))
        stages: list[nn.Module] = []
        for (inputs, outputs), halve in zip(pairwise(widths), halves, strict=True):
            conv = ConvNorm(inputs, outputs)
            layer = nn.Sequential(conv, MaxPool()) if halve else conv
            last = len(stages) == len(halves) - 1
            bare = last and residual == "membrane"
            stages.append(layer if bare else Spiking(layer, neuron(features=outputs, axis=-3)))
        self.stages = nn.Sequential(*stages)

    def forward(self, x: Tensor) -> Tensor:
        return self.stages(self.stem(x))
