"""QKFormer: Hierarchical Spiking Transformer using Q-K Attention (Zhou et al., NeurIPS 2024)."""

from __future__ import annotations

from typing import Any, Self

from pydantic import ConfigDict, Field, model_validator
from torch import Tensor, nn

from neurons import NeuronFactory
from step.models.base import models
from step.models.layers import ConvNorm, MaxPool, Spiking, initialise
from step.models.paper import Paper, Published
from step.models.transformer.attention import attentions
from step.models.transformer.embedding.base import halved
from step.models.transformer.head import Head
from step.models.transformer.mlp import mlp
from step.models.transformer.parts import AttentionPart, build
from step.models.transformer.pyramid import Form, Pyramid, PyramidConfig, Stage
from step.models.transformer.residual import Block

Three = tuple[int, int, int]

_IMAGENET: dict[str, Any] = {"depths": (1, 2, 7), "image_size": 224, "classes": 1000}


class QKFormerConfig(PyramidConfig):
    """Sizes of a QKFormer; the defaults are QKFormer-4-384 for 32x32 colour images."""

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
        "dvs-4-256": {"dim": 256, "image_size": 64, "channels": 2, "form": "cifar"},
    }  # fmt: skip

    dim: int = Field(384, ge=16)
    """Channels of the last stage; the first has a quarter, the second half of them."""
    depths: tuple[int, int, int] = (1, 1, 2)
    heads: int | Three = 8
    """Heads of all stages, or of each."""
    mlp_ratio: float = Field(4.0, gt=0)
    pools: tuple[bool, bool] = (True, True)
    """Whether the second and the third stage halve the map."""
    token_attention: AttentionPart = {"name": "qk"}
    """Attention of the first two stages."""
    attention: AttentionPart = {"name": "ssa", "order": "context", "bias": False}
    """Attention of the last stage."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.dim % 8:
            raise ValueError(f"dim must be a multiple of 8, not {self.dim}")
        if min(self.depths) < 0 or not sum(self.depths):
            raise ValueError(f"depths must be 0 or more blocks for each stage, not {list(self.depths)}")
        for width, heads in zip(self.widths, self.heads_by_stage, strict=True):
            if heads < 1 or width % heads:
                raise ValueError(f"each stage's dim must be a multiple of its heads, and {width} is not one of {heads}")
        times = sum(self.pools) + 2 * (self.chosen_form == "imagenet")
        if self.image_size < 2**times:
            raise ValueError(f"an image of {self.image_size} pixels cannot be halved {times} times; lower pools")
        return self

    @property
    def widths(self) -> Three:
        """Channels of the three stages."""
        return self.dim // 4, self.dim // 2, self.dim

    @property
    def heads_by_stage(self) -> Three:
        """Heads of the three stages."""
        return (self.heads, self.heads, self.heads) if isinstance(self.heads, int) else self.heads


@models.register("qkformer")
class QKFormer(Pyramid):
    """QKFormer (NeurIPS 2024): three stages, Q-K token attention in the first two, spike residual.

    Each stage embeds with a deformed shortcut (the sum of two spiking branches), then x = x + attention(x);
    x = x + MLP(x). Q-K token attention is linear in tokens; the last stage has SSA, Q (K^T V). Mean over tokens;
    linear. The stream holds sums of spikes.
    """

    Config = QKFormerConfig
    config: QKFormerConfig
    paper = Paper(
        "QKFormer: Hierarchical Spiking Transformer using Q-K Attention", "NeurIPS", 2024, "arXiv:2403.16552",
        published=(
            Published("cifar-4-384", "CIFAR-10", 96.18, 4, 6.74),
            Published("cifar-4-384", "CIFAR-100", 81.15, 4, 6.74),
            Published("imagenet-10-384", "ImageNet", 78.80, 4, 16.47),
            Published("imagenet-10-512", "ImageNet", 82.04, 4, 29.08),
            Published("imagenet-10-768", "ImageNet", 84.22, 4, 64.96),
            Published("imagenet-10-768, 288 pixels", "ImageNet", 85.25, 4, 64.96),
            Published("imagenet-10-768, 384 pixels", "ImageNet", 85.65, 4, 64.96),
            Published("dvs-4-256", "CIFAR10-DVS", 84.0, 16),
        ),
        note="Stage depths are 1/1/2 on CIFAR and 1/2/7 on ImageNet. On CIFAR the pool of an embedding follows its "
        "second convolution, on ImageNet its first; both pool before the neuron. 6.74 M are those of CIFAR-100, ten "
        "classes take 6.71 M.",
    )  # fmt: skip

    def __init__(self, config: QKFormerConfig, neuron: NeuronFactory) -> None:
        super().__init__(config, neuron)
        c, form = config, config.chosen_form
        first = c.widths[0]
        side = halved(c.image_size, 2 if form == "imagenet" else 0)
        embedding: nn.Module = (
            _quarter(c.channels, first, neuron) if form == "imagenet" else _full(c.channels, first, neuron)
        )
        stages = []
        for stage, (width, heads, depth) in enumerate(zip(c.widths, c.heads_by_stage, c.depths, strict=True)):
            if stage:
                halve = c.pools[stage - 1]
                side = halved(side, halve)
                embedding = _further(c.widths[stage - 1], width, halve, form, neuron)
            part = c.attention if stage == 2 else c.token_attention
            fixed = {"dim": width, "heads": heads, "neuron": neuron, "grid": (side, side), "residual": "spike"}
            blocks: list[nn.Module] = [
                Block(build(attentions, part, **fixed), mlp(width, int(width * c.mlp_ratio), neuron))
                for _ in range(depth)
            ]
            stages.append(Stage(embedding, blocks, (side, side)))
        self.stages = nn.Sequential(*stages)
        self.head = Head(c.dim, c.classes)
        initialise(self)


class DeformedShortcut(nn.Module):
    """Two spiking branches, summed: main(stem(x)) + shortcut(stem(x)).

    Parameters
    ----------
    stem, main, shortcut : nn.Module
        On maps [T, B, C, H, W].
    """

    def __init__(self, stem: nn.Module, main: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.stem, self.main, self.shortcut = stem, main, shortcut

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.main(x) + self.shortcut(x)


def _layer(
    inputs: int, outputs: int, neuron: NeuronFactory, kernel: int = 3, stride: int = 1, *, pool: bool = False
) -> Spiking:
    """Convolution, norm, max-pooling where asked for, neuron."""
    conv = ConvNorm(inputs, outputs, kernel, stride)
    return Spiking(nn.Sequential(conv, MaxPool()) if pool else conv, neuron(features=outputs, axis=-3))


def _full(channels: int, dim: int, neuron: NeuronFactory) -> DeformedShortcut:
    """First embedding of the CIFAR form, at full resolution."""
    half = dim // 2
    return DeformedShortcut(
        _layer(channels, half, neuron), _layer(half, dim, neuron), _layer(half, dim, neuron, kernel=1)
    )  # fmt: skip


def _quarter(channels: int, dim: int, neuron: NeuronFactory) -> DeformedShortcut:
    """First embedding of the ImageNet form, at a quarter of the resolution."""
    half = dim // 2
    return DeformedShortcut(
        _layer(channels, half, neuron, pool=True),
        nn.Sequential(_layer(half, dim, neuron, pool=True), _layer(dim, dim, neuron)),
        _layer(half, dim, neuron, kernel=1, stride=2),
    )


def _further(inputs: int, outputs: int, halve: bool, form: Form, neuron: NeuronFactory) -> DeformedShortcut:
    """Embedding of the second and third stage."""
    early = halve and form == "imagenet"
    return DeformedShortcut(
        nn.Identity(),
        nn.Sequential(
            _layer(inputs, outputs, neuron, pool=early), _layer(outputs, outputs, neuron, pool=halve and not early)
        ),
        _layer(inputs, outputs, neuron, kernel=1, stride=1 + halve),
    )
