"""Numbers as people read them: energies with a prefix, counts with a suffix, mean and standard deviation."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

MISSING = "–"
TIMES = "×"
MINUS = "−"


class EnergyUnit(NamedTuple):
    """A unit of energy and its size in pJ."""

    name: str
    pJ: float


_ENERGIES = tuple(EnergyUnit(name, size) for name, size in (
    ("J", 1e12), ("mJ", 1e9), ("µJ", 1e6), ("nJ", 1e3), ("pJ", 1.0), ("fJ", 1e-3),
))  # fmt: skip
_COUNTS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def energy_unit(energies: Iterable[float]) -> EnergyUnit:
    """Return the one unit in which all these energies (pJ) are best shown together.

    It is the unit of their geometric mean; zeros and missing values do not vote.
    """
    logs = [math.log(value) for value in energies if value > 0 and math.isfinite(value)]
    return _unit_of(math.exp(sum(logs) / len(logs))) if logs else EnergyUnit("pJ", 1.0)


def format_energy(pJ: float, unit: EnergyUnit | None = None) -> str:
    """Return an energy in pJ with three significant digits: ``12345`` gives ``"12.3 nJ"``.

    Parameters
    ----------
    pJ : float
        The energy; NaN gives a dash.
    unit : EnergyUnit, optional
        Unit to keep to, so that a column of figures compares; by default the one that fits.
    """
    if pJ is None or not math.isfinite(pJ):
        return MISSING
    if pJ == 0:
        return f"0 {unit.name if unit else 'pJ'}"
    unit = unit or _unit_of(_rounded(pJ))
    return f"{three_digits(pJ / unit.pJ)} {unit.name}"


def format_count(count: float) -> str:
    """Return a count with an SI suffix: ``1234567`` gives ``"1.23 M"``; whole numbers below 1000 stay exact."""
    if count is None or not math.isfinite(count):
        return MISSING
    size = abs(_rounded(count))
    for factor, suffix in _COUNTS:
        if size >= factor:
            return f"{three_digits(count / factor)} {suffix}"
    return str(int(count)) if float(count).is_integer() else three_digits(count)


def format_ratio(ratio: float) -> str:
    """Return a ratio with a multiplication sign: ``"0.31×"``."""
    if ratio is None or not math.isfinite(ratio):
        return MISSING
    if 0.0995 <= ratio < 9.995:
        return f"{ratio:.2f}{TIMES}"
    return (f"{ratio:.2g}" if ratio < 1 else three_digits(ratio)) + TIMES


def three_digits(value: float) -> str:
    """Return a number with three significant digits and no exponent where it is neither huge nor tiny."""
    if value == 0:
        return "0"
    value = _rounded(value)
    size = math.floor(math.log10(abs(value)))
    if size < -4:
        return f"{value:.2e}"
    return f"{value:,.{max(0, 2 - size)}f}"


def _rounded(value: float) -> float:
    # rounds before a unit is chosen, so that 999.9 pJ becomes 1.00 nJ and not 1000 pJ
    return float(f"{value:.2e}")


def _unit_of(pJ: float) -> EnergyUnit:
    return next((unit for unit in _ENERGIES if abs(pJ) >= unit.pJ), _ENERGIES[-1])
