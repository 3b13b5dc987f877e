"""Temporal convolutional networks: causal convolutions over time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from neurons import NeuronFactory, State
from step.models.base import fold_time, models
from step.models.paper import Paper
from step.models.sequence.budget import BudgetConfig
from step.models.sequence.stacked import AtOnce, Stacked


class CausalConv(AtOnce):
    """Convolution over time that sees this step and those before: y_t = b + sum over i of W_i x_{t - i d}.

    Its state is the inputs of the last (kernel - 1) d steps, zeros at first.

    Parameters
    ----------
    inputs, outputs : int
    kernel : int
        Number of steps that are summed.
    dilation : int
        d, distance between them in time steps.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int = 1) -> None:
        past = (kernel - 1) * dilation
        super().__init__(inputs, {"past": inputs * past})
        self.dilation, self.past = dilation, past
        self.conv = nn.Conv1d(inputs, outputs, kernel)

    def step(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        window = torch.cat((past, x), 1).unflatten(1, (self.past + 1, self.inputs))
        taps = window[:, :: self.dilation].transpose(1, 2)
        return self.conv(taps).squeeze(2), window[:, 1:].flatten(1)

    def at_once(self, x: Tensor, state: State | None, *, keep: bool) -> tuple[Tensor, State]:
        maps = x.permute(1, 2, 0)
        if state is None:
            maps = F.pad(maps, (self.past, 0))
        else:
            maps = torch.cat((state["past"].unflatten(1, (self.past, self.inputs)).transpose(1, 2), maps), 2)
        y = F.conv1d(maps, self.conv.weight, self.conv.bias, dilation=self.dilation)
        last = maps[:, :, maps.shape[2] - self.past :].transpose(1, 2).flatten(1)
        return y.permute(2, 0, 1), {"past": last}

    def extra_repr(self) -> str:
        return f"dilation={self.dilation}"


class CausalConvNorm(nn.Module):
    """Causal convolution, batch norm, rectifier, on [T, B, C]. In eval mode nothing is heard of later steps."""

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.conv = CausalConv(inputs, outputs, kernel, dilation)
        self.norm = nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(fold_time(self.norm, self.conv(x)))


class ResidualBlock(nn.Module):
    """Two convolutions of the same dilation with a sum around them (Bai et al. 2018, figure 1b)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            CausalConvNorm(inputs, outputs, kernel, dilation), CausalConvNorm(outputs, outputs, kernel, dilation)
        )
        self.around = nn.Linear(inputs, outputs) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.layers(x) + self.around(x))


class TCNConfig(BudgetConfig):
    """Sizes of a temporal convolutional network.

    ``neuron-io`` is the form fitted to the input and output of a layer-5 pyramidal cell: 7 layers of 128 filters
    (Beniaguev et al., Neuron 2021), with the filter sizes of the published code.
    """

    WIDTH = "filters"
    WIDTH_DEFAULT = 64
    SIZES: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "neuron-io": {"filters": 128, "depth": 7, "first_kernel": 54, "kernel": 12, "growth": 1, "residual": False}
    }

    filters: int | None = Field(None, ge=1)
    """Channels of every layer; 64 when neither it nor ``parameters`` is given."""
    depth: int = Field(6, ge=1)
    """Layers, or residual blocks of two layers."""
    kernel: int = Field(5, ge=1)
    """Time steps that a filter sums."""
    first_kernel: int | None = Field(None, ge=1)
    """Time steps of the filters of the first layer (block); ``kernel`` when left out."""
    growth: int = Field(2, ge=1)
    """Dilation of a layer divided by that of the layer before; 1 for filters without gaps."""
    residual: bool = True
    """Blocks of two convolutions with a sum around them, in place of single convolutions."""

    @property
    def kernels(self) -> tuple[int, ...]:
        """Filter size of every layer (block)."""
        return (self.first_kernel or self.kernel, *[self.kernel] * (self.depth - 1))

    @property
    def receptive_field(self) -> int:
        """Time steps that an output depends on."""
        each = sum((kernel - 1) * self.growth**i for i, kernel in enumerate(self.kernels))
        return 1 + each * (2 if self.residual else 1)


@models.register("tcn")
class TCN(Stacked):
    """Temporal convolutional network: causal convolutions over time, dilated or not, then a linear read-out."""

    Config = TCNConfig
    config: TCNConfig
    paper: ClassVar[Paper | None] = Paper(
        "An empirical evaluation of generic convolutional and recurrent networks for sequence modeling",
        "arXiv",
        2018,
        "arXiv:1803.01271",
        note="Batch norm in place of weight norm, and no dropout between layers. The size neuron-io is the plain "
        "network of Beniaguev et al., Neuron 2021, 10.1016/j.neuron.2021.07.002.",
    )

    def __init__(self, config: TCNConfig, neuron: NeuronFactory) -> None:
        super().__init__(config, neuron)
        c = self.config
        block = ResidualBlock if c.residual else CausalConvNorm
        inputs = (c.features, *[c.width] * (c.depth - 1))
        sizes = enumerate(zip(inputs, c.kernels, strict=True))
        self.layers = nn.Sequential(*(block(n, c.width, kernel, c.growth**i) for i, (n, kernel) in sizes))
        self.readout = nn.Linear(c.width, c.classes)
