"""What every patch embedding is, and the two views of what it returns: maps and tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from neurons import NeuronFactory
from neurons.errors import OptionError
from neurons.registry import Registry
from step.models.layers import Spiking
from step.models.transformer.residual import Residual

embeddings: Registry[Embedding] = Registry("embedding", "embeddings")
"""Makers ``(channels, dim, image_size, pools, neuron, *, residual, **options) -> Embedding`` by name."""


class Embedding(nn.Module, ABC):
    """Base of all patch embeddings; maps images [T, B, channels, H, W] to maps [T, B, dim, height, width].

    Attributes
    ----------
    grid : (int, int)
        Height and width of the maps.
    """

    grid: tuple[int, int]

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Embed the images."""


Pools = int | tuple[bool, bool, bool, bool]
"""Which of four stages halve the map: how many of the last, or one entry for each stage."""


def halvings(pools: int | tuple[bool, ...], stages: int = 4) -> tuple[bool, ...]:
    """Return for each stage whether it halves the map.

    Parameters
    ----------
    pools : int or tuple of bool
        How many of the last stages, or which.
    stages : int

    Raises
    ------
    OptionError
        When ``pools`` does not fit the number of stages.
    """
    if isinstance(pools, int):
        if not 0 <= pools <= stages:
            raise OptionError(f"pools must be 0 to {stages}, not {pools}")
        return tuple(stage >= stages - pools for stage in range(stages))
    if len(pools) != stages:
        raise OptionError(f"pools needs one entry for each of the {stages} stages, not {len(pools)}")
    return tuple(pools)


def halved(size: int, times: int) -> int:
    """Return the side of a map after so many halvings, each rounding up."""
    for _ in range(times):
        size = -(-size // 2)
    return size


def position_branch(layer: nn.Module, dim: int, neuron: NeuronFactory, residual: Residual) -> nn.Module:
    """Return the relative position branch, to be added to its input: neuron(layer(x)), or layer(neuron(x)).

    The neuron stands behind the layer with a spike residual, before it with a membrane residual.
    """
    fire = neuron(features=dim, axis=-3)
    return Spiking(layer, fire) if residual == "spike" else nn.Sequential(fire, layer)


def to_tokens(maps: Tensor) -> Tensor:
    """View maps [T, B, C, H, W] as tokens [T, B, N, C], row by row; no copy where channels are last in memory."""
    return maps.flatten(3).transpose(2, 3)


def to_maps(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """View tokens [T, B, N, C] as maps [T, B, C, H, W], which then have their channels last in memory; no copy."""
    return tokens.transpose(2, 3).unflatten(3, grid)
