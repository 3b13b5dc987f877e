"""What every learning rule is: how the gradients of one batch arise, and which activity went into them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from neurons import neurons_in
from neurons.checks import count
from neurons.errors import OptionError
from neurons.registry import Registry
from step.learners.continual.rules.activity import Activity, Rows, activity_of
from step.learners.continual.rules.product import check_products
from step.learners.continual.rules.taps import Layer, rows_of
from step.models import Network

rules: Registry[Rule] = Registry("rule", "rules")

Loss: TypeAlias = Callable[[Tensor], Tensor]
"""Maps the outputs of a network [T, B, C] to a scalar, the mean over the samples."""

Projections: TypeAlias = Mapping[str, Callable[[Tensor], Tensor | None]]
"""Path of a layer to the function that its presynaptic rows [R, n] go through on their way into the gradient.

Where it returns None the gradient is the usual one: whoever gave it projects the gradient instead."""


@dataclass
class Result:
    """What one batch gave; the gradients are in the parameters.

    Attributes
    ----------
    loss : Tensor, shape []
    outputs : Tensor, shape [T, B, C]
        Outputs of the network, detached; [1, B, C] where the rule reads time out itself.
    taps : dict of str to Activity
        Presynaptic activity of the layers, by path; empty unless asked for.
    """

    loss: Tensor
    outputs: Tensor
    taps: dict[str, Activity] = field(default_factory=dict)

    @cached_property
    def activity(self) -> dict[str, Tensor]:
        """The same as rows [R, n]; those of convolutions are laid out, which takes time and memory."""
        return {path: tap.rows() for path, tap in self.taps.items()}


class Rule(ABC):
    """Base of the learning rules.

    A rule leaves the network as it is: whatever has to run otherwise runs in a copy of the tree of modules that shares
    all parameters.

    Parameters
    ----------
    network : Network
    layers : mapping of str to nn.Linear or nn.Conv2d
        Layers whose activity is told and projected, by path; see :func:`protected_layers`.
    rows : int, optional
        Presynaptic rows to draw for each layer and batch; all when left out. A convolution has one for every position.
    seed : int
        Seed of all that the rule draws.

    Attributes
    ----------
    whole : bool
        Whether the gradient of a layer's weights is one product of all errors and all activity of a batch.
    every : dict of str to nn.Linear or nn.Conv2d
        All layers that the rule changes the way back of, by path.
    carry : callable, optional
        Says what carries the error back through a layer, where another rule is built on this one.
    """

    whole: bool = False

    def __init__(
        self, network: Network, layers: Mapping[str, nn.Module], /, *, rows: int | None = None, seed: int = 0
    ) -> None:
        if rows is not None:
            count(f"rule {self.name!r}", rows=rows)
        self.network = network
        self.layers: dict[str, Layer] = {path: _as_layer(path, layer) for path, layer in layers.items()}
        self.every: dict[str, Layer] = {**synapses(network), **self.layers}
        self.rows = rows
        self.carry: Callable[[str, Layer], Tensor | None] | None = None
        self.generator = torch.Generator().manual_seed(seed)

    @property
    def name(self) -> str:
        """Registered name."""
        return str(getattr(self, "registered_name", type(self).__name__))

    def check(self) -> None:
        """Refuse what the rule cannot train.

        Raises
        ------
        OptionError
            In one line, where a neuron or the network does not fit the rule.
        """
        for path, layer in self.layers.items():
            if synapses(self.network).get(path) is not layer:
                raise OptionError(
                    f"layer {path!r} of rule {self.name!r} is not that of its network, or inside a neuron"
                )

    @abstractmethod
    def gradients(self, x: Tensor, loss: Loss, *, taps: bool = False, project: Projections | None = None) -> Result:
        """Add the gradients of one batch to the ``.grad`` of all parameters; the caller sets them to zero.

        Parameters
        ----------
        x : Tensor, shape [T, B, ...]
        loss : callable
            Maps outputs [T, B, C] to a scalar.
        taps : bool
            Whether to return the presynaptic activity of the layers too.
        project : mapping of str to callable, optional
            What the presynaptic rows [R, n] of a layer go through before they are multiplied by the errors; what is
            propagated back to earlier layers stays as it is. For a linear projection this equals projecting the
            gradient of the weights once, which costs far less; it is the reference, and the only form of
            projections that are not linear.
        """

    def error_weight(self, path: str, layer: Layer) -> Tensor | None:
        """Return what carries the error back through a layer in place of its weight; None for the weight itself."""
        return None if self.carry is None else self.carry(path, layer)

    def readout(self, outputs: Tensor) -> Tensor:
        """Read time out of outputs [T, B, C]: return scores [B, C]; their mean over time where a rule says nothing."""
        return outputs.mean(0)

    @staticmethod
    def constant(x: Tensor) -> Tensor:
        """Return an input that is the same at all time steps as one step in memory, any other as it is."""
        if len(x) == 1 or x.stride(0) == 0 or not torch.equal(x[0], x[1]) or not torch.equal(x[1:], x[:-1]):
            return x
        return x[:1].expand_as(x)

    def state_dict(self) -> dict[str, Tensor]:
        """Return what the rule has drawn and where its generator stands."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from :meth:`state_dict`."""
        self.generator.set_state(state["generator"].cpu())


