"""Time a presentation to modules of Diehl and Cook, learning and answering, beside the same module in Brian 2.

One module learns places, then answers; many modules at once learn and answer a query together, as a map of 25 places a
module does. All see the same images: 1/f noise, patch-normalised. Brian 2 has the weights and thresholds of ours, the
delays of each synapse, and draws input spikes of its own. No time is shown before both fire as often and with as many
neurons. All take turns; ratios are medians over the turns.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.speed import places_brian2
from benchmarks.speed.turns import in_turns
from encoders.view import patch_normalised
from neurons.diehl_cook import Modules, poisson_rates
from neurons.errors import OptionError, StepError

OURS, BRIAN, TEMPO = "step", "brian2", "VPRTempo rule"
LEARN, ANSWER = "learning", "answering"
SIDE, PLACES = 28, 25
"""Pixels along an image, and places of a module."""
_OURS = 20
"""Presentations of ours in a turn: one is too short to be timed."""
_COMPARED = 20
_ALIKE = 0.25
"""Largest difference in spikes and in active neurons, by those of Brian 2: images are few, and spikes are drawn."""


class Fires(NamedTuple):
    """How a module answers.

    Attributes
    ----------
    spikes, active : float
        Excitatory spikes, and neurons that spike, in the mean over presentations.
    """

    spikes: float
    active: float


@dataclass(frozen=True)
class Row:
    """One way to present an image.

    Attributes
    ----------
    name, what : str
        Who, and whether it learns or answers.
    modules : int
        That are shown the image; 0 for what has none.
    milliseconds : float
        Of a presentation to all of them; median over the turns.
    per_module : float
        The same, for each module.
    ratio : float
        How many times longer than one module of ours, by module; median over the turns.
    """

    name: str
    what: str
    modules: int
    milliseconds: float
    per_module: float
    ratio: float


@dataclass(frozen=True)
class Result:
    """What was found.

    Attributes
    ----------
    rows : list of Row
        Ours first.
    fires : dict of str to Fires
        Of ours and of Brian 2, for the same images.
    missing : str
        Why Brian 2 did not take part, or nothing.
    """

    rows: list[Row]
    fires: dict[str, Fires]
    missing: str


def measure(
    *,
    modules: int = 20,
    neurons: int = 400,
    dt: float = 0.1,
    epochs: int = 10,
    brian: bool = True,
    tempo: Callable[[Tensor], object] | None = None,
    seconds: float = 30.0,
    rounds: int = 3,
    threads: int | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Result:
    """Time presentations.

    Parameters
    ----------
    modules : int
        Modules that learn and answer at once, of 25 places each.
    neurons : int
        Excitatory neurons of each.
    dt : float
        Time step of ours in ms; Brian 2 has 0.1.
    epochs : int
        How often a module sees its places before it is compared and timed.
    brian : bool
        Whether Brian 2 takes part, where it is there.
    tempo : callable, optional
        Another network that answers images [B, inputs] at once, to be timed for one query.
    seconds : float
        About how long all turns together take.
    rounds : int
        Turns at least.
    threads : int, optional
        Threads of ours over modules; those of torch when left out.
    progress : callable
        Told what is going on.

    Raises
    ------
    OptionError
    StepError
        When Brian 2 fires otherwise than ours.
    """
    if modules < 1 or epochs < 1:
        raise OptionError(f"modules and epochs must be at least 1, not {modules} and {epochs}")
    progress("learning a little")
    shown = images(PLACES)
    one = trained(shown, neurons, dt, epochs, threads)
    fires = {OURS: _fires(one.respond(shown.repeat(4, 1), seed=1)[:, 0])}
    missing = places_brian2.why_not() if brian else "it was not asked for"
    tasks: dict[tuple[str, str, int], Callable[[], object]] = {
        (OURS, LEARN, 1): _learning(one.subset(torch.tensor([0])), shown),
        (OURS, ANSWER, 1): lambda: one.respond(shown[:_OURS], seed=2),
    }
    times_shown = {(OURS, LEARN, 1): _OURS, (OURS, ANSWER, 1): _OURS}
    if modules > 1:
        many = Modules.cat([one] * modules)
        tasks[OURS, LEARN, modules] = _learning(many, shown, 1)
        tasks[OURS, ANSWER, modules] = lambda: many.respond(shown[:1], seed=2)
    if not missing:
        progress("Brian 2 compiles")
        peers = {learn: _peer(one, learn) for learn in (True, False)}
        for peer in peers.values():
            peer.settle()
        progress("comparing")
        rates = poisson_rates(shown)
        fires[BRIAN] = _fires(torch.from_numpy(np.stack([peers[False].present(each) for each in rates[:_COMPARED]])))
        compare(fires[OURS], fires[BRIAN])
        tasks[BRIAN, LEARN, 1] = lambda: peers[True].present(rates[0])
        tasks[BRIAN, ANSWER, 1] = lambda: peers[False].present(rates[0])
    if tempo is not None:
        tasks[TEMPO, ANSWER, 0] = lambda: tempo(shown[:1])
    progress(f"timing {len(tasks)} ways in turns")
    times = in_turns(tasks, seconds, rounds=rounds)
    each = {key: [t * 1e3 / times_shown.get(key, 1) for t in turns] for key, turns in times.items()}
    rows = []
    for key, turns in each.items():
        name, what, count = key
        by_module = [t / max(count, 1) for t in turns]
        ratio = statistics.median(a / b for a, b in zip(by_module, each[OURS, what, 1], strict=True))
        middle = statistics.median(turns)
        rows.append(Row(name, what, count, middle, middle / max(count, 1), ratio))
    return Result(rows, fires, missing)


def images(count: int, seed: int = 0) -> Tensor:
    """Return 1/f noise as modules of places see images: patch-normalised, [count, 784] in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    waves = torch.fft.rfft2(torch.randn(count, SIDE, SIDE, generator=generator))
    pitch = (torch.fft.fftfreq(SIDE)[:, None] ** 2 + torch.fft.rfftfreq(SIDE)[None] ** 2).sqrt()
    pitch[0, 0] = 1.0
    noise = torch.fft.irfft2(waves / pitch, s=(SIDE, SIDE))
    return patch_normalised(noise[:, None], 7).flatten(1)


