"""Checks of options that several neurons share."""

from __future__ import annotations

import math

from neurons.errors import OptionError


def positive(neuron: str, **values: float) -> None:
    """Refuse values that are not positive and finite."""
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise OptionError(f"{name} of {neuron} must be positive and finite, not {value}")


def time_constant(neuron: str, **values: float) -> None:
    """Refuse time constants of one time step or less."""
    for name, value in values.items():
        if not value > 1:
            raise OptionError(f"{name} of {neuron} is counted in time steps and must be greater than 1, not {value}")


def fraction(neuron: str, **values: float) -> None:
    """Refuse values that are not strictly between 0 and 1."""
    for name, value in values.items():
        if not 0 < value < 1:
            raise OptionError(f"{name} of {neuron} must lie between 0 and 1, not {value}")


def count(neuron: str, **values: int) -> None:
    """Refuse values that are not whole numbers of at least 1."""
    for name, value in values.items():
        if value != int(value) or value < 1:
            raise OptionError(f"{name} of {neuron} must be a whole number of at least 1, not {value}")
