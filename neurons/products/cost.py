"""When adding up events is worth it: a count of what either way does, in units of one dense vector operation.

A dense product multiplies and adds 16 numbers in one step and is near the peak of the processor, so that one step is
the unit. Both ways grow with the width of the vectors and with the number of threads, and the choice depends on
neither. The weights of the rule were fitted to ``python -m benchmarks.speed.products`` on a processor with AVX-512.
"""

from __future__ import annotations

from dataclasses import dataclass

from neurons.products.geometry import Geometry

_VECTOR = 16


@dataclass(frozen=True)
class Rule:
    """What one thing costs, in dense vector operations.

    Attributes
    ----------
    event : float
        One row of 16 outputs added for one event.
    value : float
        The same for an event that carries a value.
    job : float
        Beginning and ending one sum of 32 outputs: a jump that cannot be foreseen, loads and stores.
    number : float
        One number of the input or the output that is listed or moved.
    weight : float
        One weight that is moved into a panel.
    listed : float
        One event that is listed anew.
    call : float
        Everything that does not grow.
    """

    event: float
    value: float
    job: float
    number: float
    weight: float
    listed: float
    call: float


FORWARD = Rule(event=1.25, value=1.45, job=22.0, number=0.9, weight=1.0, listed=0.0, call=1.5e5)
GRADIENT = Rule(event=1.3, value=1.5, job=22.0, number=0.4, weight=0.7, listed=5.0, call=1.5e5)

_MARGIN = 0.9
"""Share of the dense cost below which events are chosen."""


def dense(geometry: Geometry) -> float:
    """Return the vector operations of the dense product."""
    g = geometry
    return g.places * g.taps * g.inputs * g.outputs / _VECTOR


def forward(geometry: Geometry, density: float, binary: bool) -> float:
    """Return the cost of the event-driven product at a density of non-zeros."""
    g, rule = geometry, FORWARD
    vectors = density * g.places * g.taps * g.inputs * -(-g.outputs // _VECTOR)
    return (
        vectors * (rule.event if binary else rule.value)
        + g.places * g.blocks * g.panels * rule.job
        + g.batch * g.height * g.width * -(-g.inputs // _VECTOR) * _VECTOR * rule.number
        + g.taps * g.inputs * g.outputs * rule.weight
        + rule.call
    )


def gradient(geometry: Geometry, density: float, binary: bool) -> float:
    """Return the cost of the event-driven gradient of the weights at a density of non-zeros."""
    g, rule = geometry, GRADIENT
    vectors = density * g.places * g.taps * g.inputs * -(-g.outputs // _VECTOR)
    taps = g.taps / (g.stride[0] * g.stride[1])  # of one kind of pixel
    return (
        vectors * (rule.event if binary else rule.value)
        + g.tiles * taps * g.inputs * g.panels * rule.job
        + density * g.batch * g.height * g.width * g.inputs * rule.listed
        + g.places * g.outputs * rule.number
        + g.taps * g.inputs * g.outputs * g.splits * rule.weight
        + rule.call
    )


def wins(cost: float, geometry: Geometry) -> bool:
    """Whether a cost is clearly below that of the dense product."""
    return cost < _MARGIN * dense(geometry)
