"""Optimisers, and which parameter decays and learns how fast."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import BaseModel, Field
from torch import nn

from neurons import Neuron
from neurons.errors import OptionError
from step.learners.lamb import Lamb
from step.models import Network


class OptimiserConfig(BaseModel):
    """How weights follow their gradients."""

    optimiser: Literal["adamw", "adam", "adamax", "lamb", "sgd"] = "adamw"
    """AdamW (Loshchilov and Hutter, ICLR 2019); Adam, whose decay is part of the gradient, and Adamax, which divides by
    the largest gradient seen (Kingma and Ba, ICLR 2015); LAMB (You et al., ICLR 2020); SGD with Nesterov's momentum."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum of SGD."""
    weight_decay: float = Field(0.05, ge=0)
    """Decay of weight matrices and kernels; biases, norms and neuron parameters do not decay."""
    layer_decay: float = Field(1.0, gt=0, le=1)
    """Factor on the learning rate from each block of the network to the one before it (Clark et al., ICLR 2020; Bao
    et al., ICLR 2022); the head learns at the full rate, the embedding slowest."""
    clip: float | None = Field(1.0, gt=0)
    """Largest norm of the gradient."""


def create_optimiser(network: Network, c: OptimiserConfig, lr: float) -> torch.optim.Optimizer:
    """Make the optimiser; each of its groups has the factor ``scale`` on the learning rate."""
    groups = parameter_groups(network, c)
    if c.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=c.momentum, nesterov=c.momentum > 0)
    makers: dict[str, Any] = {
        "adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "adamax": torch.optim.Adamax, "lamb": Lamb,
    }  # fmt: skip
    return makers[c.optimiser](groups, lr=lr)  # type: ignore[no-any-return]


def parameter_groups(network: Network, c: OptimiserConfig) -> list[dict[str, Any]]:
    """Return the groups of an optimiser: for each depth the parameters that decay, then those that do not."""
    inside_neurons = {
        p for m in network.modules() if isinstance(m, Neuron) and not m.is_layer for p in m.parameters()
    }  # fmt: skip
    levels = depths(network) if c.layer_decay < 1 else dict.fromkeys(network.parameters(), 0)
    deepest = max(levels.values(), default=0)
    groups = []
    for depth in sorted(set(levels.values())):
        decayed: list[nn.Parameter] = []
        free: list[nn.Parameter] = []
        for parameter, level in levels.items():
            if level == depth:
                (free if parameter.dim() < 2 or parameter in inside_neurons else decayed).append(parameter)
        scale = c.layer_decay ** (deepest - depth)
        groups.append({"params": decayed, "weight_decay": c.weight_decay, "scale": scale})
        groups.append({"params": free, "weight_decay": 0.0, "scale": scale})
    return groups


def depths(network: Network) -> dict[nn.Parameter, int]:
    """Return how deep each parameter lies: 0 before the first segment, i + 1 in segment i, the rest behind them all.

    What lies between two segments (the embedding of a later stage) belongs to the one that follows.

    Raises
    ------
    OptionError
        When the network has no segments.
    """
    segments = network.segments()
    if not segments:
        name = getattr(type(network), "registered_name", type(network).__name__)
        raise OptionError(f"layer_decay goes from block to block, and {name} has none; leave it out")
    inside = {p: number for number, segment in enumerate(segments, 1) for p in segment.parameters()}
    found: dict[nn.Parameter, int] = {}
    waiting: list[nn.Parameter] = []
    latest = 0
    for parameter in network.parameters():
        waiting.append(parameter)
        if parameter in inside:
            depth = inside[parameter]
            found |= dict.fromkeys(waiting[:-1], depth if latest else 0)
            found[parameter] = latest = depth
            waiting = []
    return found | dict.fromkeys(waiting, len(segments) + 1)
