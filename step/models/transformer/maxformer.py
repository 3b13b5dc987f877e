"""Max-Former: Spiking Neural Networks Need High Frequency Information (Fang et al., NeurIPS 2025)."""

from __future__ import annotations

from typing import Any, Self

from pydantic import ConfigDict, Field, model_validator
from torch import Tensor, nn

from neurons import NeuronFactory
from step.models.base import models
from step.models.layers import ConvNorm, MaxPool, Spiking, initialise
from step.models.paper import Paper, Published
from step.models.transformer.attention import Grid, attentions
from step.models.transformer.embedding import to_maps, to_tokens
from step.models.transformer.embedding.base import halved
from step.models.transformer.head import Head
from step.models.transformer.mlp import mlp
from step.models.transformer.parts import AttentionPart, build
from step.models.transformer.pyramid import Pyramid, PyramidConfig, Stage
from step.models.transformer.residual import Block

_LOGS = "last epoch of the training logs beside the published code"
_IMAGENET: dict[str, Any] = {"depths": (1, 2, 7), "image_size": 224, "classes": 1000}


class MaxFormerConfig(PyramidConfig):
    """Sizes of a Max-Former; the defaults are Max-Former-4-384 for 32x32 colour images."""

    model_config = ConfigDict(validate_default=True)

    SIZES = {
        "digits": {
            "depths": (1, 1, 1), "dim": 64, "heads": 4, "mlp_ratio": 2.0, "pools": (False, True),
            "image_size": 8, "channels": 1,
        },
        "fashion": {
            "depths": (1, 1, 2), "dim": 64, "heads": 4, "mlp_ratio": 2.0, "image_size": 28, "channels": 1,
        },
        "cifar-4-384": {},
        "imagenet-10-384": {**_IMAGENET, "heads": 6},
        "imagenet-10-512": {**_IMAGENET, "dim": 512, "heads": 8},
        "imagenet-10-768": {**_IMAGENET, "dim": 768, "heads": 12},
    }  # fmt: skip

    dim: int = Field(384, ge=16)
    """Channels of the last stage; the first has a quarter, the second half of them."""
    depths: tuple[int, int, int] = (1, 1, 2)
    heads: int = Field(8, ge=1)
    """Heads of the attention in the last stage."""
    mlp_ratio: float = Field(4.0, gt=0)
    pools: tuple[bool, bool] = (True, True)
    """Whether the second and the third stage halve the map."""
    kernels: tuple[int, int] | None = None
    """Side of the depth-wise convolutions of the first two stages, 0 for none; 0 and 3 in the CIFAR form, 7 and 5 in
    that of ImageNet when left out."""
    attention: AttentionPart = {"name": "ssa", "order": "context", "bias": False}
    """Attention of the last stage."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.dim % 8:
            raise ValueError(f"dim must be a multiple of 8, not {self.dim}")
        if self.dim % self.heads:
            raise ValueError(f"dim must be a multiple of heads, and {self.dim} is not one of {self.heads}")
        if min(self.depths) < 0 or not sum(self.depths):
            raise ValueError(f"depths must be 0 or more blocks for each stage, not {list(self.depths)}")
        if any(kernel < 0 or (kernel and not kernel % 2) for kernel in self.mixing):
            raise ValueError(f"kernels must be odd, or 0 for none, not {list(self.mixing)}")
        times = sum(self.pools) + 2 * (self.chosen_form == "imagenet")
        if self.image_size < 2**times:
            raise ValueError(f"an image of {self.image_size} pixels cannot be halved {times} times; lower pools")
        return self

    @property
    def mixing(self) -> tuple[int, int]:
        """The kernels asked for, or those of the form."""
        return self.kernels or ((7, 5) if self.chosen_form == "imagenet" else (0, 3))

    @property
    def widths(self) -> tuple[int, int, int]:
        """Channels of the three stages."""
        return self.dim // 4, self.dim // 2, self.dim


@models.register("maxformer")
class MaxFormer(Pyramid):
    """Max-Former (NeurIPS 2025): high frequencies, which spiking neurons damp, restored by pooling and convolution.

    Max-pooling of the currents in the embeddings; depth-wise convolution in place of attention in the first two stages,
    spiking self-attention in the last; membrane residual. Block: u = u + mixing(u); u = u + MLP(u). Neuron of the mean
    over tokens; linear.
    """

    Config = MaxFormerConfig
    config: MaxFormerConfig
    paper = Paper(
        "Spiking Neural Networks Need High Frequency Information", "NeurIPS", 2025, "arXiv:2505.18608",
        published=(
            Published("cifar-4-384", "CIFAR-10", 96.79, 4, source=_LOGS),
            Published("cifar-4-384", "CIFAR-100", 82.44, 4, source=_LOGS),
            Published("imagenet-10-384", "ImageNet", 77.49, 4, source=_LOGS),
            Published("imagenet-10-512", "ImageNet", 75.21, 1, source=_LOGS),
            Published("imagenet-10-768", "ImageNet", 82.39, 4, 63.99),
        ),
        note="In the CIFAR form the published code has two neurons on the first map, which fire alike; here is one.",
    )  # fmt: skip

    def __init__(self, config: MaxFormerConfig, neuron: NeuronFactory) -> None:
        super().__init__(config, neuron)
        c, form = config, config.chosen_form
        side = halved(c.image_size, 2 if form == "imagenet" else 0)
        first = _quarter if form == "imagenet" else _full
        embedding: nn.Module = first(c.channels, c.widths[0], neuron)
        stages = []
        for stage, (width, depth) in enumerate(zip(c.widths, c.depths, strict=True)):
            if stage:
                embedding = MaxEmbedding(c.widths[stage - 1], width, c.pools[stage - 1], neuron)
                side = halved(side, c.pools[stage - 1])
            blocks = [self._block(stage, width, (side, side)) for _ in range(depth)]
            stages.append(Stage(embedding, blocks, (side, side)))
        self.stages = nn.Sequential(*stages)
        self.head = Head(c.dim, c.classes, neuron)
        initialise(self)

    def _block(self, stage: int, width: int, grid: Grid) -> nn.Module:
        c, neuron = self.config, self.neuron
        perceptron = mlp(width, int(width * c.mlp_ratio), neuron, "membrane")
        if stage == 2:
            fixed = {"dim": width, "heads": c.heads, "neuron": neuron, "grid": grid, "residual": "membrane"}
            return Block(build(attentions, c.attention, **fixed), perceptron)
        if c.mixing[stage]:
            return Block(DepthwiseMixing(width, c.mixing[stage], neuron, grid), perceptron)
        return ChannelBlock(perceptron)


class ChannelBlock(nn.Module):
    """x + mlp(x): a block that does not mix tokens."""

    def __init__(self, mlp: nn.Module) -> None:
        super().__init__()
        self.mlp = mlp

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(x)


class DepthwiseMixing(nn.Module):
    """norm(depth-wise conv(neuron(x))) on the map of tokens [T, B, N, C]."""

    def __init__(self, dim: int, kernel: int, neuron: NeuronFactory, grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        self.neuron = neuron(features=dim)
        self.conv = ConvNorm(dim, dim, kernel, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        return to_tokens(self.conv(to_maps(self.neuron(x), self.grid)))


class TwoBranches(nn.Module):
    """main(stem(x)) + shortcut(stem(x)) on maps [T, B, C, H, W]; the sum is real-valued."""

    def __init__(self, stem: nn.Module, main: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.stem, self.main, self.shortcut = stem, main, shortcut

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.main(x) + self.shortcut(x)


def _full(channels: int, dim: int, neuron: NeuronFactory) -> TwoBranches:
    """First embedding of the CIFAR form, at full resolution."""
    half = dim // 2
    return TwoBranches(
        Spiking(ConvNorm(channels, half), neuron(features=half, axis=-3)),
        ConvNorm(half, dim),
        ConvNorm(half, dim, 1),
    )


def _quarter(channels: int, dim: int, neuron: NeuronFactory) -> TwoBranches:
    """First embedding of the ImageNet form, at a quarter of the resolution."""
    half = dim // 2
    return TwoBranches(
        Spiking(ConvNorm(channels, half, stride=2), neuron(features=half, axis=-3)),
        nn.Sequential(Spiking(ConvNorm(half, dim, stride=2), neuron(features=dim, axis=-3)), ConvNorm(dim, dim)),
        ConvNorm(half, dim, 1, stride=2),
    )


class MaxEmbedding(TwoBranches):
    """Embedding of the later stages: neuron, then two branches whose currents are max-pooled.

    Main: conv 3x3 - norm - max-pool - neuron - conv 3x3 - norm. Shortcut: conv 1x1 - norm - max-pool.
    """

    def __init__(self, inputs: int, outputs: int, halve: bool, neuron: NeuronFactory) -> None:
        pool = [MaxPool()] if halve else []
        super().__init__(
            neuron(features=inputs, axis=-3),
            nn.Sequential(
                Spiking(nn.Sequential(ConvNorm(inputs, outputs), *pool), neuron(features=outputs, axis=-3)),
                ConvNorm(outputs, outputs),
            ),
            nn.Sequential(ConvNorm(inputs, outputs, 1), *pool),
        )
