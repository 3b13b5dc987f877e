"""Which neurons speak for which place, from what they answered in training."""

from __future__ import annotations

import torch
from torch import Tensor

from step.learners.places.ensemble.readout import Readout

LEAST_SHARE = 0.1
"""Share of a neuron's spikes that must fall on a place for a neuron to be kept for it (Hussaini et al., RA-L 2022)."""
AMBIGUITY = 0.02
"""Share of the labels from which on a neuron that learnt so many counts as ambiguous (ibid., gamma)."""


def labels_of(responses: Tensor) -> Tensor:
    """Return the slot for which each neuron answered most, int64 [M, N], -1 for one that never did.

    Parameters
    ----------
    responses : Tensor, shape [M, N, K]
        Mean spikes of a presentation of each place.
    """
    best, label = responses.max(dim=2)
    return torch.where(best > 0, label, torch.full_like(label, -1))


def standard(responses: Tensor) -> Readout:
    """Return the read-out by which a place scores the mean count of the neurons that answered it most.

    Diehl and Cook (2015); the modules of Hussaini et al. (ICRA 2023) are read like this.

    Parameters
    ----------
    responses : Tensor, shape [M, N, K]
        Mean spikes of a presentation of each place.
    """
    labels = labels_of(responses)
    votes = (labels.unsqueeze(2) == torch.arange(responses.shape[2])).to(torch.float64)
    voters = votes.sum(dim=1, keepdim=True)
    return Readout(votes / voters.clamp(min=1.0), voters.squeeze(1) > 0)


def weighted(responses: Tensor, filled: Tensor) -> Readout:
    """Return the read-out by weighted neuronal assignments (Hussaini et al., RA-L 2022).

    A neuron is kept for a place on which more than 10 % of its training spikes fell. For those of a place, counts are
    (a) divided by the number of labels of the neuron where it learnt at least gamma x labels of them, gamma = 0.02;
    (b) multiplied by the share of the neuron's training spikes that fell on the place; their sum is (c) multiplied by
    the share of the place's training spikes that belongs to neurons that fire now. The labels of (a) are those of the
    module, so that with 25 places every neuron is divided by its number of labels.

    Parameters
    ----------
    responses : Tensor, shape [M, N, K]
        Mean spikes of a presentation of each place.
    filled : Tensor of bool, shape [M, K]
        Slots that hold a place.
    """
    own = responses.to(torch.float64)
    total = own.sum(dim=2, keepdim=True)
    share = own / total.clamp(min=torch.finfo(torch.float64).tiny)
    kept = share > LEAST_SHARE
    labels = kept.sum(dim=2, keepdim=True)
    limit = AMBIGUITY * filled.sum(dim=1).view(-1, 1, 1)
    ambiguous = torch.where(labels >= limit, labels, torch.ones_like(labels)).clamp(min=1)
    of_place = own.sum(dim=1, keepdim=True)
    firing = own / of_place.clamp(min=torch.finfo(torch.float64).tiny)
    return Readout(kept * share / ambiguous, kept.any(dim=1), firing=firing)
