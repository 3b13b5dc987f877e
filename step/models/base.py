"""What every network is: a config, a neuron factory, and a forward pass over [T, B, ...]."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, Self

import torch
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from torch import Tensor, nn

from neurons import Neuron, NeuronFactory, State, factory, neurons_in
from neurons.base import neurons
from neurons.errors import OptionError, ShapeError, suggest
from neurons.lengths import at_last_step
from neurons.registry import Registry
from step.models.paper import Paper

models: Registry[Network] = Registry("model", "models")

NetworkState = dict[str, State]
"""State of a network between two calls of ``run``: path of each neuron to that neuron's state."""


class NetworkConfig(BaseModel):
    """Numbers that define a network; unknown keys are refused.

    ``size`` may be given as if it were a field: it names an entry of ``SIZES``, whose values stand where none are
    given. It is not kept, so that the same numbers are the same network however they were named.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    SIZES: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    @model_validator(mode="before")
    @classmethod
    def _size(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or "size" not in data or "size" in cls.model_fields:
            return data
        given = dict(data)
        size = given.pop("size")
        if size not in cls.SIZES:
            raise ValueError(f"there is no size {size!r}{suggest(str(size), cls.SIZES)}")
        return {**cls.SIZES[size], **given}


class Network(nn.Module):
    """Base of all networks.

    ``network(x)`` takes [T, B, ...] and returns [T, B, classes]; the protocol decides how time is read out.
    Modules keep no state: ``network.run(x, state)`` streams.

    Parameters
    ----------
    config : NetworkConfig
    neuron : NeuronFactory
        Makes the neuron of every layer.

    Class attributes
    ----------------
    conventional : bool
        True for networks without time, which take conventional neurons only.
    takes_neuron : bool
        False for networks that have no place for a neuron of the registry, such as an LSTM.
    """

    Config: ClassVar[type[NetworkConfig]]
    paper: ClassVar[Paper | None] = None
    conventional: ClassVar[bool] = False
    takes_neuron: ClassVar[bool] = True

    def __init__(self, config: NetworkConfig, neuron: NeuronFactory) -> None:
        super().__init__()
        self.check_neuron(neuron.name)
        self.config = config
        self.neuron = neuron

    @classmethod
    def check_neuron(cls, name: str) -> None:
        """Refuse a neuron that cannot be that of this network.

        Raises
        ------
        OptionError
            For a spiking neuron in a conventional network.
        """
        if cls.conventional and not getattr(neurons.get(name), "conventional", False):
            kind = getattr(cls, "registered_name", cls.__name__)
            raise OptionError(
                f"{kind} is a conventional network: it computes with real numbers and has no time, so {name!r} cannot "
                "be its neuron; take gelu, relu or quantised_relu"
            )

    @property
    def streams(self) -> bool:
        """Whether ``run`` goes on from a state; not where a part looks at several time steps at once."""
        return all(getattr(module, "streams", True) for module in self.modules() if module is not self)

    def run(self, x: Tensor, state: NetworkState | None = None) -> tuple[Tensor, NetworkState]:
        """Run over the time steps of ``x`` from ``state`` (rest when left out); return outputs and new state.

        Norms use their running statistics in eval mode; in training mode each call normalises by its own steps.
        """
        before: NetworkState = state or {}
        after: NetworkState = {}
        if before and not self.streams:
            raise ShapeError(f"{type(self).__name__} mixes time steps and cannot go on from a state; run all at once")
        streaming = shallow_copy(self)
        found = dict(neurons_in(streaming))
        paths = set(found)
        if before and set(before) != paths:
            raise ShapeError(f"the state is of another network: {_difference(set(before), paths)}")
        for name, module in found.items():
            module.forward = partial(_stream, module, name, before.get(name), after)  # type: ignore[method-assign]
        return streaming(x), after

    def last(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the outputs at the last step of every sample, [1, B, classes].

        Parameters
        ----------
        x : Tensor, shape [T, B, ...]
        lengths : Tensor of int64, shape [B], optional
            Steps of each sample; T for all when left out.
        """
        return at_last_step(self(x), lengths)

    def twin(self, neuron: str | Mapping[str, Any] | NeuronFactory) -> Self:
        """Return the same network with other neurons; all weights outside the neurons are copied.

        Steps of quantised weights go along where both networks have them.

        Raises
        ------
        ShapeError
            When the networks differ in other weights.
        """
        twin = type(self)(self.config, factory(neuron))
        weights = _outside_neurons(self)
        steps = {name for name in {*weights, *_outside_neurons(twin)} if name.endswith("weight_step")}
        have, want = set(weights) - steps, set(_outside_neurons(twin)) - steps
        if have != want:
            kind = getattr(type(self), "registered_name", type(self).__name__)
            raise ShapeError(f"a {kind} of {twin.neuron.name} has other weights: {_difference(have, want)}")
        twin.load_state_dict(weights, strict=False)
        reference = next(self.parameters(), None)
        if reference is not None:
            twin.to(device=reference.device, dtype=reference.dtype)
        return twin.train(self.training)

    def folded(self) -> Self:
        """Return a copy for inference in which every norm is folded into the layer before it.

        Exact up to rounding. The copy is in eval mode and shares nothing with this network.
        """
        from step.models.fold import fold

        return fold(self)

    def segments(self) -> list[nn.Module]:
        """Return the parts that are worth recomputing on the way back instead of keeping, first to last.

        Their order is also that in which learning rates decay layer by layer. Empty where a network has no blocks.
        """
        return []

    @property
    def parameter_count(self) -> int:
        """Number of learned values."""
        return sum(p.numel() for p in self.parameters())


