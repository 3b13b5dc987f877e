"""Time a training step of Hebbian orthogonal projection beside the way of the authors' release and beside a plain step.

No time is shown before gradients and lateral rows of both agree. All take turns; ratios are medians over the turns.
"""

from __future__ import annotations

import copy
import math
import multiprocessing
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from benchmarks.speed.continual_contestants import (
    CASES,
    Case,
    Contestant,
    Ours,
    Tools,
    images_of,
    protected,
    released,
    trained,
)
from benchmarks.speed.transformer_contestants import firing_rate
from benchmarks.speed.transformers import peak_resident
from benchmarks.speed.turns import in_turns
from neurons.errors import OptionError, StepError, suggest

OURS, FEW, RELEASED, PLAIN = "step", "step, some rows", "as released", "unprotected"
NAMES = (OURS, FEW, RELEASED, PLAIN)
"""``FEW`` projects as ``OURS`` does and learns lateral weights from a share of the activity, drawn for each batch."""
_ALIKE = 1e-4
"""Largest difference of gradients and lateral rows in float64, by the largest of each layer. In float32 a potential
that meets its threshold within rounding may fall on either side. Our rows are of float32 either way."""


@dataclass(frozen=True)
class Row:
    """One way to take a training step of one network.

    Attributes
    ----------
    network, name : str
    train : float
        Seconds; median over the turns.
    slower : float
        How many times longer than ours; median over the turns.
    overhead : float
        How many times longer than the unprotected step; median over the turns.
    memory : float
        MiB that the first two steps take at most: what a fresh process grows by. NaN where it was not measured.
    """

    network: str
    name: str
    train: float
    slower: float
    overhead: float
    memory: float


@dataclass(frozen=True)
class Result:
    """What was found of one network.

    Attributes
    ----------
    rows : list of Row
        Ours first.
    difference : float
        Largest difference of the gradients and the lateral rows of ours and of the release's way, by the largest.
    rate : float
        Share of ones among the outputs of all neurons.
    """

    rows: list[Row]
    difference: float
    rate: float


def measure(
    name: str,
    tools: Tools,
    *,
    batch: int | None = None,
    only: Sequence[str] | None = None,
    seconds: float = 60.0,
    rounds: int = 3,
    memory: bool = True,
    progress: Callable[[str], None] = lambda text: None,
) -> Result:
    """Time the ways to take a training step of one network.

    Parameters
    ----------
    name : str
        One of ``CASES``.
    tools : Tools
    batch : int, optional
        Samples in place of the usual number.
    only : sequence of str, optional
        Some of ``NAMES``, beside ours and the unprotected step.
    seconds : float
        About how long all turns together take.
    rounds : int
        Turns at least.
    memory : bool
        Whether to measure memory too.
    progress : callable
        Told what is going on.

    Raises
    ------
    OptionError
        An unknown network or way.
    StepError
        When the release's way computes something else than ours.
    """
    case = _case(name, batch)
    for each in only or ():
        if each not in NAMES:
            raise OptionError(f"there is no way {each!r} to take a step{suggest(each, NAMES)}")
    names = [each for each in NAMES if only is None or each in (OURS, PLAIN, *only)]
    progress(f"{name}: training a little")
    network = trained(case, tools)
    progress(f"{name}: comparing")
    difference = disagreement(network, case, tools)
    if not difference < _ALIKE:
        raise StepError(
            f"the step {RELEASED!r} computes something else than {OURS!r} ({difference:.1g}): its time means nothing"
        )
    images, labels = images_of(case, case.batch, seed=99)
    runs = {each: contestant(each, network, case, tools) for each in names}
    progress(f"{name}: timing {len(names)} ways in turns")
    times = in_turns({each: partial(run.train, images, labels) for each, run in runs.items()}, seconds, rounds=rounds)
    grown = dict.fromkeys(names, math.nan)
    for each in names if memory else ():
        progress(f"{name}: memory of {each}")
        grown[each] = peak(name, each, tools, case.batch)
    rows = [
        Row(
            name,
            each,
            statistics.median(times[each]),
            _ratio(times, each, OURS),
            _ratio(times, each, PLAIN),
            grown[each],
        )
        for each in names
    ]
    return Result(rows, difference, firing_rate(network, images))


def contestant(name: str, network: torch.nn.Module, case: Case, tools: Tools) -> Contestant:
    """Return one of ``NAMES`` with a copy of a network."""
    own = copy.deepcopy(network)
    if name == PLAIN:
        return Contestant(own)
    ours = Ours(own, protected(case, own), case, tools, case.some if name == FEW else None)
    return released(ours, case) if name == RELEASED else ours


def disagreement(network: torch.nn.Module, case: Case, tools: Tools) -> float:
    """Return the largest difference of gradients and lateral rows after one step in float64, by the largest of each."""
    images, labels = images_of(case, 4, seed=7)
    found: list[dict[str, Tensor]] = []
    for name in (OURS, RELEASED):
        run = contestant(name, network, case, tools)
        run.double()
        run.gradients(images.double(), labels)
        found.append({**run.gradient(), **{f"rows of {path}": rows for path, rows in run.rows().items()}})
    ours, theirs = found
    if ours.keys() != theirs.keys():
        raise StepError(f"the step {RELEASED!r} has other weights than {OURS!r}: {sorted(ours.keys() ^ theirs.keys())}")
    return max(float((ours[key] - value).abs().max() / value.abs().max()) for key, value in theirs.items())


def peak(name: str, way: str, tools: Tools, batch: int) -> float:
    """Return the MiB that two training steps take at most, in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_grow, (name, way, tools, batch, torch.get_num_threads()))


def _grow(name: str, way: str, tools: Tools, batch: int, threads: int) -> float:
    torch.set_num_threads(threads)
    case = _case(name, batch)
    # Trained with few samples: what training takes would hide what the steps take.
    run = contestant(way, trained(replace(case, batch=2), tools), case, tools)
    images, labels = images_of(case, case.batch, seed=99)
    before = peak_resident()
    for _ in range(2):
        run.train(images, labels)
    return peak_resident() - before


def _case(name: str, batch: int | None) -> Case:
    if name not in CASES:
        raise OptionError(f"there is no network {name!r} to time{suggest(name, CASES)}")
    return CASES[name] if batch is None else replace(CASES[name], batch=batch)


def _ratio(times: Mapping[str, Sequence[float]], name: str, to: str) -> float:
    return statistics.median(a / b for a, b in zip(times[name], times[to], strict=True))
