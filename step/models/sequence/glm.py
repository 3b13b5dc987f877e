"""Generalised linear model of a neuron: one fitted filter for each input and output, and nothing else."""

from __future__ import annotations

import math
from typing import ClassVar, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from neurons import LeakyIntegrator, NeuronFactory
from neurons.errors import OptionError
from step.models.base import models
from step.models.paper import Paper
from step.models.sequence.base import SequenceConfig, SequenceNetwork


class GLMConfig(SequenceConfig):
    """Filters of a generalised linear model."""

    basis: int = Field(5, ge=1)
    """Exponentials that every filter is a sum of."""
    shortest: float = Field(2.0, gt=1)
    longest: float = Field(100.0, gt=1)
    """Their shortest and longest time constant, in time steps; the others lie between them, evenly in the logarithm."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.longest < self.shortest:
            raise OptionError(f"longest must be at least shortest = {self.shortest}, not {self.longest}")
        return self


@models.register("glm")
class GLM(SequenceNetwork):
    """Generalised linear model: each input passes a fitted filter; what a leaky neuron without dendrites can do.

    y_t = b + sum over inputs j and s >= 0 of k_j(s) x_j(t - s), with k_j(s) a weighted sum of ``basis`` decaying
    exponentials, (1 - 1/tau)^s / sqrt(tau). For a neuron's spikes y is the logit of a spike (the logistic link; the
    model does not hear its own spikes), for its voltage the voltage. As filtering and weighting may change places, the
    inputs are weighted first and the state is only ``basis`` numbers for each output.
    """

    Config = GLMConfig
    config: GLMConfig
    paper: ClassVar[Paper | None] = Paper(
        "Maximum likelihood estimation of cascade point-process neural encoding models",
        "Network",
        2004,
        "10.1088/0954-898X_15_4_002",
        note="Filters of exponentials, a logistic link, no filter of the neuron's own spikes.",
    )

    def __init__(self, config: GLMConfig, neuron: NeuronFactory) -> None:
        super().__init__(config, neuron)
        c = config
        growth = (c.longest / c.shortest) ** (1 / max(c.basis - 1, 1))
        taus = [c.shortest * growth**number for number in range(c.basis)]
        self.weights = nn.Linear(c.features, c.basis * c.classes, bias=False)
        self.filters = nn.ModuleList(LeakyIntegrator(tau) for tau in taus)
        self.scales = [math.sqrt(tau) for tau in taus]
        self.bias = nn.Parameter(torch.zeros(c.classes))

    def forward(self, x: Tensor) -> Tensor:
        """Map [T, B, ...] to outputs [T, B, classes]."""
        weighted = self.weights(self.inputs(x)).chunk(self.config.basis, -1)
        parts = zip(self.filters, self.scales, weighted, strict=True)
        return self.bias + torch.stack([scale * each(drive) for each, scale, drive in parts]).sum(0)
