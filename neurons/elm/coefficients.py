"""Time constants and what follows from them: the numbers of an ELM neuron that no input changes.

Source: Spieler et al., ICLR 2024 (arXiv 2306.16922) and, for the wider range of learned time constants, Spieler,
Martius and Levina 2026 (arXiv 2605.12049).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from neurons.elm.recurrence import SLOPE, SWING

_MARGIN = 1e-6
"""How near a learned time constant can begin to the ends of its range, and the smallest one there is."""
_GAP = 3e-6
"""Narrowest range of time constants; a range of no width has no inverse."""


def squash(z: Tensor) -> Tensor:
    """Return 1.7159 tanh(2 z / 3), which is 1 where z is 1 (LeCun et al., Efficient BackProp, 1998)."""
    return SWING * torch.tanh(SLOPE * z)


def bounded(rho: Tensor, low: float, high: float) -> Tensor:
    """Return the time constant between ``low`` and ``high`` that a free parameter stands for."""
    return (high - low) * torch.sigmoid(rho) + low


def unbounded(tau: Tensor, low: float, high: float) -> Tensor:
    """Return the free parameter of a time constant; the inverse of :func:`bounded`."""
    tau = tau.clamp(low + _MARGIN, high - _MARGIN)
    return torch.log((tau - low) / (high - tau))


def spaced(count: int, low: float, high: float) -> Tensor:
    """Return ``count`` time constants in float64, evenly spaced in their logarithm, both ends included."""
    return torch.logspace(math.log10(low), math.log10(high), count, dtype=torch.float64)


def memory_range(low: float, high: float) -> tuple[float, float]:
    """Return the range that memory time constants are learned in, a little wider where it has no width."""
    return low, max(low + _GAP, high)


def memory_rho(count: int, low: float, high: float) -> Tensor:
    """Return the free parameters of time constants that are evenly spaced over the whole of their range."""
    low, high = memory_range(low, high)
    return unbounded(spaced(count, low + _MARGIN, high - _MARGIN), low, high).float()


def wide_range(low: float, high: float) -> tuple[float, float]:
    """Return the range of the modified neuron: from a tenth of the first to the root of ten times the last."""
    return low / 10, high * math.sqrt(10)


def wide_rho(count: int, low: float, high: float) -> Tensor:
    """Return the free parameters of time constants that are evenly spaced from ``low`` to ``high``."""
    return unbounded(spaced(count, low, high), *wide_range(low, high)).float()


def decay(tau: Tensor, dt: float) -> Tensor:
    """Return what a leak leaves after one step of ``dt``: exp(-dt / tau)."""
    return torch.exp(-dt / tau.clamp(min=_MARGIN))


def write_gain(tau: Tensor, dt: float, gain: float, version: str) -> Tensor:
    """Return by how much of the squashed update a memory unit moves in one step.

    gain (1 - exp(-dt / tau)) in ``"v1"``; 1 - exp(-gain dt / tau), which never exceeds 1, in ``"v2"``.
    """
    if version == "v1":
        return gain * (1 - decay(tau, dt))
    return 1 - decay(tau, dt * gain)
