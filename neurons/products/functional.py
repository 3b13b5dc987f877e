"""Linear layers and convolutions of spikes: what is zero costs nothing where that pays."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd.function import once_differentiable
from torch.nn import Parameter
from torch.nn.grad import conv2d_weight

from neurons.compiler.operator import unseen
from neurons.errors import OptionError
from neurons.products import cost, dense, kernel
from neurons.products.event_lists import Events
from neurons.products.geometry import Geometry

_DOUBTLESS = 1.3
"""How far the cost by a sample must be above the dense one, for nobody to count."""


def spike_linear(x: Tensor | Events, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return what ``torch.nn.functional.linear`` returns, in time that grows with the number of non-zeros.

    Float32 on the CPU with few enough non-zeros is added up event by event; everything else, and whatever somebody
    looks on at (dispatch modes, transforms, capture, autocast), is the plain operator of torch. The choice depends on
    shapes and on the number of non-zeros (see :mod:`neurons.products.cost`), never on the number of threads. Gradients
    of all arguments are given once; the gradient of the input is dense.

    Parameters
    ----------
    x : Tensor or Events, shape [..., K]
        Best with many zeros. Non-zeros that are all one need no multiplication; other values are carried along.
    weight : Tensor, shape [N, K]
    bias : Tensor, shape [N], optional

    Returns
    -------
    Tensor, shape [..., N]

    Raises
    ------
    OptionError
        When the events are those of maps.
    """
    source = _source(x, -1)
    x = source.x
    if not _ours(x, weight, bias) or x.dim() < 1 or weight.dim() != 2 or x.shape[-1] != weight.shape[1]:
        return F.linear(x, weight, bias)
    inputs, outputs = weight.shape[1], weight.shape[0]
    geometry = Geometry(1, x.numel() // max(inputs, 1), 1, inputs, outputs)
    if not geometry.fits():
        return F.linear(x, weight, bias)
    return _apply(source, weight, bias, geometry)


def spike_conv2d(
    x: Tensor | Events,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] | str = 0,
) -> Tensor:
    """Return what ``torch.nn.functional.conv2d`` returns, in time that grows with the number of non-zeros.

    Everything said of :func:`spike_linear` holds.

    Parameters
    ----------
    x : Tensor or Events, shape [B, C, H, W]
        Spikes, best channels-last in memory.
    weight : Tensor, shape [N, C, kh, kw]
    bias : Tensor, shape [N], optional
    stride, padding : int or pair of int
        As in torch; a padding in words is left to it.

    Returns
    -------
    Tensor, shape [B, N, H', W']
        Channels-last in memory where events were added up.

    Raises
    ------
    OptionError
        When the events are those of tokens.
    """
    source = _source(x, 1)
    x = source.x
    if isinstance(padding, str) or not _ours(x, weight, bias) or x.dim() != 4 or weight.dim() != 4:
        return F.conv2d(x, weight, bias, stride, padding)
    strides, paddings = _pair(stride), _pair(padding)
    batch, inputs, height, width = x.shape
    kernel_size = (weight.shape[2], weight.shape[3])
    geometry = Geometry(batch, height, width, inputs, weight.shape[0], kernel_size, strides, paddings)
    if weight.shape[1] != inputs or min(*strides, *kernel_size) < 1 or not geometry.fits():
        return F.conv2d(x, weight, bias, strides, paddings)
    return _apply(source, weight, bias, geometry)


@torch.no_grad()
def spike_linear_weight(x: Tensor | Events, gradient: Tensor) -> Tensor:
    """Return the gradient of the weights of :func:`spike_linear` alone, G^T X, in time that grows with the non-zeros.

    Parameters
    ----------
    x : Tensor or Events, shape [..., K]
    gradient : Tensor, shape [..., N]
        Of the output.

    Returns
    -------
    Tensor, shape [N, K]
    """
    source = _source(x, -1)
    x = source.x
    rows = gradient.reshape(-1, gradient.shape[-1]).contiguous()
    outputs, inputs = rows.shape[1], x.shape[-1]
    geometry = Geometry(1, len(rows), 1, inputs, outputs)
    if _ours(x, rows, None) and geometry.fits():
        source.look()
        if _pays(source, geometry, True)[1]:
            like = rows.new_empty(outputs, inputs, 1, 1)
            return kernel.weight_gradient(source.lists(), rows, like, geometry).view(outputs, inputs)
    return rows.T @ x.reshape(-1, inputs)


@torch.no_grad()
def spike_conv2d_weight(
    x: Tensor | Events,
    gradient: Tensor,
    kernel_size: tuple[int, int],
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
) -> Tensor:
    """Return the gradient of the weights of :func:`spike_conv2d` alone, in time that grows with the non-zeros.

    Parameters
    ----------
    x : Tensor or Events, shape [B, C, H, W]
    gradient : Tensor, shape [B, N, H', W']
        Of the output.
    kernel_size : (int, int)
    stride, padding : int or pair of int

    Returns
    -------
    Tensor, shape [N, C, kh, kw]
    """
    source = _source(x, 1)
    x, strides, paddings = source.x, _pair(stride), _pair(padding)
    batch, inputs, height, width = x.shape
    outputs = gradient.shape[1]
    geometry = Geometry(batch, height, width, inputs, outputs, kernel_size, strides, paddings)
    if _ours(x, gradient, None) and min(*strides, *kernel_size) >= 1 and geometry.fits():
        source.look()
        if _pays(source, geometry, True)[1]:
            rows = gradient.permute(0, 2, 3, 1).contiguous()
            like = rows.new_empty(outputs, inputs, *kernel_size)
            return kernel.weight_gradient(source.lists(), rows, like, geometry)
    shape = [outputs, inputs, *kernel_size]
    return conv2d_weight(x, shape, gradient, strides, paddings)  # type: ignore[arg-type,no-any-return]


