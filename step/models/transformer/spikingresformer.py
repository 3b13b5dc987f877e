"""SpikingResformer: Bridging ResNet and Vision Transformer in Spiking Neural Networks (Shi et al., CVPR 2024)."""

from __future__ import annotations

from typing import Any, Self

from pydantic import ConfigDict, Field, model_validator
from torch import Tensor, nn

from neurons import NeuronFactory
from step.models.base import models
from step.models.layers import ConvNorm, LinearNorm, MaxPool, initialise
from step.models.paper import Paper, Published
from step.models.transformer.attention.dssa import DualSpikeSelfAttention
from step.models.transformer.embedding import to_maps, to_tokens
from step.models.transformer.embedding.base import halved
from step.models.transformer.head import Head
from step.models.transformer.pyramid import Pyramid, PyramidConfig, Stage
from step.models.transformer.residual import Block

_IMAGENET: dict[str, Any] = {"image_size": 224, "classes": 1000}


class SpikingResformerConfig(PyramidConfig):
    """Sizes of a SpikingResformer; the defaults are those for 32x32 colour images."""

    model_config = ConfigDict(validate_default=True)

    SIZES = {
        "digits": {
            "widths": (32, 64), "heads": (1, 2), "patches": (2, 1), "depths": (1, 1), "mlp_ratio": 2.0, "group": 32,
            "image_size": 8, "channels": 1,
        },
        "fashion": {
            "widths": (16, 32, 64), "heads": (1, 2, 4), "depths": (1, 1, 2), "mlp_ratio": 2.0, "group": 16,
            "image_size": 28, "channels": 1,
        },
        "cifar-ti": {},
        "imagenet-ti": {**_IMAGENET},
        "imagenet-s": {**_IMAGENET, "widths": (64, 256, 512), "heads": (1, 4, 8)},
        "imagenet-m": {**_IMAGENET, "widths": (64, 384, 768), "heads": (1, 6, 12)},
        "imagenet-l": {**_IMAGENET, "widths": (128, 512, 1024), "heads": (2, 8, 16)},
    }  # fmt: skip

    widths: tuple[int, ...] = (64, 192, 384)
    """Channels of each stage; each stage behind the first halves the map."""
    heads: tuple[int, ...] = (1, 3, 6)
    patches: tuple[int, ...] = (4, 2, 1)
    """Side of the patches of the attention in each stage."""
    depths: tuple[int, ...] = (1, 2, 3)
    mlp_ratio: float = Field(4.0, gt=0)
    group: int = Field(64, ge=1)
    """Channels in each group of the 3x3 convolution of the feed-forward networks."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        lengths = {len(self.widths), len(self.heads), len(self.patches), len(self.depths)}
        if lengths != {len(self.widths)} or not self.widths:
            raise ValueError("widths, heads, patches and depths need one entry for each stage, all as many")
        if min(*self.widths, *self.heads, *self.patches, 1) < 1 or min(self.depths) < 0 or not sum(self.depths):
            raise ValueError("widths, heads and patches must be positive, depths 0 or more")
        for width, heads in zip(self.widths, self.heads, strict=True):
            if width % heads:
                raise ValueError(f"each width must be a multiple of its heads, and {width} is not one of {heads}")
            if self.hidden(width) % self.group:
                raise ValueError(
                    f"mlp_ratio times each width must be a multiple of group, and {self.hidden(width)} is not one of "
                    f"{self.group}"
                )
        for side, patch in zip(self.sides, self.patches, strict=True):
            if patch > side:
                raise ValueError(f"a patch of side {patch} does not fit a map of side {side}; lower patches")
        return self

    def hidden(self, width: int) -> int:
        """Width of the hidden layers of a stage."""
        return int(width * self.mlp_ratio)

    @property
    def sides(self) -> tuple[int, ...]:
        """Side of the map in each stage."""
        first = halved(self.image_size, 2 if self.chosen_form == "imagenet" else 0)
        return tuple(halved(first, stage) for stage in range(len(self.widths)))


@models.register("spikingresformer")
class SpikingResformer(Pyramid):
    """SpikingResformer (CVPR 2024): a pyramid of dual spike self-attention and group-wise convolution.

    Stem: conv 3x3 - norm (ImageNet: conv 7x7, stride 2 - norm - max-pooling). Between stages: neuron - conv 3x3,
    stride 2 - norm. Blocks: u = u + DSSA(u); u = u + GWFFN(u), membrane residual. Mean over tokens; linear.
    """

    Config = SpikingResformerConfig
    config: SpikingResformerConfig
    paper = Paper(
        "SpikingResformer: Bridging ResNet and Vision Transformer in Spiking Neural Networks", "CVPR", 2024,
        "arXiv:2403.14302",
        published=(
            Published("imagenet-l", "ImageNet", 79.40, 4, 60.38),
            Published("transfer from ImageNet", "CIFAR-10", 97.40),
            Published("transfer from ImageNet", "CIFAR-100", 85.98),
            Published("transfer from ImageNet", "CIFAR10-DVS", 84.8, None),
        ),
        note="The scale of the second product uses the number of patches of the map at hand, whatever the image size. "
        "A firing rate still at 0 counts as 1, and is set by the first training batch in which its head spikes.",
    )  # fmt: skip

    def __init__(self, config: SpikingResformerConfig, neuron: NeuronFactory) -> None:
        super().__init__(config, neuron)
        c = config
        if c.chosen_form == "imagenet":
            embedding: nn.Module = nn.Sequential(ConvNorm(c.channels, c.widths[0], 7, 2), MaxPool())
        else:
            embedding = ConvNorm(c.channels, c.widths[0])
        stages = []
        for stage, (width, heads, patch, depth, side) in enumerate(
            zip(c.widths, c.heads, c.patches, c.depths, c.sides, strict=True)
        ):
            if stage:
                before = c.widths[stage - 1]
                embedding = nn.Sequential(neuron(features=before, axis=-3), ConvNorm(before, width, stride=2))
            grid = (side, side)
            blocks: list[nn.Module] = [
                Block(
                    DualSpikeSelfAttention(width, heads, neuron, grid=grid, residual="membrane", patch=patch),
                    GroupWiseFFN(width, c.hidden(width), c.group, neuron, grid),
                )
                for _ in range(depth)
            ]
            stages.append(Stage(embedding, blocks, grid))
        self.stages = nn.Sequential(*stages)
        self.head = Head(c.widths[-1], c.classes)
        initialise(self)


class GroupWiseFFN(nn.Module):
    """Group-wise spiking feed-forward network (GWFFN), membrane residual, on tokens [T, B, N, C].

    a = norm(W1 neuron(x)); a = a + norm(conv 3x3 in groups(neuron(a))); out = norm(W2 neuron(a)).

    Parameters
    ----------
    dim, hidden : int
        Channels of x and of a.
    group : int
        Channels in a group.
    neuron : NeuronFactory
    grid : (int, int)
        Height and width of the tokens.
    """

    def __init__(self, dim: int, hidden: int, group: int, neuron: NeuronFactory, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.up = nn.Sequential(neuron(features=dim), LinearNorm(dim, hidden, bias=False))
        self.local = nn.Sequential(neuron(features=hidden, axis=-3), ConvNorm(hidden, hidden, groups=hidden // group))
        self.down = nn.Sequential(neuron(features=hidden), LinearNorm(hidden, dim, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        a = self.up(x)
        return self.down(a + to_tokens(self.local(to_maps(a, self.grid))))
