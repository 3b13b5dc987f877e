"""What isotropic transformers have in common: one embedding, blocks of one width, one read-out."""

from __future__ import annotations

from typing import Any, Self

from pydantic import ConfigDict, Field, model_validator
from torch import Tensor, nn

from neurons.errors import ShapeError
from step.models.base import Network, NetworkConfig
from step.models.transformer.attention import Attention, attentions
from step.models.transformer.embedding import Embedding, embeddings, halvings, to_tokens
from step.models.transformer.embedding.base import Pools
from step.models.transformer.parts import AttentionPart, EmbeddingPart, build
from step.models.transformer.residual import Residual

TINY = {
    "digits": {
        "depth": 1, "dim": 64, "heads": 4, "mlp_ratio": 2.0, "pools": (False, True, False, False),
        "image_size": 8, "channels": 1,
    },
    "fashion": {
        "depth": 2, "dim": 64, "heads": 4, "mlp_ratio": 2.0, "pools": (True, True, False, False),
        "image_size": 28, "channels": 1,
    },
}  # fmt: skip
"""Sizes that two cores train in minutes, 4x4 tokens of 8x8 pixels and 7x7 tokens of 28x28, the same for all models."""


class ImageConfig(NetworkConfig):
    """What every network on images is told by its data set."""

    image_size: int = Field(32, ge=1)
    channels: int = Field(3, ge=1)
    classes: int = Field(10, ge=2)


class TransformerConfig(ImageConfig):
    """Sizes of a transformer whose blocks all have the same width."""

    model_config = ConfigDict(validate_default=True)

    depth: int = Field(4, ge=1)
    dim: int = Field(384, ge=8)
    heads: int = Field(12, ge=1)
    mlp_ratio: float = Field(4.0, gt=0)
    pools: Pools | None = None
    """Stages of the embedding that halve the map: how many of the last, or which; by image size when left out."""
    attention: AttentionPart
    embedding: EmbeddingPart

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"dim must be a multiple of heads, and {self.dim} is not one of {self.heads}")
        times = sum(halvings(self.pool_layout))
        if self.image_size < 2**times:
            raise ValueError(f"an image of {self.image_size} pixels cannot be halved {times} times; lower pools")
        return self

    @property
    def pool_layout(self) -> Pools:
        """The pools asked for, or: 4 for images of 64 pixels and more (as on ImageNet), 2 from 16, 1 below."""
        if self.pools is not None:
            return self.pools
        return 4 if self.image_size >= 64 else 2 if self.image_size >= 16 else 1


class ImageNetwork(Network):
    """Base of networks on images: ``embedding``, then ``blocks``, then ``head``."""

    config: ImageConfig
    embedding: nn.Module
    blocks: nn.Sequential
    head: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """Map images [T, B, C, H, W] to class scores [T, B, classes]."""
        self.check(x)
        return self.head(self.features(x))

    def features(self, x: Tensor) -> Tensor:
        """Map images to what the head reads, tokens [T, B, N, C]."""
        return self.blocks(to_tokens(self.embedding(x)))

    def segments(self) -> list[nn.Module]:
        return list(self.blocks)

    def check(self, x: Tensor) -> None:
        """Refuse what are not images of the configured shape."""
        c = self.config
        if x.dim() != 5 or x.shape[2:] != (c.channels, c.image_size, c.image_size):
            name = getattr(type(self), "registered_name", type(self).__name__)
            raise ShapeError(
                f"this {name} takes [T, B, {c.channels}, {c.image_size}, {c.image_size}], not {list(x.shape)}"
            )


class Transformer(ImageNetwork):
    """Base of transformers whose blocks all have the same width and grid."""

    config: TransformerConfig
    embedding: Embedding

    def embed(self, residual: Residual) -> Embedding:
        """Make the embedding that the config names."""
        c = self.config
        fixed: dict[str, Any] = {"channels": c.channels, "dim": c.dim, "image_size": c.image_size}
        return build(embeddings, c.embedding, **fixed, pools=c.pool_layout, neuron=self.neuron, residual=residual)

    def attend(self, residual: Residual) -> Attention:
        """Make one attention of the kind that the config names, for the grid of the embedding."""
        c = self.config
        return build(
            attentions, c.attention,
            dim=c.dim, heads=c.heads, neuron=self.neuron, grid=self.embedding.grid, residual=residual,
        )  # fmt: skip

    @property
    def hidden(self) -> int:
        """Width of the hidden layer of the perceptrons."""
        return int(self.config.dim * self.config.mlp_ratio)
