"""Embeddings with fewer convolutions than SPS: one, as in a ViT (Dosovitskiy et al., ICLR 2021), or two."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neurons import NeuronFactory
from neurons.errors import OptionError
from step.models.layers import ConvNorm, Folded, MaxPool, Spiking
from step.models.transformer.embedding.base import Embedding, Pools, embeddings, halved, halvings, position_branch
from step.models.transformer.residual import Residual


@embeddings.register("patch")
class PatchEmbedding(Embedding):
    """Patch embedding of a ViT: one convolution whose kernel and stride are the patch, then a learned position.

    Spike residual: neuron(conv(x)) + position, so the stream is no longer made of spikes. Membrane residual:
    conv(x) + position. There is no relative position branch.

    Parameters
    ----------
    channels : int
        Channels of the image.
    dim : int
        Channels of a token.
    image_size : int
        Must be a multiple of the patch.
    pools : int or sequence of bool
        Number of halvings: a patch has 2^halvings pixels on a side, so that the grid is that of other embeddings.
    norm : bool
        Whether a batch norm follows the convolution. The ablation of STEP (Shen et al., arXiv:2505.11151) has none, and
        so removes norm, depth and relative position at once.
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
        norm: bool = False,
    ) -> None:
        super().__init__()
        patch = 2 ** sum(halvings(pools))
        if image_size % patch:
            raise OptionError(f"an image of {image_size} pixels is not made of whole patches of {patch}; change pools")
        self.grid = (image_size // patch, image_size // patch)
        layer: nn.Module = Folded(nn.Conv2d(channels, dim, patch, stride=patch, bias=not norm))
        if norm:
            layer = nn.Sequential(layer, Folded(nn.BatchNorm2d(dim)))
        self.patches = Spiking(layer, neuron(features=dim, axis=-3)) if residual == "spike" else layer
        self.position = nn.Parameter(torch.zeros(dim, *self.grid))

    def forward(self, x: Tensor) -> Tensor:
        return self.patches(x) + self.position


@embeddings.register("conv2")
class TwoConvolutions(Embedding):
    """Spiking Patch Splitting with two stages instead of four, of dim/4 and dim channels, then the position branch.

    Stages and branch are those of :class:`~.sps.SpikingPatchSplitting`; from the ablation of STEP (Shen et al.,
    arXiv:2505.11151).

    Parameters
    ----------
    channels : int
        Channels of the image.
    dim : int
        Channels of a token, a multiple of 4.
    pools : int or sequence of bool
        Number of halvings, shared between the stages, the odd one to the second.
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
        if dim % 4:
            raise OptionError(f"dim of this patch embedding must be a multiple of 4, not {dim}")
        times = sum(halvings(pools))
        side = halved(image_size, times)
        self.grid = (side, side)
        first: nn.Module = Spiking(ConvNorm(channels, dim // 4), neuron(features=dim // 4, axis=-3))
        second: nn.Module = ConvNorm(dim // 4, dim)
        if residual == "spike":
            second = Spiking(second, neuron(features=dim, axis=-3))
        self.first = nn.Sequential(first, *(MaxPool() for _ in range(times // 2)))
        self.second = nn.Sequential(second, *(MaxPool() for _ in range(times - times // 2)))
        self.position = position_branch(ConvNorm(dim, dim), dim, neuron, residual)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(x))
        return x + self.position(x)
