"""Which input each synapse of an ELM neuron hears."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from neurons.errors import OptionError

RoutingKind = Literal["none", "random", "neuronio"]
KINDS = ("none", "random", "neuronio")


@dataclass(frozen=True)
class Routing:
    """Inputs of the synapses, branch after branch.

    Attributes
    ----------
    index : Tensor of int64, shape [branches * synapses], or None
        Input of each synapse; None where synapse j hears input j.
    mask : Tensor of bool, shape [branches * synapses], or None
        False at synapses that hear nothing; None where all hear something.
    """

    index: Tensor | None
    mask: Tensor | None


def route(kind: str, features: int, branches: int, synapses: int, *, seed: int = 0, neuron: str = "elm") -> Routing:
    """Choose the input of every synapse.

    Parameters
    ----------
    kind : {"none", "random", "neuronio"}
        ``"none"``: synapse j hears input j. ``"random"``: every synapse draws one input, with replacement.
        ``"neuronio"``: see :func:`windows`.
    features : int
        Number of inputs.
    branches, synapses : int
        Number of branches, and of synapses on each.
    seed : int
        Seed of the random choice; torch's global generator is left alone.
    neuron : str
        Name for messages.

    Raises
    ------
    OptionError
        When the sizes do not fit.
    """
    if kind == "none":
        if branches * synapses != features:
            raise OptionError(
                f"{neuron} without routing has one synapse for each of its {features} features, not {branches} x "
                f"{synapses}; set synapses to a divisor of {features} and leave branches out, or set routing"
            )
        return Routing(None, None)
    if kind == "random":
        generator = torch.Generator("cpu").manual_seed(seed)
        return Routing(torch.randint(features, (branches * synapses,), generator=generator, device="cpu"), None)
    if kind == "neuronio":
        return windows(features, branches, synapses, neuron=neuron)
    raise OptionError(f"routing of {neuron} is 'none', 'random' or 'neuronio', not {kind!r}")


def windows(features: int, branches: int, synapses: int, *, neuron: str = "elm") -> Routing:
    """Give each branch a window of neighbouring inputs, excitatory and inhibitory ones interlaced.

    The first half of the inputs excites, the second half inhibits the same places of a dendrite; the order along the
    dendrite is excitatory 0, inhibitory 0, excitatory 1, and so on. Branch k hears ``synapses`` inputs from place
    k * ceil(features / branches) on; places beyond the end hear nothing. Source: the routing of NeuronIO in Spieler
    et al., ICLR 2024.

    Raises
    ------
    OptionError
        When the inputs are not two halves, or the windows leave inputs between them out.
    """
    if features % 2:
        raise OptionError(
            f"routing 'neuronio' of {neuron} needs as many excitatory as inhibitory inputs, not {features} features"
        )
    stride = math.ceil(features / branches)
    if stride > synapses:
        raise OptionError(
            f"routing 'neuronio' of {neuron}: {branches} branches of {synapses} synapses do not cover {features} "
            f"features; set synapses to {stride} or more"
        )
    # On the CPU, so that a network can be laid out on the meta device, where no value can be looked at.
    first = torch.arange(branches, device="cpu").unsqueeze(1) * stride
    place = (first + torch.arange(synapses, device="cpu")).flatten()
    mask = place < features
    place = place.clamp(max=features - 1)
    index = place // 2 + place % 2 * (features // 2)
    return Routing(index, None if bool(mask.all()) else mask)
