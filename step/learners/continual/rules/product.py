"""Products of weights and activity whose way back differs from that of autograd, on a copy of a network.

Every rule but plain backpropagation changes one of the two factors of a layer's backward pass: what carries the error
to the layer before, or the presynaptic factor of the gradient of the weights. The forward product is always the layer's
own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_input, conv2d_weight

from neurons.errors import OptionError
from neurons.products import spike_linear_weight
from step.learners.continual.rules.taps import Layer, error_rows, padded, plain_padding, rows_of
from step.models import Network
from step.models.base import shallow_copy
from step.models.layers import Conv2d, Linear

Call = Callable[[str, Layer, Tensor], Tensor]
_KNOWN = {nn.Linear.forward, Linear.forward, nn.Conv2d.forward, Conv2d.forward}


@dataclass(frozen=True)
class Back:
    """How a layer answers backward.

    Attributes
    ----------
    error : Tensor, shape of the weight, optional
        Stands in place of the weight where the error goes to the layer before.
    presynaptic : Tensor, shape of the input, optional
        Stands in place of the input in the gradient of the weights.
    project : callable, optional
        What the presynaptic rows [R, n] go through; where it returns None they stay as they are.
    steps : int
        Time steps that are folded into the first axis of the input, time first. Where the error is the same at all of
        them, as in rate-based gradients, sum_t delta x_t^T = delta (sum_t x_t)^T is one product of a T-th of the rows.
    """

    error: Tensor | None = None
    presynaptic: Tensor | None = None
    project: Callable[[Tensor], Tensor | None] | None = None
    steps: int = 1


def instrumented(network: Network, layers: Mapping[str, Layer], call: Call) -> Network:
    """Return a copy of the tree of modules in which ``call(path, layer, x)`` runs in place of each of the layers.

    Parameters, buffers and hooks are shared with the network, which stays as it is.
    """
    copy = shallow_copy(network)
    for path, layer in layers.items():
        copy.get_submodule(path).forward = partial(call, path, layer)  # type: ignore[method-assign]
    return copy  # type: ignore[return-value]


def known_product(layer: Layer) -> bool:
    """Whether a layer computes the product of its weight and its input and nothing else."""
    return type(layer).forward in _KNOWN


def check_products(layers: Mapping[str, Layer], what: str) -> None:
    """Refuse layers that compute more than a product of their weight and their input, such as quantised ones.

    Raises
    ------
    OptionError
        With the first of them.
    """
    for path, layer in layers.items():
        if not known_product(layer):
            raise OptionError(
                f"layer {path!r} is a {type(layer).__name__}, whose forward pass is not that of a linear layer or "
                f"convolution; {what} cannot replace its backward pass"
            )


def product(layer: Layer, x: Tensor, back: Back) -> Tensor:
    """Return ``layer(x)`` with another way back."""
    if isinstance(layer, nn.Conv2d) and not plain_padding(layer):
        trace = None if back.presynaptic is None else padded(layer, back.presynaptic)
        x, back = padded(layer, x), replace(back, presynaptic=trace)
    return _Product.apply(x, layer.weight, layer.bias, layer, back)  # type: ignore[no-any-return]


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, layer: Layer, back: Back
    ) -> Tensor:
        factor = x if back.presynaptic is None else back.presynaptic
        ctx.save_for_backward(weight, factor if ctx.needs_input_grad[1] else None)
        ctx.layer, ctx.back, ctx.shape = layer, back, x.shape
        if isinstance(layer, nn.Conv2d) and not plain_padding(layer):
            return F.conv2d(x, weight, bias, layer.stride, 0, layer.dilation, layer.groups)
        return layer.forward(x)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, delta: Tensor) -> tuple[Any, ...]:
        weight, factor = ctx.saved_tensors
        layer, back = ctx.layer, ctx.back
        delta = delta.to(weight.dtype)
        steps = _steps(delta, back)
        short = delta.unflatten(0, (steps, -1))[0] if steps > 1 else delta
        for_x = for_weight = for_bias = None
        if ctx.needs_input_grad[0]:
            over = weight if back.error is None else back.error.to(weight)
            shape = (ctx.shape[0] // steps, *ctx.shape[1:])
            for_x = _input_gradient(layer, over, short, shape)
            if steps > 1:
                for_x = for_x.expand(steps, *shape).flatten(0, 1)
        if ctx.needs_input_grad[1]:
            factor = factor.to(weight.dtype)
            if steps > 1:
                factor = factor.unflatten(0, (steps, -1)).sum(0)
            for_weight = _weight_gradient(layer, factor, short, weight, back)
        if ctx.needs_input_grad[2]:
            for_bias = error_rows(layer, short).sum(0) * steps
        return for_x, for_weight, for_bias, None, None


def _steps(delta: Tensor, back: Back) -> int:
    """Return how many time steps share one error; 1 where they differ, or where rows are projected one by one."""
    if back.steps == 1 or back.project is not None or len(delta) % back.steps:
        return 1
    apart = delta.unflatten(0, (back.steps, -1))
    # the last two first: errors that differ mostly differ there, and the rest need not be read
    same = torch.equal(apart[-1], apart[-2]) and torch.equal(apart[1:], apart[:-1])
    return back.steps if same else 1


def _input_gradient(layer: Layer, over: Tensor, delta: Tensor, shape: tuple[int, ...]) -> Tensor:
    if isinstance(layer, nn.Linear):
        return delta @ over
    around = layer.padding if plain_padding(layer) else 0
    return conv2d_input(shape, over, delta, layer.stride, around, layer.dilation, layer.groups)  # type: ignore[arg-type]


def _weight_gradient(layer: Layer, factor: Tensor, delta: Tensor, weight: Tensor, back: Back) -> Tensor:
    if back.project is not None:
        rows = back.project(_rows(layer, factor))
        if rows is not None:
            return (error_rows(layer, delta).T @ rows).view(weight.shape)
    if isinstance(layer, nn.Linear):
        return spike_linear_weight(rows_of(layer, factor), error_rows(layer, delta))
    around = layer.padding if plain_padding(layer) else 0
    shape = list(weight.shape)
    return conv2d_weight(factor, shape, delta, layer.stride, around, layer.dilation, layer.groups)  # type: ignore[arg-type,no-any-return]


def _rows(layer: Layer, factor: Tensor) -> Tensor:
    if isinstance(layer, nn.Linear) or plain_padding(layer):
        return rows_of(layer, factor)
    # padded by :func:`product` already
    patches = F.unfold(factor, layer.kernel_size, layer.dilation, 0, layer.stride)  # type: ignore[arg-type]
    return patches.transpose(1, 2).flatten(0, 1)
