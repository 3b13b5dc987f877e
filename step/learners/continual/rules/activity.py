"""Presynaptic activity of a layer in one batch, multiplied as it is: patches are laid out only where somebody asks.

Learners of subspaces need X H^T and Y^T X for activity X [R, n], and rarely X itself. For a convolution the first is a
convolution whose kernels are the rows of H, and the second the gradient of its kernels, so that the patches, kh kw
times as large as the map, need not exist. Zeros of spikes cost nothing in either (see :mod:`neurons.products`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

from neurons.compiler.operator import unseen
from neurons.products import events, spike_conv2d, spike_conv2d_weight, spike_linear, spike_linear_weight
from step.learners.continual.rules.taps import map_size, once, padded, patches_of, plain_padding

_BLOCK = 16
"""Kernels that processors work on at a time; a convolution with fewer takes as long or longer."""


class Activity(ABC):
    """Presynaptic activity X [R, n] of a layer.

    Attributes
    ----------
    n : int
        Inputs of one neuron of the layer.
    laid_out : bool
        Whether the rows lie in memory.
    left : Tensor [R, n], optional
        X without its component along the frozen rows of the layer's subspace, for whoever needs it again.
    """

    n: int
    laid_out: bool
    left: Tensor | None = None

    @abstractmethod
    def __len__(self) -> int:
        """Rows R."""

    @abstractmethod
    def rows(self, chosen: Tensor | None = None) -> Tensor:
        """Return X [R, n], or the chosen ones of its rows."""

    @abstractmethod
    def times(self, h: Tensor) -> Tensor:
        """Return X H^T [R, K] for rows H [K, n]."""

    @abstractmethod
    def back(self, y: Tensor) -> Tensor:
        """Return Y^T X [K, n] for Y [R, K]."""

    @abstractmethod
    def energy(self) -> Tensor:
        """Return the sum of all squares, shape []."""

    @abstractmethod
    def density(self) -> float:
        """Return the share of values that are not zero, from a sample; 1 where zeros are multiplied like all others."""

    @abstractmethod
    def to(self, device: torch.device, dtype: torch.dtype) -> Activity:
        """Return it on another device, in another type; itself where it is so already."""


class Rows(Activity):
    """Activity that lies in memory as rows [R, n], such as that of a linear layer."""

    laid_out = True

    def __init__(self, x: Tensor) -> None:
        self._events = events(x.detach())
        self.n = x.shape[1]

    @property
    def _x(self) -> Tensor:
        return self._events.x

    def __len__(self) -> int:
        return len(self._x)

    def rows(self, chosen: Tensor | None = None) -> Tensor:
        return self._x if chosen is None else self._x[chosen.to(self._x.device)]

    def times(self, h: Tensor) -> Tensor:
        return spike_linear(self._events, h)

    def back(self, y: Tensor) -> Tensor:
        return spike_linear_weight(self._events, y)

    def energy(self) -> Tensor:
        return self._x.square().sum()

    def density(self) -> float:
        return self._events.share()

    def to(self, device: torch.device, dtype: torch.dtype) -> Activity:
        if self._x.device == device and self._x.dtype == dtype:
            return self
        return Rows(self._x.to(device, dtype))


class Patches(Activity):
    """Patches of maps that a convolution goes over: a row for every position of its output.

    Parameters
    ----------
    layer : nn.Conv2d
        Ungrouped.
    x : Tensor, shape [N, C, H, W]
    """

    laid_out = False

    def __init__(self, layer: nn.Conv2d, x: Tensor) -> None:
        x = once(x.detach())
        self.layer, self.maps = layer, x
        plain = plain_padding(layer)
        around = x if plain else padded(layer, x)
        self._padding = tuple(int(side) for side in layer.padding) if plain else (0, 0)
        self._events = events(around.contiguous(memory_format=torch.channels_last), channels=1)
        self._size = map_size(layer, x)
        self.n = layer.in_channels * layer.kernel_size[0] * layer.kernel_size[1]

    def __len__(self) -> int:
        return len(self.maps) * self._size[0] * self._size[1]

    def rows(self, chosen: Tensor | None = None) -> Tensor:
        return patches_of(self.layer, self.maps, chosen)

    def times(self, h: Tensor) -> Tensor:
        layer, count = self.layer, len(h)
        if not count:
            return h.new_zeros(len(self), 0)
        if unseen(h):  # who counts operations sees those that are asked for
            h = F.pad(h, (0, 0, 0, -count % _BLOCK))
        kernels = h.view(len(h), layer.in_channels, *layer.kernel_size)
        if layer.dilation == (1, 1):
            found = spike_conv2d(self._events, kernels, None, layer.stride, self._padding)  # type: ignore[arg-type]
        else:
            found = F.conv2d(self._events.x, kernels, None, layer.stride, self._padding, layer.dilation)  # type: ignore[arg-type]
        return found.permute(0, 2, 3, 1).reshape(-1, len(h))[:, :count]

    def back(self, y: Tensor) -> Tensor:
        layer, x = self.layer, self._events.x
        if not y.shape[1]:
            return y.new_zeros(0, self.n)
        errors = y.view(len(x), *self._size, y.shape[1]).permute(0, 3, 1, 2)
        kernel, padding = layer.kernel_size, self._padding
        if layer.dilation == (1, 1):
            found = spike_conv2d_weight(self._events, errors, kernel, layer.stride, padding)  # type: ignore[arg-type]
        else:
            shape = [y.shape[1], layer.in_channels, *kernel]
            found = conv2d_weight(x, shape, errors, layer.stride, padding, layer.dilation)  # type: ignore[arg-type]
        return found.flatten(1)

    def energy(self) -> Tensor:
        layer, x = self.layer, self._events.x
        ones = x.new_ones(1, 1, *layer.kernel_size)
        squares = x.square().sum(1, keepdim=True)
        return F.conv2d(squares, ones, None, layer.stride, self._padding, layer.dilation).sum()  # type: ignore[arg-type]

    def density(self) -> float:
        return self._events.share()

    def to(self, device: torch.device, dtype: torch.dtype) -> Activity:
        x = self.maps
        return self if x.device == device and x.dtype == dtype else Patches(self.layer, x.to(device, dtype))


def activity_of(layer: nn.Linear | nn.Conv2d, inputs: list[Tensor]) -> Activity:
    """Return the activity of a layer for all inputs that it saw, an input that stands still in time once.

    Parameters
    ----------
    layer : nn.Linear or nn.Conv2d
    inputs : list of Tensor, shape [..., n] or [N, C, H, W]
    """
    inputs = [once(x) for x in inputs]
    if isinstance(layer, nn.Linear):
        rows = [x.reshape(-1, x.shape[-1]) for x in inputs]
        return Rows(rows[0] if len(rows) == 1 else torch.cat(rows))
    if len({x.shape[1:] for x in inputs}) == 1:
        return Patches(layer, inputs[0] if len(inputs) == 1 else torch.cat(inputs))
    return Rows(torch.cat([patches_of(layer, x) for x in inputs]))


def together(parts: list[Activity]) -> Activity:
    """Return the rows of several activities of one layer after one another."""
    if len(parts) == 1:
        return parts[0]
    maps = [part for part in parts if isinstance(part, Patches)]
    if len(maps) == len(parts):
        return activity_of(maps[0].layer, [part.maps for part in maps])
    return Rows(torch.cat([part.rows() for part in parts]))
