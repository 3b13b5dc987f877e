"""What an answer is worth: scores of places as log-likelihood ratios, in place of the removal of hyperactive neurons.

Scores of the modules of an ensemble are compared with each other, though lateral inhibition finds a winner in every
module, those that do not know the place included. Hard removal takes out neurons that win often. Here each neuron
has two rates instead: one for each place of its module, and one for images that show none of them. With uniform priors,
and counts independent given the place, the posterior of place p of module m is

P(p | counts) ~ P(counts of m | p) / P(counts of m | an image foreign to m),

since all other modules see a foreign image either way. The logarithm of that ratio is the score: a spike of a neuron
that fires on everything says nothing, one that is rare elsewhere says much, and the silence of a neuron that
should have fired counts against a place. Scores of all modules are on one scale.

A place that looks different moves the rates of its neurons less than its references did. ``strength`` e says how much
of the logarithm of that move is left: queries have rates b (r / b)^e, for rates r of the references and b of foreign
images. With e = 1 queries are as references; as e goes to 0, score / e becomes sum (count - b) log(r / b), the locally
most powerful test of a weak move (Rao 1948), whose mean over foreign images is 0 for every place.

Both rates are those of the trained network with weights and thresholds frozen, as queries meet it. In training,
a neuron's response to a place is measured while its weights still move, and right after normalisation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from step.learners.places.ensemble.readout import Readout

FLOOR = 1e-4
"""Least rate of a neuron, in spikes of a presentation."""


def background(spikes: Tensor, images: Tensor, smoothing: float = 1.0) -> Tensor:
    """Return the rate of each neuron on foreign images, [M, N].

    The mean of all neurons of the module enters with a weight of ``smoothing`` images, so that a neuron which was never
    seen to fire may yet do so.

    Parameters
    ----------
    spikes : Tensor, shape [M, N]
        Sum over foreign images.
    images : Tensor, shape [M]
        Their number.
    """
    exact, shown = spikes.to(torch.float64), images.to(torch.float64).unsqueeze(1)
    mean = exact.mean(dim=1, keepdim=True) / shown.clamp(min=1.0)
    return ((exact + smoothing * mean) / (shown + smoothing)).clamp(min=FLOOR)


def rates(spikes: Tensor, presentations: Tensor, rate: Tensor, smoothing: float) -> Tensor:
    """Return the rate of each neuron for each place, [M, N, K]: a mean with the background as its prior.

    Parameters
    ----------
    spikes : Tensor, shape [M, N, K]
        Sum over the presentations of each place.
    presentations : Tensor, shape [M, K]
    rate : Tensor, shape [M, N]
        Background.
    smoothing : float
        Presentations that the prior stands for.
    """
    shown = presentations.to(torch.float64).unsqueeze(1)
    return (spikes.to(torch.float64) + smoothing * rate.unsqueeze(2)) / (shown + smoothing)


def log_likelihood(rate: Tensor, dispersion: float) -> tuple[Tensor, Tensor]:
    """Return slope and constant of log P(count) = constant + count x slope + what is the same for all rates.

    Poisson, or negative binomial with variance rate + dispersion x rate^2.
    """
    if dispersion == 0:
        return rate.log(), -rate
    shape = 1 / dispersion
    return rate.log() - (shape + rate).log(), -shape * torch.log1p(rate / shape)


def calibrated(
    spikes: Tensor,
    presentations: Tensor,
    rate: Tensor,
    *,
    smoothing: float = 4.0,
    strength: float = 0.75,
    dispersion: float = 0.0,
) -> Readout:
    """Return the read-out whose scores are log P(counts | place) - log P(counts | foreign image).

    Parameters
    ----------
    spikes : Tensor, shape [M, N, K]
        Spikes of each neuron over all presentations of each place to the frozen network.
    presentations : Tensor, shape [M, K]
        Their number; 0 for slots without a place.
    rate : Tensor, shape [M, N]
        Of each neuron on foreign images.
    smoothing : float
        Presentations for which that rate stands as prior of those for places.
    strength : float
        How much of the change of a rate by a place, as a logarithm, is left in a query.
    dispersion : float
        See :func:`log_likelihood`; one for all neurons.
    """
    of_references = rates(spikes, presentations, rate, smoothing)
    of_query = rate.unsqueeze(2) * (of_references / rate.unsqueeze(2)).pow(strength)
    slope, constant = log_likelihood(of_query, dispersion)
    slope_of_rate, constant_of_rate = log_likelihood(rate, dispersion)
    weight = slope - slope_of_rate.unsqueeze(2)
    base = (constant - constant_of_rate.unsqueeze(2)).sum(dim=1)
    return Readout(weight, spikes.sum(dim=1) > 0, base)
