"""From the input of one ELM neuron to what its MLP sees of it: synapses, branches, their filter, the first layer.

None of this depends on the memory, so it is worked out for all steps at once. Synapses and branch sums are linear, the
branch filter ``b_t = decay b_{t-1} + i_t`` is linear and, with one decay for all branches, the same for all of them: it
commutes with the matrices around it. So these become one matrix, which is multiplied with the spikes event by event
(:func:`neurons.products.spike_linear`), and the filter runs over the narrowest numbers there are.

Branches are those of the second form of the neuron of Spieler et al. (ICLR 2024, arXiv 2306.16922): weights first, sum,
then filter, which is the first form exactly where all synapses share one time constant.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from neurons.elm.filters import filter_time, filter_time_reference
from neurons.plain import is_plain
from neurons.products import spike_linear

__all__ = ["branch_matrix", "filter_time", "filter_time_reference", "project"]
from neurons.synapses import synapse_sums

_FORGOTTEN = 2.0**-40
"""Share of an input that is as good as gone from a branch."""


def branch_matrix(weights: Tensor, index: Tensor | None, mask: Tensor | None, synapses: int, inputs: int) -> Tensor:
    """Return the matrix from inputs to branch sums, shape [branches, inputs].

    Parameters
    ----------
    weights : Tensor, shape [branches * synapses]
        Of all synapses, those of a branch next to each other.
    index : Tensor of int64, same shape, optional
        The input that a synapse reads; synapse i reads input i when left out.
    mask : Tensor, same shape, optional
        Zero for a synapse that is not there.
    synapses : int
        Synapses of one branch.
    inputs : int
    """
    weights = weights if mask is None else weights * mask
    branches = weights.numel() // synapses
    at = torch.arange(weights.numel(), device=weights.device)
    place = at // synapses * inputs + (at if index is None else index)
    return weights.new_zeros(branches * inputs).index_add(0, place, weights).view(branches, inputs)


def project(
    x: Tensor,
    weights: Tensor,
    index: Tensor | None,
    mask: Tensor | None,
    synapses: int,
    decay: Tensor | None,
    w_in: Tensor,
    bias: Tensor,
    b0: Tensor | None = None,
    *,
    keep: bool = True,
    input_scale: float = 1.0,
) -> tuple[Tensor, Tensor | None]:
    """Return the input half of the first layer of the MLP for every step, and the last branch state.

    Parameters
    ----------
    x : Tensor, shape [T, B, inputs]
        Best with many zeros.
    weights : Tensor, shape [branches * synapses]
        Effective weights of the synapses (after the rectifier), those of a branch next to each other.
    index : Tensor of int64, same shape, optional
        The input that a synapse reads; without it synapse i reads input i.
    mask : Tensor, same shape, optional
        Zero for a synapse that is not there.
    synapses : int
        Synapses of one branch.
    decay : Tensor, shape [] or [branches], optional
        Share of a branch that a step leaves: one for all, or one each. None: no filter, branches are their sums.
    w_in : Tensor, shape [H, branches]
        Input half of the weights of the first layer.
    bias : Tensor, shape [H]
    b0 : Tensor, shape [B, branches], optional
        State of the branches before the first step; zero when left out.
    keep : bool
        Whether the last branch state is wanted.
    input_scale : float
        Factor on the branch sums.

    Returns
    -------
    u : Tensor, shape [T, B, 1, H]
    b : Tensor, shape [B, branches], or None
        State of the branches after the last step; None unless ``keep`` and there is a filter.
    """
    inputs, (hidden, branches) = x.shape[-1], w_in.shape
    if is_plain():  # as the neuron is drawn: synapses, branches, their filter, the first layer
        b = synapse_sums(x, (weights * input_scale).view(branches, synapses), index, mask)
        if decay is not None:
            b = filter_time_reference(b, decay, b0)
        return F.linear(b, w_in, bias).unsqueeze(2), b[-1] if keep and decay is not None else None
    plain = index is None and synapses == 1
    if input_scale != 1.0:
        weights = weights * input_scale
    # what one step of one sample takes: the first layer on the inputs themselves, or on the branches
    composed = inputs * hidden <= (0 if plain else inputs * branches) + branches * hidden
    last: Tensor | None = None
    if decay is None or (decay.dim() == 0 and composed):
        if plain:
            matrix = w_in * (weights if mask is None else weights * mask)
        elif composed:
            matrix = w_in @ branch_matrix(weights, index, mask, synapses, inputs)
        else:
            sums = spike_linear(x, branch_matrix(weights, index, mask, synapses, inputs))
            return F.linear(sums, w_in, bias).unsqueeze(2), None
        if decay is None:
            return spike_linear(x, matrix, bias).unsqueeze(2), None
        start = None if b0 is None else F.linear(b0, w_in)
        u = filter_time(spike_linear(x, matrix), decay, start, bias)
        if keep:
            last = _last(x, decay, b0, weights, index, mask, synapses)
        return u.unsqueeze(2), last
    sums = _sums(x, weights, index, mask, synapses)
    b = filter_time(sums, decay, b0)
    return F.linear(b, w_in, bias).unsqueeze(2), b[-1] if keep else None


def _sums(x: Tensor, weights: Tensor, index: Tensor | None, mask: Tensor | None, synapses: int) -> Tensor:
    """Return the branch sums [..., branches] of inputs [..., inputs]."""
    if index is None and synapses == 1:
        return x * (weights if mask is None else weights * mask)
    return spike_linear(x, branch_matrix(weights, index, mask, synapses, x.shape[-1]))


def _last(
    x: Tensor,
    decay: Tensor,
    b0: Tensor | None,
    weights: Tensor,
    index: Tensor | None,
    mask: Tensor | None,
    synapses: int,
) -> Tensor:
    """Return the last branch state: the filter over the inputs, at the last step only."""
    steps = x.shape[0]
    rate = float(decay.detach())
    recent = steps if rate >= 1 else 1 if rate <= 0 else min(steps, math.ceil(math.log(_FORGOTTEN) / math.log(rate)))
    left = decay ** torch.arange(recent - 1, -1, -1, device=x.device, dtype=x.dtype)
    filtered = torch.einsum("t,tbi->bi", left, x[steps - recent :])
    last = _sums(filtered, weights, index, mask, synapses)
    return last if b0 is None else last + decay**steps * b0
