"""The constants of a Diehl and Cook module as place recognition uses it, and what a time step makes of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import NamedTuple

from neurons.errors import OptionError

FINE = 0.1
"""Time step in ms of the published networks (the default of Brian 2)."""
STEPS = (0.1, 0.25)
"""Time steps that were validated against 0.1 ms, see :func:`check_step`."""
_QUIET = 60.0
"""Silence in ms below which a module may still be firing when the next image comes."""


@dataclass(frozen=True)
class Constants:
    """Constants of one module: 784 inputs, 400 excitatory and 400 inhibitory neurons.

    The values are those of the released code of Hussaini, Milford and Fischer (RA-L 2022, ICRA 2023, T-RO 2025;
    QVPR/VPRSNN), which takes them from Diehl and Cook (2015) through the port of that network to Brian 2. Where they
    differ from the paper of 2015, it is said below. Potentials are in mV, times in ms, conductances relative to the
    leak.

    Attributes
    ----------
    rest_e, reset_e, base_e : float
        Rest, reset and base of the threshold of excitatory neurons: they spike above ``base_e - offset + theta``.
    offset, theta_start : float
        Both 20: a fresh neuron spikes above -52 mV.
    theta_plus, tau_theta : float
        Rise of the threshold by each of a neuron's own spikes, and its decay (2.8 hours: next to none).
    tau_e, tau_i : float
        Membrane time constants of excitatory and inhibitory neurons.
    rest_i, reset_i, threshold_i : float
    reversal_e, reversal_inhibition, reversal_i : float
        Potentials to which excitation pulls, and inhibition of excitatory and of inhibitory neurons.
    tau_ge, tau_gi : float
        Time constants of the conductances. ``tau_gi`` is 2 in Diehl and Cook.
    refractory_e, refractory_i : float
        Time for which the potential stays at its reset.
    timer_rate : float
        Growth of the timer of an excitatory neuron in ms for each ms. A neuron may spike when its timer, set to 0 by
        a spike, exceeds ``refractory_e``. The released code says 0.1, so that 50 ms lie between two spikes, and no
        neuron spikes more than 7 times in 350 ms.
    start_below : float
        How far below rest the potentials start.
    excite, inhibit : float
        Weights from an excitatory neuron to its partner, and from an inhibitory neuron to all but its partner.
    tau_pre, tau_post_fast, tau_post_slow : float
        Traces: 1 at a spike, then decaying.
    rate_pre, rate_post : float
        Learning rates: ``rate_pre * post_fast`` at a presynaptic, ``rate_post * pre * post_slow`` at a postsynaptic
        spike.
    presynaptic_sign : int
        +1 as in the released code (nothing but normalisation ever makes a weight smaller), -1 as in Diehl and Cook.
    weight_most, weight_start, weight_floor : float
        Weights lie in [0, ``weight_most``] and start at ``weight_start * (uniform + weight_floor)``.
    weight_sum : float
        To what the weights of a neuron are scaled before each image of training.
    image, silence, settle : float
        Duration of an image, of the silence after it, and of the rest before the first.
    full_rate : float
        Spikes in a second of an input of value 1: 255 / 4.
    delay : float
        Delays of the input are uniform between 0 and this: those of each synapse in the released code, those of each
        input to 16 neurons in the fast simulator, see :mod:`neurons.diehl_cook.delays`.
    """

    rest_e: float = -65.0
    reset_e: float = -65.0
    base_e: float = -52.0
    offset: float = 20.0
    theta_start: float = 20.0
    theta_plus: float = 0.05
    tau_theta: float = 1e7
    tau_e: float = 100.0
    tau_i: float = 10.0
    rest_i: float = -60.0
    reset_i: float = -45.0
    threshold_i: float = -40.0
    reversal_e: float = 0.0
    reversal_inhibition: float = -100.0
    tau_ge: float = 1.0
    tau_gi: float = 0.5
    refractory_e: float = 5.0
    refractory_i: float = 2.0
    timer_rate: float = 0.1
    start_below: float = 40.0
    excite: float = 10.4
    inhibit: float = 17.0
    tau_pre: float = 20.0
    tau_post_fast: float = 20.0
    tau_post_slow: float = 40.0
    rate_pre: float = 1e-4
    rate_post: float = 1e-2
    presynaptic_sign: int = 1
    weight_most: float = 1.0
    weight_start: float = 0.3
    weight_floor: float = 0.01
    weight_sum: float = 78.0
    image: float = 350.0
    silence: float = 150.0
    settle: float = 500.0
    full_rate: float = 255.0 / 4.0
    delay: float = 10.0

    def __post_init__(self) -> None:
        if self.presynaptic_sign not in (1, -1):
            raise OptionError(
                f"presynaptic_sign must be 1 (released code) or -1 (Diehl and Cook), not {self.presynaptic_sign}"
            )
        for name in (
            "tau_theta", "tau_e", "tau_i", "tau_ge", "tau_gi", "tau_pre", "tau_post_fast", "tau_post_slow",
            "timer_rate", "weight_most", "weight_sum", "image",
        ):  # fmt: skip
            if not getattr(self, name) > 0.0:
                raise OptionError(f"{name} must be above 0, not {getattr(self, name)}")
        for each in fields(self):
            if not math.isfinite(getattr(self, each.name)):
                raise OptionError(f"{each.name} must be a finite number, not {getattr(self, each.name)}")
        if self.silence < _QUIET:
            raise OptionError(
                f"silence must be at least {_QUIET:g} ms, so that a module comes to rest, not {self.silence}"
            )
        for name in ("refractory_e", "refractory_i", "settle", "delay", "full_rate"):
            if getattr(self, name) < 0.0:
                raise OptionError(f"{name} must be at least 0, not {getattr(self, name)}")


class Steps(NamedTuple):
    """What one time step does.

    Decays at 0.1 ms are those of Euler's method, as in Brian 2. A longer step does to the conductances what several of
    0.1 ms would, and uses their mean over the step, so that the charge of a spike is the same; with the value at the
    start of the step it would be larger, and the neurons would fire far more often.

    Attributes
    ----------
    image, silence, settle : int
        Steps of a presentation and of the first rest.
    leak_e, leak_i : float
        dt / tau of the membranes.
    keep_ge, keep_gi, keep_theta : float
        What is left after a step.
    mean_ge, mean_gi : float
        Mean of a conductance over a step, by its value at the start.
    hold_e, hold_i : int
        A neuron that spikes at step s is integrated again from step s + hold.
    interval : int
        Steps between two spikes of an excitatory neuron at least.
    """

    image: int
    silence: int
    settle: int
    leak_e: float
    leak_i: float
    keep_ge: float
    keep_gi: float
    keep_theta: float
    mean_ge: float
    mean_gi: float
    hold_e: int
    hold_i: int
    interval: int


def steps(constants: Constants, dt: float) -> Steps:
    """Return what one time step of ``dt`` ms does.

    Raises
    ------
    OptionError
        For a step that was not validated.
    """
    check_step(dt)
    c = constants
    keep = {}
    for name, tau in (("e", c.tau_ge), ("i", c.tau_gi)):
        if tau <= FINE:
            raise OptionError(f"tau_g{name} must be above {FINE} ms, not {tau}")
        keep[name] = (1.0 - FINE / tau) ** (dt / FINE)
    return Steps(
        image=round(c.image / dt),
        silence=round(c.silence / dt),
        settle=round(c.settle / dt),
        leak_e=dt / c.tau_e,
        leak_i=dt / c.tau_i,
        keep_ge=keep["e"],
        keep_gi=keep["i"],
        keep_theta=1.0 - dt / c.tau_theta,
        mean_ge=(1.0 - keep["e"]) * c.tau_ge / dt if dt > FINE else 1.0,
        mean_gi=(1.0 - keep["i"]) * c.tau_gi / dt if dt > FINE else 1.0,
        hold_e=max(1, round(c.refractory_e / dt)),
        hold_i=max(1, round(c.refractory_i / dt)),
        interval=_interval(c, dt),
    )


def _interval(c: Constants, dt: float) -> int:
    """Count steps until the timer, summed up in seconds as Brian 2 does, exceeds the refractory time."""
    timer, count = 0.0, 0
    while timer <= c.refractory_e / 1000.0:
        timer += c.timer_rate * (dt / 1000.0)
        count += 1
    return count


def check_step(dt: float) -> None:
    """Refuse time steps with which a module was not shown to fire as it does with 0.1 ms.

    Raises
    ------
    OptionError
    """
    if dt not in STEPS:
        known = ", ".join(f"{each:g}" for each in STEPS)
        raise OptionError(f"dt must be one of {known} ms, with which a module fires as the published one, not {dt}")