def trained(shown: Tensor, neurons: int, dt: float, epochs: int, threads: int | None = None) -> Modules:
    """Return one module that has seen images so often, shuffled."""
    generator = torch.Generator().manual_seed(0)
    order = torch.cat([torch.randperm(len(shown), generator=generator) for _ in range(epochs)])[None]
    made = Modules(1, shown.shape[1], neurons, dt=dt, threads=threads)
    made.train(shown, order, seed=0)
    return made


def compare(ours: Fires, theirs: Fires) -> None:
    """Refuse to time what fires otherwise.

    Raises
    ------
    StepError
    """
    for what, a, b in zip(("spikes", "active neurons"), ours, theirs, strict=True):
        if not abs(a - b) <= _ALIKE * b:
            raise StepError(f"a presentation has {a:.1f} {what} in ours and {b:.1f} in Brian 2: times mean nothing")


def _fires(counts: Tensor) -> Fires:
    return Fires(float(counts.sum(1).double().mean()), float((counts > 0).sum(1).double().mean()))


def _learning(made: Modules, shown: Tensor, presentations: int = _OURS) -> Callable[[], object]:
    order = torch.arange(presentations).expand(len(made), -1).contiguous() % len(shown)
    return lambda: made.train(shown, order, seed=3)


def _peer(one: Modules, learn: bool) -> places_brian2.BrianModule:
    delays = np.random.default_rng(0).random((one.inputs, one.neurons)) * one.constants.delay
    return places_brian2.BrianModule(
        one.weights[0].numpy(), one.theta[0].numpy(), learn=learn, constants=one.constants, delays=delays
    )
