"""Exponential moving average of weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential moving average of everything that a network keeps (Polyak averaging; Tarvainen and Valpola, 2017).

    After every step, average = decay average + (1 - decay) value, for parameters and for buffers of floating-point
    numbers (the running statistics of norms), as in timm; whole numbers are copied. It starts at the initial weights,
    which it forgets over some 1 / (1 - decay) steps: a decay of 0.9998 is for long training.

    Parameters
    ----------
    network : nn.Module
    decay : float
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.tensors: dict[str, Tensor] = _copy(network)

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take in the present weights."""
        for name, value in network.state_dict().items():
            average = self.tensors[name]
            if average.is_floating_point():
                average.lerp_(value, 1 - self.decay)
            else:
                average.copy_(value)

    @contextmanager
    def applied(self, network: nn.Module) -> Iterator[None]:
        """Let the network have the average while the context lasts."""
        own = _copy(network)
        network.load_state_dict(self.tensors)
        try:
            yield
        finally:
            network.load_state_dict(own)


def _copy(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}
