"""Patch embeddings: images to spike maps that the blocks read as tokens."""

from __future__ import annotations

from torch import Tensor, nn

from neurons import NeuronFactory
from neurons.errors import OptionError
from step.models.layers import ConvNorm, MaxPool


class SpikingPatchSplitting(nn.Module):
    """Spiking Patch Splitting of Spikformer (Zhou et al., ICLR 2023).

    Four stages conv 3x3 - norm - neuron of dim/8, dim/4, dim/2 and dim channels, max-pooling after the last
    ``pools`` of them, then the relative position branch x + neuron(norm(conv(x))).

    Parameters
    ----------
    channels : int
        Channels of the image.
    dim : int
        Channels of a token, a multiple of 8.
    pools : int or sequence of bool
        How many of the last stages halve the map, or which (one entry for each stage).
    """

    STAGES = 4

    def __init__(self, channels: int, dim: int, pools: int | tuple[bool, ...], neuron: NeuronFactory) -> None:
        super().__init__()
        if dim % 8:
            raise OptionError(f"dim of the patch embedding must be a multiple of 8, not {dim}")
        halves = pool_stages(pools)
        widths = [channels, dim // 8, dim // 4, dim // 2, dim]
        self.stages = nn.ModuleList()
        for inputs, outputs, halve in zip(widths, widths[1:], halves, strict=False):
            layers = [ConvNorm(inputs, outputs), neuron(features=outputs, axis=-3)]
            self.stages.append(nn.Sequential(*layers, *([MaxPool()] if halve else [])))
        self.position = nn.Sequential(ConvNorm(dim, dim), neuron(features=dim, axis=-3))

    def forward(self, x: Tensor) -> Tensor:
        """Map images [T, B, C, H, W] to maps [T, B, dim, H', W']."""
        for stage in self.stages:
            x = stage(x)
        return x + self.position(x)


def pool_stages(pools: int | tuple[bool, ...]) -> tuple[bool, ...]:
    """Return for each of the four stages whether it halves the map."""
    stages = SpikingPatchSplitting.STAGES
    if isinstance(pools, int):
        if not 0 <= pools <= stages:
            raise OptionError(f"pools must be 0 to {stages}, not {pools}")
        return tuple(stage >= stages - pools for stage in range(stages))
    if len(pools) != stages:
        raise OptionError(f"pools needs one entry for each of the {stages} stages, not {len(pools)}")
    return tuple(pools)


def to_tokens(maps: Tensor) -> Tensor:
    """View maps [T, B, C, H, W] as tokens [T, B, N, C], row by row."""
    return maps.flatten(3).transpose(2, 3)
