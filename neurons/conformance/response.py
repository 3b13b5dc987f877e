"""How a neuron answers to a constant current and to a step: what pictures of it are drawn from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from neurons.base import Neuron
from neurons.conformance.subject import Subject, fused

_CURRENTS = 60
_STEPS = 200
_BEFORE, _DURING, _AFTER = 20, 60, 40


@dataclass(frozen=True)
class Response:
    """Answers of one neuron.

    Attributes
    ----------
    currents : list of float
        Constant inputs, from rest.
    rates : list of float
        Mean output for each of them: spikes in a time step, or the value of a neuron without spikes.
    rheobase : float or None
        Smallest of the currents at which it fires; None for a neuron without spikes and for one that never does.
    steps : int
        Time steps over which the mean was taken.
    step : list of float
        An input over time that is switched on and off.
    output : list of float
        Output over the same time steps.
    state : dict of str to list of float
        States after every one of them; empty for a neuron that has none.
    """

    currents: list[float]
    rates: list[float]
    rheobase: float | None
    steps: int
    step: list[float]
    output: list[float]
    state: dict[str, list[float]]


def respond(neuron: Neuron | Callable[[], Neuron]) -> Response:
    """Run a neuron with constant currents, then with a step of 1.5 times the smallest current at which it fires."""
    subject = Subject(neuron)
    spiking = not subject.neuron.conventional and subject.neuron.output != "real"
    T = subject.T if subject.fixed else 1 if subject.neuron.conventional else _STEPS
    with torch.no_grad():
        if spiking:
            coarse = [2.0**exponent for exponent in range(-12, 13)]
            fires = [current for current, rate in zip(coarse, _rates(subject, coarse, T), strict=True) if rate]
            low, high = 0.0, 2 * fires[0] if fires else 4 * subject.gain
            if fires and fires[0] == coarse[0]:  # it fires without input
                high = 4 * subject.gain
        else:
            low, high = -2.0, 2.0
        currents = [low + (high - low) * i / (_CURRENTS - 1) for i in range(_CURRENTS)]
        rates = _rates(subject, currents, T)
        firing = [current for current, rate in zip(currents, rates, strict=True) if rate]
        rheobase = firing[0] if spiking and firing else None
        return _step(subject, Response(currents, rates, rheobase, T, [], [], {}))


def _rates(subject: Subject, currents: list[float], T: int) -> list[float]:
    x = torch.tensor(currents).view(1, -1, 1).expand(T, -1, subject.width).contiguous()
    return [float(rate) for rate in subject.fresh()(x).double().mean(0)[:, 0]]


def _step(subject: Subject, found: Response) -> Response:
    size = 1.5 * found.rheobase if found.rheobase else subject.gain
    if subject.fixed:
        before, during, after = 1, subject.T - 2, 1
    else:
        before, during, after = _BEFORE, _DURING, _AFTER
    step = [0.0] * before + [size] * during + [0.0] * after
    x = torch.tensor(step).view(-1, 1, 1).expand(-1, 1, subject.width)
    neuron = subject.fresh()
    states: dict[str, list[float]] = {name: [] for name in neuron.state}
    if not neuron.streams:
        output = [float(value) for value in fused(neuron, x)[0][:, 0, 0]]
    else:
        output, state = [], None
        for x_t in x.split(1):
            y, state = fused(neuron, x_t, state)
            output.append(float(y[0, 0, 0]))
            for name, value in state.items():
                states[name].append(float(value[0, 0]))
    return Response(found.currents, found.rates, found.rheobase, found.steps, step, output, states)
