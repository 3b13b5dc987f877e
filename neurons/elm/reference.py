"""The ELM neurons from their equations, one step, one synapse and one branch at a time: the reference of all else.

Slow on purpose. Nothing here is shared with the fast way but the parameters themselves, so that the two can be
compared; in float64 the difference is rounding, and autograd gives the gradients.

Sources: Spieler et al., ICLR 2024 (arXiv 2306.16922); Spieler, Martius and Levina 2026 (arXiv 2605.12049).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from neurons.elm.base import LeakyMemory
from neurons.elm.cell import ELM
from neurons.elm.modified import ModifiedELM
from neurons.errors import OptionError


class Trace(NamedTuple):
    """What a neuron did, step by step.

    Attributes
    ----------
    output : Tensor, shape [T, B, outputs]
        As the neuron gives it: spikes or real numbers.
    branches : Tensor, shape [T, B, branches]
    memory : Tensor, shape [T, B, memory]
    perceptron : Tensor, shape [T, B, memory]
        What the perceptron said, with its dropout mask where there is one.
    """

    output: Tensor
    branches: Tensor
    memory: Tensor
    perceptron: Tensor


def trace(
    neuron: LeakyMemory, x: Tensor, *, synapse_mask: Tensor | None = None, memory_mask: Tensor | None = None
) -> Trace:
    """Run a neuron over ``x`` [T, B, features] from rest, by its equations.

    Parameters
    ----------
    neuron : ELM or ModifiedELM
    x : Tensor, shape [T, B, features]
    synapse_mask : Tensor, shape [B, branches * synapses], optional
        Dropout mask of a modified neuron's synapses, 1 where they are kept.
    memory_mask : Tensor, shape [B, memory], optional
        Dropout mask of the perceptron's output.
    """
    if isinstance(neuron, ELM):
        return _v1(neuron, x) if neuron.version == "v1" else _v2(neuron, x)
    if isinstance(neuron, ModifiedELM):
        return _modified(neuron, x, synapse_mask, memory_mask)
    raise OptionError(f"there is no reference of {type(neuron).__name__}; it is neither an ELM nor a ModifiedELM")


def _v1(neuron: ELM, x: Tensor) -> Trace:
    """Version 1: every synapse has a state of its own, which leaks before the branch sums up."""
    w_s = neuron.synapse_weight.clamp(min=0)
    tau_m = _tau_m(neuron, neuron.tau_min, neuron.tau_max)
    kappa_m = torch.exp(-neuron.dt / tau_m)
    kappa_s = torch.exp(-neuron.dt / _tau_b(neuron)).repeat_interleave(neuron.synapses)
    s, m, rows = torch.zeros_like(_heard(neuron, x[0])), x.new_zeros(x.shape[1], neuron.memory), []
    for x_t in x:
        s = kappa_s * s + w_s * _heard(neuron, x_t)
        b = s.view(len(s), neuron.branches, neuron.synapses).sum(2)
        decayed = kappa_m * m
        z = _mlp(neuron, torch.cat([b, decayed], 1))
        m = decayed + neuron.gain * (1 - kappa_m) * _phi(z)
        rows.append((_elm_output(neuron, m), b, m, z))
    return _stacked(rows)


def _v2(neuron: ELM, x: Tensor) -> Trace:
    """Version 2: the branch sums leak, and a memory unit writes as one with a time constant ``gain`` times shorter."""
    w_s = neuron.synapse_weight.clamp(min=0)
    tau_m = _tau_m(neuron, neuron.tau_min, neuron.tau_max)
    kappa_m, kappa_lambda = torch.exp(-neuron.dt / tau_m), torch.exp(-neuron.dt * neuron.gain / tau_m)
    kappa_b = torch.exp(-neuron.dt / _tau_b(neuron))
    b, m, rows = x.new_zeros(x.shape[1], neuron.branches), x.new_zeros(x.shape[1], neuron.memory), []
    for x_t in x:
        current = (w_s * _heard(neuron, x_t)).view(len(b), neuron.branches, neuron.synapses).sum(2)
        b = kappa_b * b + current
        decayed = kappa_m * m
        z = _mlp(neuron, torch.cat([b, decayed], 1))
        m = decayed + (1 - kappa_lambda) * _phi(z)
        rows.append((_elm_output(neuron, m), b, m, z))
    return _stacked(rows)


def _modified(neuron: ModifiedELM, x: Tensor, synapse_mask: Tensor | None, memory_mask: Tensor | None) -> Trace:
    """The modified neuron: signed synapses, an optional branch filter, dropout masks, an optional high-pass filter."""
    raw = neuron.synapse_weight
    w_s = {"identity": raw, "relu": raw.clamp(min=0), "abs": raw.abs(), "exp": raw.exp()}[neuron.rectifier]
    tau_m = _tau_m(neuron, neuron.tau_min / 10, neuron.tau_max * math.sqrt(10))
    kappa_m, kappa_lambda = torch.exp(-neuron.dt / tau_m), torch.exp(-neuron.dt * neuron.gain / tau_m)
    kappa_r = 0.0 if neuron.high_pass is None else math.exp(-neuron.dt / neuron.high_pass)
    b, m = x.new_zeros(x.shape[1], neuron.branches), x.new_zeros(x.shape[1], neuron.memory)
    r, rows = x.new_zeros(x.shape[1], neuron.outputs), []
    for x_t in x:
        heard = _heard(neuron, x_t)
        if synapse_mask is not None:
            heard = heard * synapse_mask / (1 - neuron.input_dropout)
        current = (w_s * heard).view(len(b), neuron.branches, neuron.synapses).sum(2) * neuron.input_scale
        b = current if neuron.tau is None else torch.exp(-neuron.dt / _tau_b(neuron)) * b + current
        decayed = kappa_m * m
        z = _mlp(neuron, torch.cat([b, decayed], 1))
        if memory_mask is not None:
            z = z * memory_mask / math.sqrt(1 - neuron.memory_dropout)
        m = decayed + (1 - kappa_lambda) * _phi(z)
        y = m @ neuron.w_y.weight.T
        if neuron.high_pass is not None:
            r = kappa_r * r + (1 - kappa_r) * y
            y = y - r
        y = y + neuron.bias
        output = {"relu": y.clamp(min=0), "real": y, "spike": (y >= neuron.threshold).to(y.dtype)}[neuron.readout]
        rows.append((output, b, m, z))
    return _stacked(rows)


def _heard(neuron: LeakyMemory, x_t: Tensor) -> Tensor:
    """Return the inputs [B, features] of a step as the synapses [B, branches * synapses] hear them."""
    heard = x_t if neuron.index is None else x_t[:, neuron.index]
    return heard if neuron.mask is None else heard * neuron.mask


def _tau_m(neuron: ELM | ModifiedELM, low: float, high: float) -> Tensor:
    high = max(low + 3e-6, high)
    return low + (high - low) / (1 + torch.exp(-neuron.memory_rho))


def _tau_b(neuron: LeakyMemory) -> Tensor:
    """Return the time constant of each branch."""
    if neuron.branch_rho is not None:
        return neuron.branch_rho.exp()
    return torch.full((neuron.branches,), float(neuron.tau or 0.0)).to(neuron.synapse_weight)


def _mlp(neuron: LeakyMemory, h: Tensor) -> Tensor:
    *hidden, last = neuron.linears
    for layer in hidden:
        a = h @ layer.weight.T + layer.bias
        positive = a.clamp(min=0)
        h = {"relu": positive, "relu-squared": positive**2, "silu": a / (1 + torch.exp(-a))}[neuron.activation]
    return h @ last.weight.T + last.bias


def _phi(z: Tensor) -> Tensor:
    """Return 1.7159 tanh(2 z / 3) (LeCun et al., Efficient BackProp, 1998)."""
    return 1.7159 * torch.tanh(2 * z / 3)


def _elm_output(neuron: ELM, m: Tensor) -> Tensor:
    y = m @ neuron.w_y.weight.T + neuron.w_y.bias
    return y if neuron.readout == "real" else (y >= neuron.threshold).to(y.dtype)


def _stacked(rows: list[tuple[Tensor, Tensor, Tensor, Tensor]]) -> Trace:
    return Trace(*(torch.stack(values) for values in zip(*rows, strict=True)))
