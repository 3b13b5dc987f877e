"""Meta-SpikeFormer, Spike-driven Transformer V2 (Yao et al., ICLR 2024)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from pydantic import ConfigDict, Field, model_validator
from torch import Tensor, nn

from neurons import NeuronFactory
from step.models.base import models
from step.models.layers import ConvNorm, Spiking, initialise
from step.models.paper import Paper, Published
from step.models.transformer.attention import Grid, attentions
from step.models.transformer.base import ImageConfig
from step.models.transformer.embedding.base import halved
from step.models.transformer.head import Head
from step.models.transformer.mlp import mlp
from step.models.transformer.parts import AttentionPart, build
from step.models.transformer.pyramid import Pyramid, Stage
from step.models.transformer.residual import Block

_IMAGENET: dict[str, Any] = {"image_size": 224, "classes": 1000}


class MetaConfig(ImageConfig):
    """Stages of convolution, then stages of attention; each begins with a convolution to its width.

    ``widths``, ``depths`` and ``halves`` have one entry for each stage.
    """

    model_config = ConfigDict(validate_default=True)

    widths: tuple[int, ...] = (32, 64, 128, 256, 360)
    """Channels of each stage; the paper's stage 1 is the first two, at half and at full width."""
    depths: tuple[int, ...] = (1, 1, 2, 6, 2)
    """Blocks in each stage."""
    convolutional: int = Field(3, ge=0)
    """How many of the first stages are convolutional."""
    halves: tuple[bool, ...] | None = None
    """Which stages halve the map; by image size when left out: as in the paper from 64 pixels, two of them below."""
    heads: int = Field(8, ge=1)
    mlp_ratio: float = Field(4.0, gt=0)
    attention: AttentionPart

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not len(self.widths) == len(self.depths) == len(self.layout) or not self.widths:
            raise ValueError("widths, depths and halves need one entry for each stage, all as many")
        if min(self.widths) < 1 or min(self.depths) < 0 or not sum(self.depths):
            raise ValueError("widths must be positive, depths 0 or more")
        if self.convolutional > len(self.widths):
            raise ValueError(f"{self.convolutional} convolutional stages are more than there are, {len(self.widths)}")
        for width in self.widths[self.convolutional :]:
            if width % self.heads:
                raise ValueError(
                    f"widths under attention must be multiples of heads, and {width} is not one of {self.heads}"
                )
        times = sum(self.layout)
        if self.image_size < 2**times:
            raise ValueError(f"an image of {self.image_size} pixels cannot be halved {times} times; lower halves")
        return self

    @property
    def layout(self) -> tuple[bool, ...]:
        """The halvings asked for, or: the first four stages of large images, the second and third of small ones."""
        if self.halves is not None:
            return self.halves
        halving = range(4) if self.image_size >= 64 else (1, 2) if self.image_size >= 16 else (2,)
        return tuple(stage in halving for stage in range(len(self.widths)))

    @property
    def sides(self) -> tuple[int, ...]:
        """Side of the map in each stage."""
        return tuple(halved(self.image_size, sum(self.layout[: stage + 1])) for stage in range(len(self.widths)))


class MetaSpikeFormerConfig(MetaConfig):
    """Sizes of a Meta-SpikeFormer; the defaults are the widths of 15.1 M for 32x32 colour images."""

    SIZES = {
        "digits": {
            "widths": (16, 32, 48, 64, 64), "depths": (1, 1, 1, 1, 1), "heads": 4, "mlp_ratio": 2.0,
            "image_size": 8, "channels": 1,
        },
        "fashion": {
            "widths": (8, 16, 32, 64, 64), "depths": (1, 1, 1, 1, 1), "heads": 4, "mlp_ratio": 2.0,
            "image_size": 28, "channels": 1,
        },
        "cifar-8-256": {},
        "imagenet-8-256": {**_IMAGENET},
        "imagenet-8-384": {**_IMAGENET, "widths": (48, 96, 192, 384, 480)},
        "imagenet-8-512": {**_IMAGENET, "widths": (64, 128, 256, 512, 640)},
    }  # fmt: skip

    attention: AttentionPart = {"name": "sdsa-3"}


