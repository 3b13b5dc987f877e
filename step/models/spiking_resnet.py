"""Residual network with neurons before its convolutions: the identity path carries real values from end to end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import ConfigDict, Field, model_validator
from torch import Tensor, nn

from neurons import NeuronFactory
from step.models.base import models
from step.models.feedforward import FeedForward, FeedForwardConfig
from step.models.layers import ConvNorm, Folded
from step.models.paper import Paper


class SpikingResNetConfig(FeedForwardConfig):
    """Sizes of a residual network; the defaults are ResNet-18 of 20 base channels for 32x32 colour images.

    20 base channels are the reduced ResNet-18 of continual learning (Lopez-Paz and Ranzato, NeurIPS 2017; Saha et al.,
    ICLR 2021; Xiao et al., ICLR 2024), 64 the usual width.
    """

    model_config = ConfigDict(validate_default=True)

    SIZES: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cifar": {},
        "cifar-64": {"width": 64},
        "five-datasets": {"classes": 50},
        "mini-imagenet": {"image_size": 84, "stem_kernel": 5, "stem_stride": 2, "classes": 100},
    }

    image_size: int = Field(32, ge=1)
    channels: int = Field(3, ge=1)
    width: int = Field(20, ge=1)
    """Channels of the first stage; each stage after it has twice as many."""
    depths: tuple[Annotated[int, Field(ge=1)], ...] = Field((2, 2, 2, 2), min_length=1)
    """Blocks of each stage; each stage after the first halves the map."""
    stem_kernel: int = Field(3, ge=1)
    """Side of the kernels of the first convolution, an odd number."""
    stem_stride: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.stem_kernel % 2 == 0:
            raise ValueError(f"stem_kernel must be odd, not {self.stem_kernel}")
        return self

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each stage."""
        return tuple(self.width * 2**stage for stage in range(len(self.depths)))


class PreActivation(nn.Module):
    """Norm, then neuron, on maps [T, B, C, H, W].

    Parameters
    ----------
    channels : int
    neuron : NeuronFactory
    norm : bool
        Whether there is a norm.
    """

    def __init__(self, channels: int, neuron: NeuronFactory, *, norm: bool = True) -> None:
        super().__init__()
        self.norm = Folded(nn.BatchNorm2d(channels)) if norm else nn.Identity()
        self.neuron = neuron(features=channels, axis=-3)

    def forward(self, x: Tensor) -> Tensor:
        return self.neuron(self.norm(x))


class ResidualBlock(nn.Module):
    """Basic block with activation first (He et al., ECCV 2016), on maps [T, B, C, H, W].

    s = neuron(norm(x)); y = shortcut + conv 3x3(neuron(norm(conv 3x3(s)))), where the shortcut is x itself, or a 1x1
    convolution of the spikes s where the block changes the size of its map.

    Parameters
    ----------
    inputs, outputs : int
        Channels.
    stride : int
        Of the first convolution and of the shortcut.
    neuron : NeuronFactory
    norm : bool
        Whether there are norms.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, neuron: NeuronFactory, *, norm: bool = True) -> None:
        super().__init__()
        self.before = PreActivation(inputs, neuron, norm=norm)
        self.first = ConvNorm(inputs, outputs, 3, stride, norm=norm)
        self.neuron = neuron(features=outputs, axis=-3)
        self.second = ConvNorm(outputs, outputs, 3, norm=False)
        changes = stride != 1 or inputs != outputs
        self.shortcut = ConvNorm(inputs, outputs, 1, stride, norm=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.before(x)
        shortcut = x if self.shortcut is None else self.shortcut(spikes)
        return shortcut + self.second(self.neuron(self.first(spikes)))


@models.register("resnet")
class SpikingResNet(FeedForward):
    """Pre-activation residual network: stem, stages of basic blocks, norm - neuron - mean over the map, linear.

    Every 3x3 and 1x1 convolution reads spikes; the stem reads pixels, the read-out mean rates of the last map. No
    convolution has a bias.
    """

    Config = SpikingResNetConfig
    config: SpikingResNetConfig
    paper = Paper(
        "Identity Mappings in Deep Residual Networks", "ECCV", 2016, "arXiv:1603.05027",
        note="Neurons stand for rectifiers; 20 base channels and the stem of 5x5, stride 2, are those of Hebbian "
        "orthogonal projection (Xiao et al., ICLR 2024).",
    )  # fmt: skip

    def __init__(self, config: SpikingResNetConfig, neuron: NeuronFactory) -> None:
        super().__init__(config, neuron)
        c = config
        layers: list[nn.Module] = [ConvNorm(c.channels, c.width, c.stem_kernel, c.stem_stride, norm=False)]
        inputs = c.width
        for stage, (outputs, depth) in enumerate(zip(c.widths, c.depths, strict=True)):
            for block in range(depth):
                stride = 2 if stage and not block else 1
                layers.append(ResidualBlock(inputs, outputs, stride, neuron, norm=c.norm))
                inputs = outputs
        last = PreActivation(inputs, neuron, norm=c.norm)
        self.layers = nn.Sequential(
            *layers, last, Folded(nn.AdaptiveAvgPool2d(1)), nn.Flatten(2), *self.readout(inputs)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def segments(self) -> list[nn.Module]:
        """Return the residual blocks."""
        return [layer for layer in self.layers if isinstance(layer, ResidualBlock)]
