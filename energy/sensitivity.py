"""What a price would be if a constant, or the firing rate, were another; and where two prices cross."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from energy.derive import largest_activity, with_activity
from energy.hardware import Hardware, load
from energy.models import Choice
from energy.models.base import MEMORY_PARTS, PARTS
from energy.models.layer import Layer, layers_of
from energy.record import EVENTS, Record
from neurons.errors import OptionError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

RANGE = 1000.0
"""Constants and rates are changed by factors from 1 / RANGE to RANGE in search of a crossing."""
_MEMORY = [PARTS.index(part) for part in MEMORY_PARTS]
_WEIGHTS = PARTS.index("memory_weight")


class Rates:
    """A record at any multiple of its firing rates; each is made once and serves every model.

    Parameters
    ----------
    record : Record
    """

    def __init__(self, record: Record) -> None:
        self.record = record
        self._layers: dict[float, list[Layer]] = {1.0: layers_of(record)}
        macs = record.products
        first, second = macs["operand"].isin(EVENTS), macs["second_operand"].isin(EVENTS)
        met = macs[first | second]
        self._both = float(met.loc[first & second, "exact"].sum())
        self._one = float(met["exact"].sum()) - self._both
        self._dense = float(met["dense"].sum())
        self._connections = float((met["dense"] / met["T"]).sum())

    @property
    def changes(self) -> bool:
        """Whether there are spikes to be made more or fewer."""
        return self._one + self._both > 0

    @property
    def largest(self) -> float:
        """The factor at which the busiest layer fires at every step, at most RANGE."""
        return min(float(largest_activity(self.record)), RANGE)

    def layers(self, factor: float = 1.0) -> list[Layer]:
        """Return the layers of the record at ``factor`` times its firing rates."""
        if factor not in self._layers:
            self._layers[factor] = layers_of(with_activity(self.record, factor))
        return self._layers[factor]

    def rate(self, factor: float = 1.0) -> float:
        """Return spikes per input and step: of all connections, so that a layer weighs by its operations."""
        return self._events(factor) / self._dense if self._dense else math.nan

    def spikes_per_synapse(self, factor: float = 1.0) -> float:
        """Return synaptic events per connection and inference."""
        return self._events(factor) / self._connections if self._connections else math.nan

    def _events(self, factor: float) -> float:
        # A coincidence of two spikes grows with the square of the rate.
        return self._one * factor + self._both * factor**2


class Pricer:
    """The price of one record under one choice, as arrays, with anything changed.

    Parameters
    ----------
    choice : Choice
    hardware : Hardware
        Its constants are the unchanged ones.
    rates : Rates
        The record, at any firing rate.
    seconds : float, optional
        Time of one inference, for hardware that knows its static power.
    """

    def __init__(self, choice: Choice, hardware: Hardware, rates: Rates, seconds: float | None = None) -> None:
        self.model, self.hardware, self.rates = choice.model, load(hardware), rates
        self._seconds = seconds
        self._totals: dict[tuple[str, float, float], float] = {}
        self.parts = self._parts(self.hardware, rates.layers())
        self.used = frozenset(self.hardware.used)
        """Constants that this price rests on."""

    @property
    def total(self) -> float:
        """Energy of one inference; NaN when the model applies to no layer."""
        return self.at()

    def at(self, constant: str = "", factor: float = 1.0, activity: float = 1.0) -> float:
        """Return the total with one constant and all firing rates multiplied."""
        if constant not in self.used or factor == 1:
            constant, factor = "", 1.0
        key = (constant, factor, activity)
        if key not in self._totals:
            profile = self.hardware.scaled(constant, factor) if constant else self.hardware
            whole = self.parts if key == ("", 1.0, 1.0) else self._parts(profile, self.rates.layers(activity))
            self._totals[key] = _sum(whole) + self._static(profile)
        return self._totals[key]

    @property
    def has_memory(self) -> bool:
        """Whether the model prices any access to memory."""
        return not bool(np.isnan(self.parts[:, _MEMORY]).all())

    @property
    def has_weights(self) -> bool:
        """Whether the model prices fetches of weights without taking account of reuse."""
        return not self.model.reuses_weights and not bool(np.isnan(self.parts[:, _WEIGHTS]).all())

    def over(self, factors: Sequence[float]) -> Array:
        """Return the total at every factor on the firing rates."""
        if self._polynomial is not None:
            return np.polyval(self._polynomial, np.array(factors))
        return np.array([self.at(activity=factor) for factor in factors])

    @cached_property
    def _polynomial(self) -> Array | None:
        """The total over the factor on the firing rates, where it is a parabola; as it is for nearly every model.

        Spikes enter linearly and coincidences of two by the square: three points fix the curve, others confirm it.
        """
        largest = self.rates.largest
        if largest <= 1:
            return None
        known = [0.0, 1.0, largest]
        found = np.polyfit(known, [self.at(activity=factor) for factor in known], 2)
        for factor in (0.5, min(1.5, (1 + largest) / 2), math.sqrt(largest)):
            exact = self.at(activity=factor)
            if not abs(float(np.polyval(found, factor)) - exact) <= 1e-9 * abs(exact):
                return None
        return found

    def with_memory(self, factor: float) -> float:
        """Return the total with the price of all memory multiplied."""
        return self.total + (factor - 1) * float(np.nansum(self.parts[:, _MEMORY]))

    def with_reuse(self) -> float:
        """Return the total where weights are fetched as seldom as the dataflow allows.

        A conventional layer fetches each weight at most once for an inference, a layer that gets events at most once
        for each time step.
        """
        weights = self.parts[:, _WEIGHTS]
        scale = np.array([_reuse(layer) for layer in self.rates.layers()])
        return self.total - float(np.nansum(weights * (1 - scale)))

    def _static(self, profile: Hardware) -> float:
        if self._seconds is None or "static_power" not in profile:
            return 0.0
        return profile["static_power"] * self._seconds * 1e12

    def _parts(self, profile: Hardware, layers: Sequence[Layer]) -> Array:
        prices = self.model.price_layers(layers, profile)
        rows = [
            [math.nan] * len(PARTS) if p is None else [p.parts.get(part, math.nan) for part in PARTS] for p in prices
        ]
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(PARTS))


def _sum(parts: Array) -> float:
    return math.nan if np.isnan(parts).all() else float(np.nansum(parts))


def _reuse(layer: Layer) -> float:
    """Return the share of the fetches of a layer's weights that perfect reuse leaves."""
    if not layer.is_product or not layer.weights:
        return 1.0
    events = layer.gets_events
    fetched = layer.moved("weight", policy="event" if events else "dense")
    least = float(layer.weights * (layer.T if events else 1))
    return min(1.0, least / fetched) if fetched else 1.0