@models.register("metaspikeformer")
class MetaSpikeFormer(Pyramid):
    """Meta-SpikeFormer (ICLR 2024): two stages of convolution, two of attention, membrane residual throughout.

    Between stages: neuron - conv 3x3 - norm, stride 2 or 1. Convolutional block: u = u + separable convolution(u);
    u = u + channel convolution(u). Block of attention: u = u + SDSA-3(u); u = u + MLP(u). Neuron of the mean over
    tokens; linear.
    """

    Config = MetaSpikeFormerConfig
    config: MetaSpikeFormerConfig
    paper = Paper(
        "Spike-driven Transformer V2: Meta Spiking Neural Network Architecture Inspiring the Design of Next-generation "
        "Neuromorphic Chips", "ICLR", 2024, "arXiv:2404.03663",
        published=(
            Published("imagenet-8-256", "ImageNet", 74.1, 4, 15.1),
            Published("imagenet-8-384", "ImageNet", 77.2, 4, 31.3),
            Published("imagenet-8-512", "ImageNet", 80.0, 4, 55.4),
        ),
        note="80.0 % is with distillation, for which the published code has a second read-out; here is one. The first "
        "convolution is 7x7 where it halves the map, as in the paper, and 3x3 on small images.",
    )  # fmt: skip

    def __init__(self, config: MetaSpikeFormerConfig, neuron: NeuronFactory) -> None:
        super().__init__(config, neuron)
        c = config

        def convolution(width: int) -> nn.Module:
            return ConvBlock(separable(width, neuron), channel(width, c.mlp_ratio, neuron))

        def attention(width: int, grid: Grid) -> nn.Module:
            fixed = {"dim": width, "heads": c.heads, "neuron": neuron, "grid": grid, "residual": "membrane"}
            return Block(
                build(attentions, c.attention, **fixed), mlp(width, int(width * c.mlp_ratio), neuron, "membrane")
            )

        self.stages = meta_stages(c, neuron, convolution, attention)
        self.head = Head(c.widths[-1], c.classes, neuron)
        initialise(self)


class ConvStage(Stage):
    """A stage whose blocks are on maps."""

    def forward(self, maps: Tensor) -> Tensor:
        return self.blocks(self.embedding(maps))


class ConvBlock(nn.Module):
    """x + branch(x) for each of some branches on maps [T, B, C, H, W]."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        for branch in self.branches:
            x = x + branch(x)
        return x


def meta_stages(
    config: MetaConfig,
    neuron: NeuronFactory,
    convolution: Callable[[int], nn.Module],
    attention: Callable[[int, Grid], nn.Module],
) -> nn.Sequential:
    """Make the stages of a config.

    Parameters
    ----------
    config : MetaConfig
    neuron : NeuronFactory
    convolution : callable
        Makes a convolutional block of so many channels, on maps.
    attention : callable
        Makes a block of attention of so many channels on a grid, on tokens.
    """
    stages: list[nn.Module] = []
    before = config.channels
    parts = zip(config.widths, config.depths, config.layout, config.sides, strict=True)
    for stage, (width, depth, halve, side) in enumerate(parts):
        kernel = 7 if stage == 0 and halve else 3
        embedding: nn.Module = ConvNorm(before, width, kernel, stride=1 + halve)
        if stage:
            embedding = nn.Sequential(neuron(features=before, axis=-3), embedding)
        grid = (side, side)
        if stage < config.convolutional:
            stages.append(ConvStage(embedding, [convolution(width) for _ in range(depth)], grid))
        else:
            stages.append(Stage(embedding, [attention(width, grid) for _ in range(depth)], grid))
        before = width
    return nn.Sequential(*stages)


def separable(dim: int, neuron: NeuronFactory) -> nn.Sequential:
    """Neuron - 1x1 to twice the channels - norm - neuron - depth-wise 7x7 - 1x1 back - norm, on maps."""
    wide = 2 * dim
    return nn.Sequential(
        neuron(features=dim, axis=-3),
        Spiking(ConvNorm(dim, wide, 1), neuron(features=wide, axis=-3)),
        ConvNorm(wide, wide, 7, groups=wide, norm=False),
        ConvNorm(wide, dim, 1),
    )


def channel(dim: int, ratio: float, neuron: NeuronFactory) -> nn.Sequential:
    """Neuron - conv 3x3 to ``ratio`` times the channels - norm - neuron - conv 3x3 back - norm, on maps."""
    wide = int(dim * ratio)
    return nn.Sequential(
        neuron(features=dim, axis=-3),
        Spiking(ConvNorm(dim, wide), neuron(features=wide, axis=-3)),
        ConvNorm(wide, dim),
    )
