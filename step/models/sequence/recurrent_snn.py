"""Recurrent spiking networks: neurons that hear the spikes of their layer one step later."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from neurons import LeakyIntegrator, NeuronFactory
from neurons.lengths import at_last_step
from step.models.base import models
from step.models.layers import LinearNorm
from step.models.paper import Paper
from step.models.sequence.base import SequenceNetwork
from step.models.sequence.budget import BudgetConfig, fitted
from step.models.sequence.recurrent import Recurrent


class RecurrentSNNConfig(BudgetConfig):
    """Sizes of a recurrent spiking network."""

    hidden: int | None = Field(None, ge=1)
    """Neurons of every layer; 128 when neither it nor ``parameters`` is given."""
    layers: int = Field(1, ge=1)
    recurrent: bool = True
    """Whether neurons hear the spikes of their layer."""
    norm: bool = True
    """Batch norm of what a layer hears from the one before; without it this linear map has a bias."""
    readout: Literal["leaky-integrator", "linear"] = "leaky-integrator"
    """Linear map of the last spikes, with a leaky integrator behind it or without."""
    readout_tau: float = Field(20.0, gt=1)
    """Time constant of that integrator in time steps."""


@models.register("recurrent-snn")
class RecurrentSNN(SequenceNetwork):
    """Recurrent spiking network: layers of any neuron with dense recurrent weights, then a leaky integrator."""

    Config = RecurrentSNNConfig
    config: RecurrentSNNConfig
    takes_neuron = True
    paper: ClassVar[Paper | None] = Paper(
        "Long short-term memory and learning-to-learn in networks of spiking neurons",
        "NeurIPS",
        2018,
        "arXiv:1803.09574",
        note="With the neuron alif this is the LSNN of Bellec et al. without delays, refractory periods and rewiring; "
        "give tau_adaptation the span of the task. Time constants are not learned, as they are in Yin et al., Nature "
        "Machine Intelligence 2021. Batch norm before the neurons as in Bittar and Garner, Frontiers in Neuroscience "
        "2022.",
    )

    def __init__(self, config: RecurrentSNNConfig, neuron: NeuronFactory) -> None:
        super().__init__(fitted(type(self), config, neuron), neuron)
        c = self.config
        layers: list[nn.Module] = []
        for i in range(c.layers):
            layers.append(LinearNorm(c.width if i else c.features, c.width, norm=c.norm, bias=not c.norm))
            made = neuron(features=c.width)
            layers.append(Recurrent(c.width, made) if c.recurrent else made)
        self.layers = nn.Sequential(*layers)
        self.readout = nn.Linear(c.width, c.classes)
        self.integrator = LeakyIntegrator(c.readout_tau) if c.readout == "leaky-integrator" else None

    def forward(self, x: Tensor) -> Tensor:
        """Map [T, B, ...] to outputs [T, B, classes]."""
        y = self.readout(self.layers(self.inputs(x)))
        return y if self.integrator is None else self.integrator(y)

    def last(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the outputs at the last step of every sample, [1, B, classes]."""
        if self.integrator is not None:
            return at_last_step(self(x), lengths)
        return self.readout(at_last_step(self.layers(self.inputs(x)), lengths))  # type: ignore[no-any-return]
