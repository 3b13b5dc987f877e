"""The conformance check: what a neuron must do to have a place in every network, suite and energy model.

>>> import neurons
>>> from neurons import conformance
>>> [result.name for result in conformance.check(neurons.LIF()) if result.failed]
[]

A neuron that passes may be used anywhere; one that fails is told what was found, where, and what would be right. The
checks are the same for a neuron of this package, of an installed one and of a file that was begun a minute ago.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from neurons.base import Neuron
from neurons.conformance.behaviour import (
    arguments_kept,
    output_as_declared,
    runs,
    same_again,
    samples_apart,
    state_in_order,
    streams,
    types_kept,
)
from neurons.conformance.description import describes_itself, operations_counted
from neurons.conformance.gradients import gradient_arrives, gradient_right
from neurons.conformance.kernels import kernels, speed, traces
from neurons.conformance.response import Response, respond
from neurons.conformance.result import Result, Verdict
from neurons.conformance.subject import Subject, describe

__all__ = ["Response", "Result", "Verdict", "check", "describe", "respond"]

Check = Callable[[Subject], Result]

_BEHAVIOUR: dict[str, Check] = {
    "runs": runs,
    "state in order": state_in_order,
    "output as declared": output_as_declared,
    "types kept": types_kept,
    "streams": streams,
    "samples apart": samples_apart,
    "same again": same_again,
    "arguments kept": arguments_kept,
    "traces": traces,
}
_LATER: dict[str, Check] = {
    "gradient arrives": gradient_arrives,
    "gradient right": gradient_right,
    "operations counted": operations_counted,
    "describes itself": describes_itself,
}


def check(
    neuron: Neuron | Callable[[], Neuron], *, timed: bool = True, progress: Callable[[str], None] | None = None
) -> list[Result]:
    """Check a neuron; nothing is printed, and the neuron itself is not changed.

    Parameters
    ----------
    neuron : Neuron, or callable that returns one
        A class, a :class:`neurons.NeuronFactory` or a function does as well as a neuron.
    timed : bool
        Whether the speed is measured too.
    progress : callable, optional
        Told the name of every check before it begins.

    Returns
    -------
    list of Result
        One for each check, in the same order for every neuron.
    """
    subject = Subject(neuron)
    results = []
    with torch.random.fork_rng(devices=[]):  # a step that draws random numbers takes none of the caller's
        for name, function in _checks(subject, timed):
            if progress is not None:
                progress(name)
            results.append(_outcome(name, function, subject))
    return results


def _outcome(name: str, function: Check, subject: Subject) -> Result:
    unable = Result(name, "not applicable", "it does not run")
    if subject.error and function not in (runs, state_in_order, describes_itself):
        return unable
    try:
        return function(subject)
    except Exception as error:  # a fault of the neuron under test is a finding, not the end
        return unable if subject.error else Result(name, "no", f"raises {describe(error)}")


def _checks(subject: Subject, timed: bool) -> Iterator[tuple[str, Check]]:
    yield from _BEHAVIOUR.items()
    yield from kernels(subject)
    yield from _LATER.items()
    if timed:
        yield "speed", speed