def _source(x: Tensor | Events, channels: int) -> Events:
    if not isinstance(x, Events):
        return Events(x, channels)
    if x.channels != channels:
        wanted = "tokens (channels=-1)" if channels == -1 else "maps (channels=1)"
        raise OptionError(f"this layer reads events of {wanted}; make them with events(x, channels={channels})")
    return x


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else tuple(value) * (2 if len(value) == 1 else 1)
    return int(pair[0]), int(pair[1])


def _ours(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether the tensors are float32 on the CPU and nobody has to see an operator of torch."""
    if torch.compiler.is_compiling():
        return False
    tensors = (x, weight) if bias is None else (x, weight, bias)
    return (
        all(
            type(t) in (Tensor, Parameter)
            and t.dtype == torch.float32
            and t.device.type == "cpu"
            and t.layout == torch.strided
            for t in tensors
        )
        and (bias is None or bias.shape == weight.shape[:1])
        and unseen(x)
        and not torch.is_autocast_enabled("cpu")
        and forward_ad._current_level < 0
    )


def _apply(source: Events, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    source.look()
    tensors = (source.x, weight) if bias is None else (source.x, weight, bias)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return _Product.apply(source.x, weight, bias, source, geometry)  # type: ignore[no-any-return]
    return _forward(source, weight, bias, geometry, _pays(source, geometry, False)[0])


def _pays(source: Events, geometry: Geometry, learns: bool) -> tuple[bool, bool]:
    """Return whether events pay in the product, and in the gradient of the weights."""

    def both(density: float, binary: bool = True, doubt: float = 1.0) -> tuple[bool, bool]:
        return (
            cost.wins(cost.forward(geometry, density, binary) / doubt, geometry),
            learns and cost.wins(cost.gradient(geometry, density, binary) / doubt, geometry),
        )

    if not any(both(0.0)) or not kernel.available() or not any(both(source.sample(), doubt=_DOUBTLESS)):
        return False, False
    counted = source.counted()
    return both(counted.count / source.x.numel(), counted.binary)


def _forward(source: Events, weight: Tensor, bias: Tensor | None, geometry: Geometry, pays: bool) -> Tensor:
    linear = source.channels == -1
    if not pays:
        if linear:
            out = dense.linear(source.rows(), weight, bias)
            return out.view(*source.x.shape[:-1], geometry.outputs)
        return dense.convolution(source.x, weight, bias, geometry)
    four = weight[:, :, None, None] if linear else weight
    out = kernel.product(source.lists(), four, bias, geometry)
    if linear:
        return out.view(*source.x.shape[:-1], geometry.outputs)
    return out.view(geometry.batch, *geometry.map, geometry.outputs).permute(0, 3, 1, 2)


class _Product(torch.autograd.Function):
    """Saves lists in place of the input where these are all that the gradient of the weights needs."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, source: Events, geometry: Geometry
    ) -> Tensor:
        learns = ctx.needs_input_grad[1]
        pays, learns_by_events = _pays(source, geometry, learns)
        held: tuple[Tensor | None, ...] = ()
        if learns:
            held = source.lists() if learns_by_events else (x,)
        ctx.save_for_backward(weight, *held)
        ctx.geometry, ctx.by_events, ctx.linear = geometry, learns_by_events, source.channels == -1
        ctx.shape = x.shape
        return _forward(source, weight, bias, geometry, pays)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        weight, *held = ctx.saved_tensors
        backward = _linear_backward if ctx.linear else _convolution_backward
        return (*backward(ctx, gradient, weight, held), None, None)


def _linear_backward(ctx: Any, gradient: Tensor, weight: Tensor, held: list[Any]) -> tuple[Any, ...]:
    for_x, for_weight, for_bias = ctx.needs_input_grad[:3]
    rows = gradient.reshape(-1, gradient.shape[-1]).contiguous()
    x_gradient = dense.linear_input_gradient(rows, weight).view(ctx.shape) if for_x else None
    weight_gradient = None
    if for_weight and ctx.by_events:
        four = kernel.weight_gradient((held[0], held[1], held[2]), rows, weight[:, :, None, None], ctx.geometry)
        weight_gradient = four.view(weight.shape)
    elif for_weight:
        weight_gradient = dense.linear_weight_gradient(rows, held[0].reshape(-1, weight.shape[1]))
    return x_gradient, weight_gradient, rows.sum(0) if for_bias else None


def _convolution_backward(ctx: Any, gradient: Tensor, weight: Tensor, held: list[Any]) -> tuple[Any, ...]:
    for_x, for_weight, for_bias = ctx.needs_input_grad[:3]
    gradient = gradient.contiguous(memory_format=torch.channels_last)
    weight_gradient = None
    if for_weight and ctx.by_events:
        rows = gradient.permute(0, 2, 3, 1).contiguous()
        weight_gradient = kernel.weight_gradient((held[0], held[1], held[2]), rows, weight, ctx.geometry)
    by_torch = (for_x, for_weight and not ctx.by_events)
    x_gradient = None
    if any(by_torch):
        # of the input only shape and layout are read where its own gradient is all that is wanted
        x = held[0] if by_torch[1] else torch.empty(ctx.shape, memory_format=torch.channels_last)
        x_gradient, found = dense.convolution_gradients(gradient, x, weight, ctx.geometry, by_torch)
        weight_gradient = found if by_torch[1] else weight_gradient
    return x_gradient, weight_gradient, gradient.sum((0, 2, 3)) if for_bias else None
