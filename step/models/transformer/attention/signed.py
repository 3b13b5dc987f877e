"""Operands with a sign: what stands where an attention asks for more than spikes of 0 and 1."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from torch import nn

from neurons import Neuron, NeuronFactory, factory
from neurons.base import neurons
from neurons.conventional import NORMAL
from neurons.errors import OptionError
from neurons.registry import name_and_options
from step.models.layers import Spiking

# Options that mean the same in every neuron that has them.
_SHARED = ("tau", "threshold", "reset", "detach_reset", "surrogate")


def signed(
    neuron: NeuronFactory,
    features: int,
    *,
    ternary: str | Mapping[str, Any] = "ternary-lif",
    magnitude: float = NORMAL,
    threshold_scale: float = 1.0,
) -> Neuron | None:
    """Make the neuron of an operand that has a sign, in a network of ``neuron``; None where it needs none.

    A spiking network gets ternary spikes, a quantised one signed codes of as many bits; real numbers have a sign of
    their own and stay as they are.

    Parameters
    ----------
    neuron : NeuronFactory
        The network's neuron.
    features : int
        Channels of the operand.
    ternary : str or mapping
        Neuron of ternary spikes. Threshold, time constant, reset and surrogate are those of ``neuron`` where both
        have them and nothing else is asked for. A neuron that sends signed spikes itself is taken as it is.
    magnitude : float
        E|x| expected of the first inputs, for the step size of signed codes.
    threshold_scale : float
        Multiplies the threshold of ternary spikes.
    """
    if neuron.conventional:
        if not is_quantised(neuron):
            return None
        return factory("quantised", bits=neuron.options.get("bits", _bits(neuron)), magnitude=magnitude)(
            features=features
        )
    if getattr(neurons.get(neuron.name), "output", "binary") == "ternary":
        return neuron(features=features, threshold_scale=threshold_scale)
    name, given = name_and_options(ternary, "neuron")
    known = neurons.options(name)
    kind = getattr(neurons.get(name), "output", "binary")
    if kind != "ternary":
        raise OptionError(f"{name!r} cannot be the neuron of ternary spikes: it sends {kind} values")
    shared = {key: value for key, value in neuron.options.items() if key in _SHARED and key in known}
    return NeuronFactory(name, **{**shared, **given})(features=features, threshold_scale=threshold_scale)


def rectified(neuron: NeuronFactory, features: int) -> Neuron:
    """Make the neuron of an operand that is real and not negative: ReLU, or codes in a quantised network."""
    return neuron(features=features) if is_quantised(neuron) else factory("relu")(features=features)


def then(layer: nn.Module, neuron: Neuron | None) -> nn.Module:
    """Return the layer with the neuron behind it, if any; its weights have the same names either way."""
    return nn.Sequential(OrderedDict(layer=layer)) if neuron is None else Spiking(layer, neuron)


def is_quantised(neuron: NeuronFactory) -> bool:
    """Whether a conventional neuron sends quantised codes."""
    return neuron.conventional and getattr(neurons.get(neuron.name), "output", "") == "quantised"


def _bits(neuron: NeuronFactory) -> int:
    return int(neurons.options(neuron.name)["bits"].default)
