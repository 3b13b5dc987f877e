"""Spikformer: When Spiking Neural Network Meets Transformer (Zhou et al., ICLR 2023)."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator
from torch import Tensor, nn

from neurons import NeuronFactory
from neurons.errors import ShapeError
from step.models.base import Network, NetworkConfig, models
from step.models.layers import initialise
from step.models.transformer.attention import Order, SpikingSelfAttention
from step.models.transformer.embedding import SpikingPatchSplitting, pool_stages, to_tokens
from step.models.transformer.mlp import mlp
from step.models.transformer.residual import Block


class SpikformerConfig(NetworkConfig):
    """Sizes of a Spikformer; the defaults are Spikformer-4-384 for 32x32 colour images."""

    image_size: int = Field(32, ge=1)
    channels: int = Field(3, ge=1)
    classes: int = Field(10, ge=2)
    depth: int = Field(4, ge=1)
    dim: int = Field(384, ge=8, multiple_of=8)
    heads: int = Field(12, ge=1)
    mlp_ratio: float = Field(4.0, gt=0)
    scale: float = Field(0.125, gt=0)
    pools: int | tuple[bool, bool, bool, bool] | None = None
    """Stages of the embedding that halve the map: how many of the last, or which; by image size when left out."""
    order: Order = "auto"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"dim must be a multiple of heads, and {self.dim} is not one of {self.heads}")
        halvings = sum(pool_stages(self.pool_layout))
        if self.image_size < 2**halvings:
            raise ValueError(f"an image of {self.image_size} pixels cannot be halved {halvings} times; lower pools")
        return self

    @property
    def pool_layout(self) -> int | tuple[bool, ...]:
        """The pools asked for, or: 4 for images of 64 pixels and more (as on ImageNet), 2 from 16, 1 below."""
        if self.pools is not None:
            return self.pools
        return 4 if self.image_size >= 64 else 2 if self.image_size >= 16 else 1


@models.register("spikformer")
class Spikformer(Network):
    """Spikformer (ICLR 2023): spiking patch splitting, spiking self-attention without softmax, spike residual."""

    Config = SpikformerConfig
    config: SpikformerConfig

    def __init__(self, config: SpikformerConfig, neuron: NeuronFactory) -> None:
        super().__init__(config, neuron)
        c = config
        self.embedding = SpikingPatchSplitting(c.channels, c.dim, c.pool_layout, neuron)
        self.blocks = nn.Sequential(
            *(
                Block(
                    SpikingSelfAttention(c.dim, c.heads, neuron, scale=c.scale, order=c.order),
                    mlp(c.dim, int(c.dim * c.mlp_ratio), neuron),
                )
                for _ in range(c.depth)
            )
        )
        self.head = nn.Linear(c.dim, c.classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [T, B, C, H, W] to class scores [T, B, classes]."""
        c = self.config
        if x.dim() != 5 or x.shape[2:] != (c.channels, c.image_size, c.image_size):
            raise ShapeError(
                f"this spikformer takes [T, B, {c.channels}, {c.image_size}, {c.image_size}], not {list(x.shape)}"
            )
        tokens = to_tokens(self.embedding(x))
        return self.head(self.blocks(tokens).mean(dim=2))