def shallow_copy(module: nn.Module) -> nn.Module:
    """Copy the tree of modules but share every parameter and buffer."""
    clone = copy.copy(module)
    clone._modules = {name: child and shallow_copy(child) for name, child in module._modules.items()}
    return clone


def _stream(neuron: Neuron, name: str, before: State | None, after: NetworkState, x: Tensor) -> Tensor:
    if name in after:
        raise ShapeError(f"neuron {name!r} is used twice in one pass; give each place a neuron of its own")
    y, after[name] = neuron.run(x, before)
    return y


def _outside_neurons(network: nn.Module) -> dict[str, Tensor]:
    # A layer that is run as a neuron, so that it can stream, belongs to the network; a neuron inside it does not.
    paths = tuple(
        f"{name}." for name, module in network.named_modules() if isinstance(module, Neuron) and not module.is_layer
    )
    return {name: value for name, value in network.state_dict().items() if not name.startswith(paths)}


def _difference(have: set[str], want: set[str]) -> str:
    return f"missing {sorted(want - have)[:3]}, not of this network {sorted(have - want)[:3]}"


def fold_time(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply a function that knows no time to every step of ``x`` [T, B, ...], with T folded into the batch.

    Where all steps are one and the same memory (an expanded tensor, as the direct encoder returns), the function
    runs once and its result is repeated. Batch statistics are those of the repeated batch either way; only the
    n / (n - 1) correction of a norm's running variance sees fewer samples.
    """
    steps, batch = x.shape[:2]
    if steps > 1 and x.stride(0) == 0:
        once = function(x[0])
        return once.unsqueeze(0).expand(steps, *once.shape)
    return function(x.flatten(0, 1)).unflatten(0, (steps, batch))


def create(
    name: str, /, *, neuron: str | Mapping[str, Any] | NeuronFactory = "lif", seed: int | None = None, **options: Any
) -> Network:
    """Build the network ``name``.

    Parameters
    ----------
    name : str
        Registered name, for example ``"spikformer"``.
    neuron : str, mapping or NeuronFactory
        Neuron of every layer.
    seed : int, optional
        Seed of the initial weights; torch's global generator is left as it was.
    **options
        Fields of the model's config.

    Raises
    ------
    OptionError
        An option that the model does not have, or a value outside its domain.
    """
    cls = models.get(name)
    config = validated(cls.Config, options, f"model {name!r}")  # type: ignore[attr-defined]
    if seed is None:
        return cls(config, factory(neuron))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return cls(config, factory(neuron))


def validated(config: type[BaseModel], options: Mapping[str, Any], what: str) -> Any:
    """Build a pydantic config; the first thing wrong becomes one line."""
    try:
        return config(**options)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise OptionError(f"{what} has no option {key!r}{suggest(key, config.model_fields)}") from None
        message = first["msg"].removeprefix("Value error, ")
        raise OptionError(f"{what}{f', option {key!r}' if key else ''}: {message}") from None
