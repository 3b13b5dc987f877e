"""One ELM neuron as a whole network: its inputs are the channels, its outputs the classes."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, cast

from pydantic import Field
from torch import Tensor

from neurons import NeuronFactory
from neurons.base import neurons
from neurons.elm import LeakyMemory
from step.models.base import models
from step.models.paper import Paper
from step.models.sequence.base import SequenceNetwork
from step.models.sequence.budget import BudgetConfig, fitted

_FORMS = {"elm": "elm", "branch": "branch-elm", "modified": "modified-elm"}


class ELMConfig(BudgetConfig):
    """Options of the neuron; what is left out is the default of its form."""

    WIDTH: ClassVar[str] = "memory"
    WIDTH_DEFAULT: ClassVar[int] = 100

    form: Literal["elm", "branch", "modified"] = "elm"
    """The neuron: ``elm``, ``branch-elm`` or ``modified-elm`` of the registry."""
    memory: int | None = Field(None, ge=1)
    """Memory units; 100 when neither it nor ``parameters`` is given."""
    hidden: int | None = Field(None, ge=1)
    """Width of the perceptron; twice the memory units when left out."""
    layers: int | None = Field(None, ge=0)
    activation: Literal["relu", "silu", "relu-squared"] | None = None
    version: Literal["v1", "v2"] | None = None
    branches: int | None = Field(None, ge=1)
    synapses: int | None = Field(None, ge=1)
    """Synapses on each branch."""
    routing: Literal["none", "random", "neuronio"] | None = None
    routing_seed: int | None = None
    tau: float | None = Field(None, gt=0)
    """Time constant of the branches; without one those of the modified form do not leak."""
    learn_branch_tau: bool | None = None
    tau_min: float | None = Field(None, gt=0)
    tau_max: float | None = Field(None, gt=0)
    learn_memory_tau: bool | None = None
    gain: float | None = Field(None, gt=0)
    dt: float | None = Field(None, gt=0)
    """Duration of a time step, in the unit of the time constants."""
    weight: float | None = None
    rectifier: Literal["identity", "relu", "abs", "exp"] | None = None
    input_scale: float | None = Field(None, gt=0)
    high_pass: float | None = Field(None, gt=0)
    synapse_dropout: float | None = Field(None, ge=0, lt=1)
    """Share of the synapses that a sample of a modified neuron goes without in training."""
    memory_dropout: float | None = Field(None, ge=0, lt=1)
    checkpoint: int | None = Field(None, ge=0)

    def options(self) -> dict[str, Any]:
        """Return the options of the neuron."""
        data = {*BudgetConfig.model_fields, "form"}
        given = {key: value for key, value in self.model_dump(exclude=data).items() if value is not None}
        if "synapse_dropout" in given:
            given["input_dropout"] = given.pop("synapse_dropout")
        return given


@models.register("elm")
class ELM(SequenceNetwork):
    """Expressive leaky memory: one ELM neuron with its synapses, branches, perceptron and memory, read out linearly."""

    Config = ELMConfig
    config: ELMConfig
    paper: ClassVar[Paper | None] = Paper(
        "The Expressive Leaky Memory Neuron: an Efficient and Expressive Phenomenological Neuron Model Can Solve "
        "Long-Horizon Tasks",
        "ICLR",
        2024,
        "arXiv:2306.16922",
        note="The second form of the authors' code unless version is v1; the modified form is that of "
        "arXiv:2605.12049.",
    )

    def __init__(self, config: ELMConfig, neuron: NeuronFactory) -> None:
        super().__init__(fitted(type(self), config, neuron), neuron)
        c = self.config
        made = neurons.create(_FORMS[c.form], features=c.features, outputs=c.classes, readout="real", **c.options())
        self.elm = cast(LeakyMemory, made)
        self.elm.is_layer = True  # its weights are those of the network, which a twin shares

    def forward(self, x: Tensor) -> Tensor:
        """Map [T, B, ...] to outputs [T, B, classes]."""
        return self.elm(self.inputs(x))  # type: ignore[no-any-return]

    def last(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the outputs at the last step of every sample, [1, B, classes]; read out there only."""
        return self.elm.last(self.inputs(x), lengths).unsqueeze(0)
