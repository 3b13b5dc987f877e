"""Layers that networks share; none of them knows time, so time is folded into the batch."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from neurons import Neuron
from neurons.plain import is_plain
from neurons.products import spike_conv2d, spike_linear
from step.models.base import fold_time


class Linear(nn.Linear):
    """Linear layer that adds up spikes event by event where that is faster; see :mod:`neurons.products`."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if is_plain() else spike_linear(x, self.weight, self.bias)


class Conv2d(nn.Conv2d):
    """Convolution that adds up spikes event by event where that is faster; see :mod:`neurons.products`."""

    def forward(self, x: Tensor) -> Tensor:
        usual = self.groups == 1 and self.dilation == (1, 1) and self.padding_mode == "zeros"
        if is_plain() or not usual or isinstance(self.padding, str):
            return super().forward(x)
        return spike_conv2d(x, self.weight, self.bias, self.stride, self.padding)  # type: ignore[arg-type]


class ConvNorm(nn.Module):
    """Convolution, then batch norm, on maps [T, B, C, H, W].

    Parameters
    ----------
    inputs, outputs : int
        Channels.
    kernel, stride : int or (int, int)
    padding : int, optional
        ``kernel // 2`` when left out.
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
        kernel: int | tuple[int, int] = 3,
        stride: int | tuple[int, int] = 1,
        *,
        padding: int | None = None,
        groups: int = 1,
        norm: bool = True,
        bias: bool = False,
    ) -> None:
        super().__init__()
        half = kernel // 2 if isinstance(kernel, int) else (kernel[0] // 2, kernel[1] // 2)
        around = half if padding is None else padding
        self.conv = Conv2d(inputs, outputs, kernel, stride, padding=around, groups=groups, bias=bias)
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
        self.linear = Linear(inputs, outputs, bias=bias)
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
