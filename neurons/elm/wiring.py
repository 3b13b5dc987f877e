"""Which sources each neuron of an ELM population hears: input channels of this step, neurons of the step before.

Sources: Spieler, Martius and Levina 2026 (arXiv 2605.12049) for ``"random"``; Adorante, Spieler and Levina 2026 (arXiv
2609.26940) for the wirings that follow the order of the input channels, and for their scrambled controls.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from neurons.checks import count
from neurons.errors import OptionError

WiringKind = Literal["random", "full", "windowed", "modular", "small-world"]
KINDS = get_args(WiringKind)


def connectome(
    kind: str,
    inputs: int,
    neurons: int,
    synapses: int,
    *,
    seed: int = 0,
    recurrent: float = 0.0,
    modules: int = 1,
    overlap: float = 0.2,
    p_inter: float = 0.1,
    neighbours: int = 10,
    p_rewire: float = 0.1,
    scrambled: bool = False,
    name: str = "elm-population",
) -> Tensor:
    """Draw the sources of every neuron, once and for all.

    ================= =================================== ==================================================
    kind              synapses from the input             synapses from neurons of the layer
    ================= =================================== ==================================================
    ``"random"``      all synapses draw with replacement: each channel with probability (1 - recurrent) / inputs,
                      each neuron with recurrent / neurons, the neuron itself among them
    ``"full"``        every channel once                  none
    ``"windowed"``    the channels of its window, once    the rest, from all others alike
    ``"modular"``     the channels of its window, once    the rest: its own module with 1 - p_inter in all, the
                                                          others with p_inter
    ``"small-world"`` the channels of its window, once    the rest: on a ring of all neurons, the ``neighbours`` on
                                                          each side with 1 - p_rewire in all, those beyond with
                                                          p_rewire
    ================= =================================== ==================================================

    For windows the channels are cut into ``modules`` equal pieces, of ceil(inputs / modules) channels, and every piece
    is widened on both sides by half of ``overlap`` times its size; windows at the ends are moved inward. Neuron i
    belongs to module i // (neurons / modules). There a neuron does not hear itself, and neurons are drawn with
    replacement. At last the sources of every neuron are shuffled, because branches take them in pieces.

    Parameters
    ----------
    kind : str
        See the table.
    inputs, neurons, synapses : int
        Input channels, neurons of the layer, synapses of each neuron.
    seed : int
        Seed of the choice; torch's global generator is left alone.
    recurrent : float in [0, 1]
        Share of synapses that hear neurons, on average (``"random"`` only).
    modules : int
        Number of windows; must divide ``neurons``.
    overlap : float in [0, 1)
        Share of a window that it has in common with its neighbours.
    p_inter, p_rewire : float in [0, 1]
        Share of far sources among the neurons that are heard.
    neighbours : int
        Neurons on each side that are near on the ring.
    scrambled : bool
        Whether the channels are exchanged by one random permutation, the same for all neurons: the control in which
        the wiring is the same and the order of the channels means nothing.
    name : str
        Name for messages.

    Returns
    -------
    Tensor of int64, shape [neurons, synapses]
        Sources below ``inputs`` are channels; ``inputs + i`` is neuron i.

    Raises
    ------
    OptionError
        When the sizes do not fit each other, or a value is outside its domain.
    """
    count(name, inputs=inputs, neurons=neurons, synapses=synapses, modules=modules)
    shares = {"recurrent": recurrent, "overlap": overlap, "p_inter": p_inter, "p_rewire": p_rewire}
    for option, share in shares.items():
        if not 0 <= share <= 1 or (option == "overlap" and share == 1):
            end = "below 1" if option == "overlap" else "1"
            raise OptionError(f"{option} of {name} must be from 0 to {end}, not {share}")
    with torch.device("cpu"):  # networks are counted on the meta device, where no number can be drawn
        return _drawn(
            kind, inputs, neurons, synapses, torch.Generator().manual_seed(seed), recurrent, modules, overlap, p_inter,
            neighbours, p_rewire, scrambled, name,
        )  # fmt: skip


def _drawn(
    kind: str,
    inputs: int,
    neurons: int,
    synapses: int,
    generator: torch.Generator,
    recurrent: float,
    modules: int,
    overlap: float,
    p_inter: float,
    neighbours: int,
    p_rewire: float,
    scrambled: bool,
    name: str,
) -> Tensor:
    if kind == "random":
        sources = _random(inputs, neurons, synapses, recurrent, generator)
    elif kind == "full":
        if synapses != inputs:
            raise OptionError(
                f"wiring 'full' of {name} has one synapse for each of its {inputs} inputs, not {synapses}; "
                f"set branches x synapses to {inputs}"
            )
        sources = torch.arange(inputs).expand(neurons, -1)
    elif kind in KINDS:
        channels = _windows(inputs, neurons, modules, overlap, name)
        rest = synapses - channels.shape[1]
        if rest < 0:
            raise OptionError(
                f"wiring {kind!r} of {name} has windows of {channels.shape[1]} channels, more than the {synapses} "
                "synapses of a neuron; set more modules, or more branches or synapses"
            )
        near = _near(kind, neurons, modules, neighbours, name)
        heard = _neurons(near, {"modular": p_inter, "small-world": p_rewire}.get(kind), rest, generator, name)
        sources = torch.cat([channels, heard + inputs], 1)
    else:
        raise OptionError(f"wiring of {name} is one of {', '.join(map(repr, KINDS))}, not {kind!r}")
    order = torch.rand(sources.shape, generator=generator).argsort(1)
    sources = sources.gather(1, order)
    if scrambled:
        exchanged = torch.cat([torch.randperm(inputs, generator=generator), torch.arange(inputs, inputs + neurons)])
        sources = exchanged[sources]
    return sources


def _random(inputs: int, neurons: int, synapses: int, recurrent: float, generator: torch.Generator) -> Tensor:
    shape = (neurons, synapses)
    channel = torch.randint(inputs, shape, generator=generator)
    neuron = torch.randint(neurons, shape, generator=generator) + inputs
    return torch.where(torch.rand(shape, generator=generator) < recurrent, neuron, channel)


def _windows(inputs: int, neurons: int, modules: int, overlap: float, name: str) -> Tensor:
    """Return the channels of the window of every neuron, shape [neurons, size]."""
    if neurons % modules:
        raise OptionError(f"modules of {name} must divide its {neurons} neurons; {modules} does not")
    piece = -(-inputs // modules)
    margin = 0 if modules == 1 else round(piece * overlap / 2)
    size = min(piece + 2 * margin, inputs)
    module = torch.arange(neurons) // (neurons // modules)
    start = (module * inputs // modules - margin).clamp(0, inputs - size)
    return start.unsqueeze(1) + torch.arange(size)


def _near(kind: str, neurons: int, modules: int, neighbours: int, name: str) -> Tensor:
    """Return which neurons [columns] are near each neuron [rows], itself included."""
    place = torch.arange(neurons)
    if kind == "modular":
        module = place // (neurons // modules)
        return module.unsqueeze(1) == module
    if kind == "windowed":
        return torch.ones(neurons, neurons, dtype=torch.bool)
    if not 1 <= neighbours <= (neurons - 1) // 2:
        raise OptionError(
            f"neighbours of {name} are counted on each side and must be from 1 to {(neurons - 1) // 2} "
            f"for {neurons} neurons, not {neighbours}"
        )
    apart = (place.unsqueeze(1) - place).abs()
    return torch.minimum(apart, neurons - apart) <= neighbours


def _neurons(near: Tensor, far_share: float | None, number: int, generator: torch.Generator, name: str) -> Tensor:
    """Draw neurons with replacement, ``far_share`` of them from those that are not near; shape [neurons, number]."""
    neurons = len(near)
    if not number:
        return torch.zeros(neurons, 0, dtype=torch.int64)
    others = ~torch.eye(neurons, dtype=torch.bool)
    groups = [(near & others).double(), (~near & others).double()]
    # each group has its share whatever its size
    groups = [group / group.sum(1, keepdim=True).clamp(min=1) for group in groups]
    far = far_share or 0.0
    chance = (1 - far) * groups[0] + far * groups[1]
    if not bool((chance.sum(1) > 0).all()):
        raise OptionError(
            f"{name} has {number} synapses left for its neurons, but a neuron has no other one to hear; set fewer "
            "synapses, more neurons, or fewer modules"
        )
    return torch.multinomial(chance, number, replacement=True, generator=generator)