def flip_by_constant(network: Pricer, twin: Pricer, constant: str) -> float:
    """Return the factor on a constant, nearest to 1, at which both cost the same; NaN when there is none."""

    def gap(factor: float) -> float:
        return network.at(constant, factor) - twin.at(constant, factor)

    here, slope = gap(1.0), gap(2.0) - gap(1.0)
    size = abs(network.total) + abs(twin.total)
    if not math.isfinite(here + slope):
        return math.nan
    # Prices are nearly always linear in a constant; where they are not, the check sends us to the search.
    root = 1 - here / slope if abs(slope) > 1e-12 * size else math.nan
    inside = 1 / RANGE <= root <= RANGE
    expected = 0.0 if inside else here + 3 * slope
    if abs(gap(root if inside else 4.0) - expected) <= 1e-9 * size:
        return root if inside else math.nan
    return crossing(gap, list(np.geomspace(1 / RANGE, RANGE, 13)))


def break_even(network: Pricer, twin: Pricer, factors: Sequence[float]) -> float:
    """Return the factor on all firing rates at which a network costs what its twin costs.

    Parameters
    ----------
    network, twin : Pricer
    factors : sequence of float
        Where to look first, from small to large.

    Returns
    -------
    float
        0 when the network is dearer without any spike, infinite when it is cheaper at the highest rates, NaN when
        nothing can be said: no spikes in the record, no price, or the same one at every rate.
    """
    if not network.rates.changes or not math.isfinite(network.total - twin.total):
        return math.nan

    def gap(factor: float) -> float:
        return float(network.over([factor])[0]) - twin.total

    first, last = gap(0.0), gap(factors[-1])
    if abs(last - first) <= 1e-12 * abs(twin.total) and abs(last) <= 1e-12 * abs(twin.total):
        return math.nan  # both cost the same at every rate
    if first <= 0 and last <= 0:
        return math.inf
    if first > 0 and last > 0:
        return 0.0
    curve = [0.0, *factors], [first, *(network.over(factors) - twin.total)]
    pairs = zip(curve[0], curve[0][1:], curve[1], curve[1][1:], strict=False)
    roots = [_root(gap, low, high) for low, high, below, above in pairs if below * above < 0 or above == 0]
    return min(roots, key=lambda root: abs(math.log(max(root, 1e-300))), default=math.nan)


def crossing(gap: Callable[[float], float], factors: Sequence[float]) -> float:
    """Return the root of ``gap`` that is nearest to 1 on a logarithmic scale, found between the given factors."""
    values = [gap(f) for f in factors]
    roots = []
    for low, high, below, above in zip(factors, factors[1:], values, values[1:], strict=False):
        if below == 0:
            roots.append(low)
        elif below * above < 0:
            roots.append(_root(gap, low, high))
    if values[-1] == 0:
        roots.append(factors[-1])
    return min(roots, key=lambda r: abs(math.log(r)), default=math.nan)


def _root(gap: Callable[[float], float], low: float, high: float) -> float:
    from scipy.optimize import brentq  # a third of a second, where a price crosses another only

    return float(brentq(gap, low, high, xtol=1e-12 * high, rtol=1e-12))


def grid(rates: Rates, points: int = 25) -> list[float]:
    """Return factors on the firing rates from 1/32 to the largest possible, with 1 among them."""
    largest = rates.largest
    if not rates.changes:
        return [1.0]
    low, high = 1 / 32, max(largest, 1.0)
    steps = [float(f) for f in np.geomspace(low, high, points)]
    return sorted({*(f for f in steps if abs(f - 1) > 1e-6), 1.0})


def check_seconds(seconds: float | None) -> None:
    """Raise an OptionError for a time that is not positive."""
    if seconds is not None and not seconds > 0:
        raise OptionError(f"seconds must be a positive time, and are {seconds}")
