"""Layers whose weights are quantised with a learned step size (LSQ, Esser et al., ICLR 2020)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neurons.conventional import first_step, learned_step


class _QuantisedWeight(nn.Module):
    """What quantised layers share: takes over the weights of a layer and quantises them in every pass.

    w -> d round(clamp(w / d, -q, q)), q = 2^(bits-1) - 1, one step size d for the layer, learned with the weights.
    Codes are symmetric about 0. The bias is added to the sums and stays as it is.
    """

    weight: Any
    weight_step: nn.Parameter

    def adopt(self, layer: nn.Module, bits: int) -> None:
        """Take over weight and bias of ``layer``; a frozen weight stays frozen."""
        for name in ("weight", "bias"):
            value = getattr(layer, name)
            delattr(self, name)
            if value is None or isinstance(value, nn.Parameter):
                self.register_parameter(name, value)
            else:
                self.register_buffer(name, value)
        self.weight_bits, self.high = bits, 2 ** (bits - 1) - 1
        self.weight_step = nn.Parameter(torch.empty((), device=self.weight.device, dtype=self.weight.dtype))
        self.fit()

    def fit(self) -> None:
        """Set the step size from the weights, as LSQ does at the start: 2 E|w| / sqrt(q)."""
        if not self.weight.is_meta:
            with torch.no_grad():
                self.weight_step.fill_(first_step(float(self.weight.abs().mean()), self.high))

    def quantised_weight(self) -> Tensor:
        """Return the weights that are multiplied."""
        return learned_step(self.weight, self.weight_step, -self.high, self.high, self.weight.numel())

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, weight_bits={self.weight_bits}"


class QuantisedLinear(_QuantisedWeight, nn.Linear):
    """Linear layer with quantised weights, made of a plain one."""

    def __init__(self, layer: nn.Linear, bits: int) -> None:
        nn.Linear.__init__(self, layer.in_features, layer.out_features, device="meta")
        self.adopt(layer, bits)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.quantised_weight(), self.bias)


class QuantisedConv2d(_QuantisedWeight, nn.Conv2d):
    """Convolution with quantised weights, made of a plain one."""

    def __init__(self, layer: nn.Conv2d, bits: int) -> None:
        nn.Conv2d.__init__(
            self, layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride,  # type: ignore[arg-type]
            layer.padding, layer.dilation, layer.groups, device="meta",  # type: ignore[arg-type]
        )  # fmt: skip
        self.adopt(layer, bits)

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.quantised_weight(), self.bias)


def quantise_weights(network: nn.Module, bits: int, edges: int) -> None:
    """Replace all linear layers and convolutions of a network by quantised ones, in place.

    Parameters
    ----------
    network : nn.Module
        With its initial weights.
    bits : int
        Bits of a weight with its sign.
    edges : int
        Bits of the first and of the last layer, in the order in which the network holds them.
    """
    found = [
        (parent, name, child)
        for parent in network.modules()
        for name, child in parent.named_children()
        if isinstance(child, (nn.Linear, nn.Conv2d))
    ]
    for place, (parent, name, layer) in enumerate(found):
        width = edges if place in (0, len(found) - 1) else bits
        quantised = QuantisedLinear if isinstance(layer, nn.Linear) else QuantisedConv2d
        setattr(parent, name, quantised(layer, width))  # type: ignore[arg-type]
