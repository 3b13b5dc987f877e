"""Layers that networks share; none of them knows time, so time is folded into the batch."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from neurons import Neuron
from step.models.base import fold_time


class ConvNorm(nn.Module):
    """Convolution, then batch norm, on maps [T, B, C, H, W].

    Parameters
    ----------
    inputs, outputs : int
        Channels.
    kernel, stride : int
        The padding is ``kernel // 2``.
    groups : int
        Groups of channels that do not hear each other; ``inputs`` for a depth-wise convolution.
    norm : bool
        Whether there is a norm.
    bias : bool
        Whether the convolution has a bias; a norm brings its own.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 3,
        stride: int = 1,
        *,
        groups: int = 1,
        norm: bool = True,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=bias)
        self.norm = nn.BatchNorm2d(outputs) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return fold_time(lambda maps: self.norm(self.conv(maps)), x)


class LinearNorm(nn.Module):
    """Linear layer, then batch norm over channels, on tokens [T, B, N, C] or vectors [T, B, C].

    Parameters
    ----------
    inputs, outputs : int
        Channels.
    norm, bias : bool
        Whether there is a norm, and whether the linear layer has a bias.
    """

    def __init__(self, inputs: int, outputs: int, *, norm: bool = True, bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=bias)
        self.norm = nn.BatchNorm1d(outputs) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return fold_time(self._tokens, x)

    def _tokens(self, tokens: Tensor) -> Tensor:
        # Channels stay last: the norm sees [samples, C], and nothing is transposed.
        return self.norm(self.linear(tokens.flatten(0, -2))).unflatten(0, tokens.shape[:-1])


class Spiking(nn.Module):
    """A layer with its norm, and the neuron that follows at once.

    Parameters
    ----------
    layer : nn.Module
        :class:`ConvNorm`, :class:`LinearNorm`, or any layer on [T, B, ...].
    neuron : Neuron
    """

    def __init__(self, layer: nn.Module, neuron: Neuron) -> None:
        super().__init__()
        self.layer = layer
        self.neuron = neuron

    def forward(self, x: Tensor) -> Tensor:
        return self.neuron(self.layer(x))


class MaxPool(nn.Module):
    """Max-pooling 3x3, stride 2, padding 1, on maps [T, B, C, H, W]; halves the side, rounding up."""

    def forward(self, x: Tensor) -> Tensor:
        return fold_time(lambda maps: F.max_pool2d(maps, kernel_size=3, stride=2, padding=1), x)


class Folded(nn.Module):
    """Any layer of torch that knows no time, applied to every step of [T, B, ...].

    Parameters
    ----------
    layer : nn.Module
        Takes [B, ...].
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return fold_time(self.layer, x)


def initialise(network: nn.Module) -> None:
    """Set linear weights to a truncated normal of deviation 0.02, biases to 0; norms start as the identity."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
