"""E-SpikeFormer, Spike-driven Transformer V3 (Yao et al., IEEE TPAMI 2025)."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

from neurons import NeuronFactory
from step.models.base import models
from step.models.layers import ConvNorm, LinearNorm, Spiking, initialise
from step.models.paper import Paper, Published
from step.models.transformer.attention import Grid, attentions
from step.models.transformer.embedding import to_maps, to_tokens
from step.models.transformer.head import Head
from step.models.transformer.metaspikeformer import ConvBlock, MetaConfig, channel, meta_stages
from step.models.transformer.mlp import mlp
from step.models.transformer.parts import AttentionPart, build
from step.models.transformer.pyramid import Pyramid

_IMAGENET: dict[str, Any] = {"image_size": 224, "classes": 1000}
_LARGE: dict[str, Any] = {
    **_IMAGENET, "depths": (1, 1, 2, 12), "separable": False,
    "attention": {"name": "e-sdsa", "expansion": 1, "inner": 1.5, "scale": 0.125},
}  # fmt: skip


class ESpikeFormerConfig(MetaConfig):
    """Sizes of an E-SpikeFormer; the defaults are the widths of 10 M for 32x32 colour images."""

    SIZES = {
        "digits": {
            "widths": (16, 32, 48, 64, 64), "depths": (1, 1, 1, 1, 1), "heads": 4, "mlp_ratio": 2.0,
            "attention": {"name": "e-sdsa", "expansion": 2}, "image_size": 8, "channels": 1,
        },
        "fashion": {
            "widths": (8, 16, 32, 64, 64), "depths": (1, 1, 1, 1, 1), "heads": 4, "mlp_ratio": 2.0,
            "attention": {"name": "e-sdsa", "expansion": 2}, "image_size": 28, "channels": 1,
        },
        "cifar-8-192": {},
        "imagenet-8-128": {**_IMAGENET, "widths": (16, 32, 64, 128, 192)},
        "imagenet-8-192": {**_IMAGENET},
        "imagenet-8-256": {**_IMAGENET, "widths": (32, 64, 128, 256, 360)},
        "imagenet-12-512": {**_LARGE, "widths": (64, 128, 256, 512), "local": "pointwise"},
        "imagenet-12-768": {**_LARGE, "widths": (98, 196, 384, 768), "local": "none"},
    }  # fmt: skip

    widths: tuple[int, ...] = (24, 48, 96, 192, 240)
    separable: bool = True
    """Whether the convolutional blocks begin with a separable convolution."""
    local: Literal["depthwise", "pointwise", "none"] = "depthwise"
    """What stands before the attention of a block: a separable convolution of 3x3, two linear layers, or nothing."""
    attention: AttentionPart = {"name": "e-sdsa"}


@models.register("espikeformer")
class ESpikeFormer(Pyramid):
    """E-SpikeFormer (TPAMI 2025): Meta-SpikeFormer with spikes before every layer, made for neurons that count.

    Convolutional block: u = u + separable convolution(u); u = u + channel convolution(u). Block of attention:
    u = u + separable convolution(u); u = u + E-SDSA(u); u = u + MLP(u). Neuron of the mean over tokens; linear.
    With the neuron ``sfa-lif`` (spike firing approximation) it is trained on counts of 0 to D in one time step and run
    as D binary sub-steps.
    """

    Config = ESpikeFormerConfig
    config: ESpikeFormerConfig
    paper = Paper(
        "Scaling Spike-driven Transformer with Efficient Spike Firing Approximation Training", "IEEE TPAMI", 2025,
        "arXiv:2411.16061",
        published=(
            Published("imagenet-8-192", "ImageNet", 78.5, None, 10.0),
            Published("imagenet-8-256", "ImageNet", 79.8, None, 19.0),
            Published("imagenet-12-512", "ImageNet", 84.0, None, 83.0),
            Published("imagenet-12-768, 384 pixels", "ImageNet", 86.2, 8, 173.0),
        ),
        note="T of the paper is the number D of sub-steps. The two large models follow the published code, in which "
        "values are as wide as keys, projections are two linear layers, and there are no separable convolutions; they "
        "were pre-trained as masked autoencoders and distilled. Their layer scales, which the norms take in, and the "
        "second read-out for distillation are not here.",
    )  # fmt: skip

    def __init__(self, config: ESpikeFormerConfig, neuron: NeuronFactory) -> None:
        super().__init__(config, neuron)
        c = config

        def convolution(width: int) -> nn.Module:
            wide = channel(width, c.mlp_ratio, neuron)
            return ConvBlock(spiking_separable(width, 7, neuron), wide) if c.separable else ConvBlock(wide)

        def attention(width: int, grid: Grid) -> nn.Module:
            fixed = {"dim": width, "heads": c.heads, "neuron": neuron, "grid": grid, "residual": "membrane"}
            branches: list[nn.Module] = [
                build(attentions, c.attention, **fixed), mlp(width, int(width * c.mlp_ratio), neuron, "membrane"),
            ]  # fmt: skip
            if c.local == "depthwise":
                branches.insert(0, OnMaps(spiking_separable(width, 3, neuron), grid))
            elif c.local == "pointwise":
                layers = [LinearNorm(width, width, bias=False) for _ in range(2)]
                branches.insert(0, nn.Sequential(neuron(features=width), *layers))
            return ConvBlock(*branches)

        self.stages = meta_stages(c, neuron, convolution, attention)
        self.head = Head(c.widths[-1], c.classes, neuron)
        initialise(self)


class OnMaps(nn.Module):
    """A layer on maps, applied to the tokens [T, B, N, C] of a map."""

    def __init__(self, layer: nn.Module, grid: Grid) -> None:
        super().__init__()
        self.layer, self.grid = layer, grid

    def forward(self, tokens: Tensor) -> Tensor:
        return to_tokens(self.layer(to_maps(tokens, self.grid)))


def spiking_separable(dim: int, kernel: int, neuron: NeuronFactory) -> nn.Sequential:
    """Neuron - 1x1 to twice the channels - norm - neuron - depth-wise - norm - neuron - 1x1 back - norm, on maps."""
    wide = 2 * dim
    return nn.Sequential(
        neuron(features=dim, axis=-3),
        Spiking(ConvNorm(dim, wide, 1), neuron(features=wide, axis=-3)),
        Spiking(ConvNorm(wide, wide, kernel, groups=wide), neuron(features=wide, axis=-3)),
        ConvNorm(wide, dim, 1),
    )
