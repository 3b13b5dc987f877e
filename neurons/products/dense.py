"""The dense products, each through the library that is fastest at it.

For linear layers oneDNN is ahead of the BLAS of torch in the forward pass and in the gradient of the input, and behind
it in the gradient of the weights, where both operands are transposed.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from neurons.products.geometry import Geometry

_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if _ONEDNN and torch.backends.mkldnn.enabled and x.numel() and weight.numel():
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")  # type: ignore[no-any-return]
    return F.linear(x, weight, bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return ``x`` [M, K] times ``weight`` [N, K], transposed, plus ``bias``."""
    return _linear(x, weight, bias)


def linear_input_gradient(gradient: Tensor, weight: Tensor) -> Tensor:
    """Return the gradient of the input [M, K]."""
    return _linear(gradient, weight.t(), None)


def linear_weight_gradient(gradient: Tensor, x: Tensor) -> Tensor:
    """Return the gradient of the weights [N, K]."""
    return gradient.t() @ x


def convolution(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Return the convolution of maps [B, C, H, W]."""
    return F.conv2d(x, weight, bias, geometry.stride, geometry.padding)


def convolution_gradients(
    gradient: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, needs: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Return the gradients of the maps and of the weights, where they are needed."""
    found = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, geometry.stride, geometry.padding, (1, 1), False, (0, 0), 1, (*needs, False)
    )
    return found[0], found[1]
