"""Convolution or linear layer with its norm, time folded into the batch."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from step.models.base import fold_time


class ConvNorm(nn.Module):
    """Convolution without bias, then batch norm, on maps [T, B, C, H, W].

    Parameters
    ----------
    inputs, outputs : int
        Channels.
    kernel, stride : int
        The padding is ``kernel // 2``.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return fold_time(lambda maps: self.norm(self.conv(maps)), x)


class LinearNorm(nn.Module):
    """Linear layer with bias, then batch norm over channels, on tokens [T, B, N, C]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.norm = nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return fold_time(self._tokens, x)

    def _tokens(self, tokens: Tensor) -> Tensor:
        # Channels stay last: the norm sees [samples, C], and nothing is transposed.
        return self.norm(self.linear(tokens.flatten(0, -2))).unflatten(0, tokens.shape[:-1])


class MaxPool(nn.Module):
    """Max-pooling 3x3, stride 2, padding 1, on maps [T, B, C, H, W]; halves the side, rounding up."""

    def forward(self, x: Tensor) -> Tensor:
        return fold_time(lambda maps: F.max_pool2d(maps, kernel_size=3, stride=2, padding=1), x)


def initialise(network: nn.Module) -> None:
    """Set linear weights to a truncated normal of deviation 0.02, biases to 0; norms start as the identity."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