def synapses(network: nn.Module) -> dict[str, Layer]:
    """Return all linear layers and 2-d convolutions of a network that are no parts of neurons, by path."""
    inside = tuple(f"{path}." for path, _ in neurons_in(network))
    return {
        path: layer
        for path, layer in network.named_modules()
        if isinstance(layer, (nn.Linear, nn.Conv2d)) and not path.startswith(inside)
    }


def readout_path(network: nn.Module) -> str:
    """Return the path of the read-out: the last linear layer or convolution in the order of definition.

    Raises
    ------
    OptionError
        When there is none.
    """
    found = list(synapses(network))
    if not found:
        raise OptionError(f"{type(network).__name__} has no linear layer or convolution outside its neurons")
    return found[-1]


def protected_layers(network: nn.Module, shared_readout: bool) -> dict[str, nn.Module]:
    """Return the layers whose updates keep old tasks: linear layers and ungrouped convolutions outside neurons.

    Parameters
    ----------
    network : nn.Module
    shared_readout : bool
        Whether all tasks answer with the same outputs. Where each has its own, only its own are trained, and the
        read-out needs no protection.
    """
    last = readout_path(network)
    return {
        path: layer
        for path, layer in synapses(network).items()
        if (shared_readout or path != last) and (isinstance(layer, nn.Linear) or layer.groups == 1)
    }


def joined(rule: Rule, path: str, inputs: list[Tensor], count: int | None = None) -> Activity:
    """Return the activity of a layer for all inputs that it saw, ``count`` rows at most (those of the rule if None).

    Raises
    ------
    OptionError
        When it saw none: the network uses its weight in some other way, and what it does cannot be protected.
    """
    if not inputs:
        raise OptionError(f"layer {path!r} was not called in the forward pass: it has no activity to be protected by")
    most = rule.rows if count is None else count
    if most is None:
        return activity_of(rule.layers[path], inputs)
    share = max(1, most // len(inputs))
    return Rows(torch.cat([rows_of(rule.layers[path], x, share, rule.generator) for x in inputs]))


def projections(rule: Rule, project: Projections | None) -> Projections:
    """Return what to project by, checked against the layers of a rule."""
    given = project or {}
    unknown = sorted(set(given) - set(rule.layers))
    if unknown:
        raise OptionError(f"{unknown[0]!r} is no protected layer of this rule; those are {', '.join(rule.layers)}")
    check_products({path: rule.layers[path] for path in given}, "a projection of its presynaptic activity")
    return given


def _as_layer(path: str, layer: Any) -> Layer:
    if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1):
        return layer
    groups = f" of {layer.groups} groups" if isinstance(layer, nn.Conv2d) else ""
    raise OptionError(
        f"layer {path!r} is a {type(layer).__name__}{groups}; protected are linear and ungrouped 2-d ones"
    )
