"""Norms folded into the layers before them: what inference need not compute."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

Module = TypeVar("Module", bound=nn.Module)


def fold(network: Module) -> Module:
    """Return a copy in eval mode whose layers (``conv`` or ``linear``, then ``norm``) have their norms folded in."""
    folded = copy.deepcopy(network).eval()
    for module in folded.modules():
        layer: Any = module
        norm = getattr(layer, "norm", None)
        if not isinstance(norm, nn.modules.batchnorm._BatchNorm):
            continue
        if hasattr(getattr(layer, "conv", getattr(layer, "linear", None)), "weight_step"):
            continue  # quantised weights lie on a grid, which folding would leave
        if isinstance(getattr(layer, "conv", None), nn.Conv2d):
            layer.conv = fuse_conv_bn_eval(layer.conv, norm)
        elif isinstance(getattr(layer, "linear", None), nn.Linear):
            layer.linear = fuse_linear_bn_eval(layer.linear, norm)
        else:
            continue
        layer.norm = nn.Identity()
    return folded
