"""Embedding along a sequence, for images that are read row by row (STEP, Shen et al., arXiv:2505.11151)."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from neurons import NeuronFactory
from neurons.errors import OptionError
from step.models.base import fold_time
from step.models.layers import ConvNorm, Spiking
from step.models.transformer.embedding.base import Embedding, Pools, embeddings, halved, position_branch
from step.models.transformer.residual import Residual

TOKENS = 64


@embeddings.register("sequence")
class SequenceEmbedding(Embedding):
    """Embedding along a sequence: four stages of convolution, norm and neuron, then a relative position branch.

    The image enters as the sequence of its pixels, row by row and whole at every time step, so the time of the network
    is not that of the sequence. Stages of dim/8, dim/4, dim/2 and dim channels: conv of length 5 - norm - neuron, then
    averages over stretches of the sequence where it is longer than 64 tokens, then x + neuron(norm(conv(x))) with a
    conv of length 3. Membrane residual: the last stage has no neuron, and the branch is x + norm(conv(neuron(x))). The
    grid has one row. Every stage is padded to keep or halve the length; the published code pads less, gets 63 tokens
    from 1024 pixels and stretches them to 64, and has no neuron in the branch of the spike residual.

    Parameters
    ----------
    channels : int
        Channels of the image.
    dim : int
        Channels of a token, a multiple of 8.
    image_size : int
        The sequence has image_size^2 places. Three stages halve it, and from 1024 places on all four.
    pools : int or sequence of bool
        Not used: the length alone decides the strides.
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
        if dim % 8:
            raise OptionError(f"dim of this embedding must be a multiple of 8, not {dim}")
        length = image_size**2
        strides = (2, 2, 2, 2) if length >= 1024 else (1, 2, 2, 2)
        self.grid = (1, min(TOKENS, halved(length, strides.count(2))))
        self.stages = nn.ModuleList()
        widths = pairwise((channels, dim // 8, dim // 4, dim // 2, dim))
        for stage, ((inputs, outputs), stride) in enumerate(zip(widths, strides, strict=True)):
            layer: nn.Module = ConvNorm(inputs, outputs, kernel=(1, 5), stride=(1, stride))
            if stage < 3 or residual == "spike":
                layer = Spiking(layer, neuron(features=outputs, axis=-3))
            self.stages.append(layer)
        self.position = position_branch(ConvNorm(dim, dim, kernel=(1, 3)), dim, neuron, residual)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(3).unsqueeze(3)
        for stage in self.stages:
            x = stage(x)
        if x.shape[-1] > self.grid[1]:
            x = fold_time(lambda maps: F.adaptive_avg_pool2d(maps, self.grid), x)
        return x + self.position(x)
