"""A network of ELM neurons: hidden layers that hear themselves, and a layer of simpler neurons that reads them out."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from neurons import NeuronFactory
from neurons.elm.population import ELMPopulation
from step.models.base import at_last_step, models
from step.models.paper import Paper
from step.models.sequence.base import SequenceNetwork
from step.models.sequence.budget import BudgetConfig, fitted


class ELMNetworkConfig(BudgetConfig):
    """Sizes and options of the layers; the defaults are those of the paper's networks for SHD-Adding.

    ``parameters`` stands in place of ``neurons``: the largest layers whose network has no more learned values, which
    is how neurons are traded for ``memory`` at equal size.
    """

    WIDTH: ClassVar[str] = "neurons"
    WIDTH_DEFAULT: ClassVar[int] = 96

    neurons: int | None = Field(None, ge=1)
    """Neurons of every hidden layer; 96 when neither it nor ``parameters`` is given."""
    depth: int = Field(1, ge=1)
    """Number of hidden layers."""
    memory: int = Field(5, ge=1)
    """Memory units of a hidden neuron."""
    hidden: int | None = Field(None, ge=1)
    """Width of a hidden neuron's perceptron; twice ``memory`` when left out."""
    layers: int = Field(1, ge=0)
    """Hidden layers of that perceptron."""
    activation: Literal["relu-squared", "relu", "silu"] = "relu-squared"
    branches: int = Field(30, ge=1)
    synapses: int = Field(10, ge=1)
    """Synapses on each branch."""
    rectifier: Literal["identity", "relu", "abs", "exp"] = "identity"
    input_scale: float = Field(10.0, gt=0)
    wiring: Literal["random", "full", "windowed", "modular", "small-world"] = "random"
    """How the first hidden layer is wired; layers behind it are wired at random."""
    recurrent: float = Field(0.25, ge=0, le=1)
    """Share of a hidden neuron's synapses that hear its own layer, where the wiring is random."""
    modules: int = Field(1, ge=1)
    overlap: float = Field(0.2, ge=0, lt=1)
    p_inter: float = Field(0.1, ge=0, le=1)
    neighbours: int = Field(10, ge=1)
    p_rewire: float = Field(0.1, ge=0, le=1)
    scrambled: bool = False
    """Whether the input channels are exchanged at random for the wiring, the control of wirings by windows."""
    wiring_seed: int = 0
    """Seed of the wiring of the first layer; later ones count on from it."""
    tau: float | None = Field(None, gt=0)
    """Time constant of the branches; without one they do not leak."""
    tau_min: float = Field(1.0, gt=0)
    tau_max: float = Field(500.0, gt=0)
    learn_memory_tau: bool = False
    gain: float = Field(5.0, gt=0)
    high_pass: float | None = Field(5.0, gt=0)
    dt: float | None = Field(None, gt=0)
    """Duration of a time step in the unit of the time constants; when left out that of the data, or 1."""
    readout: Literal["relu", "real", "spike"] = "relu"
    """What hidden neurons send."""
    threshold: float = 0.5
    surrogate: str | dict[str, Any] = "arctan"
    input_dropout: float = Field(0.2, ge=0, lt=1)
    """Share of its input channels that each layer goes without for a sample in training."""
    recurrent_dropout: float = Field(0.2, ge=0, lt=1)
    memory_dropout: float = Field(0.0, ge=0, lt=1)
    effort: float = Field(0.002, ge=0)
    """Weight of the penalty on what the perceptrons of the hidden neurons say."""
    activity: float = Field(0.2, ge=0)
    """Weight of the penalty on the activity of the hidden neurons."""
    readout_memory: int = Field(3, ge=1)
    """Memory units of a neuron of the layer that reads out."""
    linear: bool = True
    """Whether a linear layer of all classes stands at the end."""

    @property
    def multiple(self) -> int:
        """What the number of neurons must be a multiple of."""
        return 1 if self.wiring in ("random", "full") else self.modules

    def layer(self) -> dict[str, Any]:
        """Return the options that all layers share."""
        shared = {
            "branches", "synapses", "rectifier", "input_scale", "tau", "tau_min", "tau_max", "learn_memory_tau", "gain",
            "dt", "activation", "input_dropout", "memory_dropout",
        }  # fmt: skip
        return {key: value for key, value in self.model_dump(include=shared).items() if value is not None}

    def hidden_layer(self, first: bool) -> dict[str, Any]:
        """Return the options of a hidden layer; only the first sees the order of the channels."""
        options = {
            "neurons", "memory", "hidden", "layers", "recurrent", "high_pass", "readout", "threshold", "surrogate",
            "recurrent_dropout", "effort", "activity",
        }  # fmt: skip
        wired = {"wiring", "modules", "overlap", "p_inter", "neighbours", "p_rewire", "scrambled"}
        return self.layer() | self.model_dump(include=options | wired if first else options)


@models.register("elm-network")
class ELMNetwork(SequenceNetwork):
    """ELM network: layers of different ELM neurons that hear each other, read out by simpler ELM neurons."""

    Config = ELMNetworkConfig
    config: ELMNetworkConfig
    paper: ClassVar[Paper | None] = Paper(
        "Scaling Laws and Tradeoffs in Recurrent Networks of Expressive Neurons",
        "arXiv",
        2026,
        "arXiv:2605.12049",
        note="Wirings by windows, and their scrambled controls, are those of arXiv:2609.26940.",
    )

    def __init__(self, config: ELMNetworkConfig, neuron: NeuronFactory) -> None:
        super().__init__(fitted(type(self), config, neuron), neuron)
        c = self.config
        sizes = [c.features, *[c.width] * c.depth]
        self.layers = nn.ModuleList(
            ELMPopulation(size, seed=c.wiring_seed + place, **c.hidden_layer(place == 0))
            for place, size in enumerate(sizes[:-1])
        )
        self.readout = ELMPopulation(
            sizes[-1], neurons=c.classes, memory=c.readout_memory, layers=0, recurrent=0.0, high_pass=None,
            readout="real", seed=c.wiring_seed + c.depth, **c.layer(),
        )  # fmt: skip
        self.linear = nn.Linear(c.classes, c.classes) if c.linear else nn.Identity()
        for layer in (*self.layers, self.readout):
            layer.is_layer = True  # type: ignore[assignment]  # its weights are those of the network

    def forward(self, x: Tensor) -> Tensor:
        """Map [T, B, ...] to outputs [T, B, classes]."""
        return self.linear(self._read(x))

    def last(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the outputs at the last step of every sample, [1, B, classes]."""
        return self.linear(at_last_step(self._read(x), lengths))

    def _read(self, x: Tensor) -> Tensor:
        """Return what the neurons of the last layer send [T, B, classes]."""
        x = self.inputs(x)
        for layer in self.layers:
            x = layer(x)
        return self.readout(x)
