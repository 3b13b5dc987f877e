"""Paired comparisons: t test, interval, effect size, correction for many tests, smallest detectable difference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

_EXACT = 1e-9  # a spread below this share of the values is rounding, not a spread
_NODES = 200  # of the quadrature of the power; 1e-5 off at worst


class Paired(NamedTuple):
    """Differences of pairs against no difference.

    Attributes
    ----------
    n : int
        Pairs.
    mean, sd : float
        Of the differences; the sample standard deviation.
    low, high : float
        Confidence interval of the mean difference, Student's.
    p : float
        Two-sided, of the paired t test; NaN where the differences have no spread.
    d_z : float
        Cohen's effect size for pairs: mean over standard deviation of the differences (Lakens, 2013).
    g_z : float
        The same with the correction of Hedges (1981) for few pairs.
    """

    n: int
    mean: float
    sd: float
    low: float
    high: float
    p: float
    d_z: float
    g_z: float


class Blocked(NamedTuple):
    """Differences of pairs in several blocks.

    Attributes
    ----------
    blocks, n : int
        Blocks, and pairs in all of them.
    mean, low, high, p : float
        The mean over blocks, each with the same weight, its interval and two-sided p. Spread: that of the pairs
        within their blocks.
    p_differs : float
        That the difference is the same in all blocks (one-way analysis of variance of the differences).
    p_everywhere : float
        That some block has no difference, or one of the other sign (intersection-union test; Berger, 1982): the
        largest p of the blocks, 1 where their signs differ.
    """

    blocks: int
    n: int
    mean: float
    low: float
    high: float
    p: float
    p_differs: float
    p_everywhere: float


def paired(differences: Sequence[float], confidence: float = 0.95) -> Paired:
    """Compare pairs by their differences.

    Parameters
    ----------
    differences : sequence of float
        One for each pair.
    confidence : float
        Of the interval.
    """
    values = np.asarray(differences, dtype=float)
    n = len(values)
    if n == 0:
        return Paired(0, *[math.nan] * 7)
    mean = float(values.mean())
    if n == 1:
        return Paired(1, mean, *[math.nan] * 6)
    sd = _sd(values)
    if sd == 0:
        return Paired(n, mean, 0.0, mean, mean, math.nan, math.nan, math.nan)
    low, high, p = _student(mean, sd / math.sqrt(n), n - 1, confidence)
    d_z = mean / sd
    return Paired(n, mean, sd, low, high, p, d_z, d_z * hedges(n - 1))


def blocked(groups: Sequence[Sequence[float]], confidence: float = 0.95) -> Blocked:
    """Compare pairs by their differences, over blocks.

    Parameters
    ----------
    groups : sequence of sequences of float
        The differences of every block, at least one in each.
    confidence : float
        Of the interval.
    """
    from scipy import stats

    blocks = [np.asarray(group, dtype=float) for group in groups]
    n = sum(map(len, blocks))
    means = [float(block.mean()) for block in blocks]
    mean = float(np.mean(means))
    df = n - len(blocks)
    sd = pooled_sd([(len(block), _sd(block) if len(block) > 1 else 0.0) for block in blocks])
    each = [paired(group).p for group in groups]
    same_sign = all(value > 0 for value in means) or all(value < 0 for value in means)
    everywhere = math.nan if any(map(math.isnan, each)) else max(each)
    if not sd > 0:
        nan = math.nan
        return Blocked(len(blocks), n, mean, nan, nan, nan, nan, everywhere if same_sign else 1.0)
    error = sd * math.sqrt(sum(1 / len(block) for block in blocks)) / len(blocks)
    low, high, p = _student(mean, error, df, confidence)
    grand = float(np.concatenate(blocks).mean())
    between = sum(len(block) * (m - grand) ** 2 for block, m in zip(blocks, means, strict=True))
    ratio = between / max(len(blocks) - 1, 1) / sd**2
    differs = float(stats.f.sf(ratio, len(blocks) - 1, df)) if len(blocks) > 1 else math.nan
    return Blocked(len(blocks), n, mean, low, high, p, differs, everywhere if same_sign else 1.0)


def hedges(df: int) -> float:
    """Return the factor of Hedges (1981, equation 6e) that takes the bias of few samples out of a standardised mean.

    Exact, by the gamma function; 0 at one degree of freedom, where there is no unbiased estimate.
    """
    if df < 2:
        return 0.0
    return math.exp(math.lgamma(df / 2) - math.lgamma((df - 1) / 2)) / math.sqrt(df / 2)


def holm(p: Sequence[float]) -> list[float]:
    """Return p values adjusted for their number by the step-down method of Holm (1979)."""
    order = sorted(range(len(p)), key=lambda place: p[place])
    adjusted, largest = [0.0] * len(p), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - rank) * p[place]))
        adjusted[place] = largest
    return adjusted


def pooled_sd(samples: Sequence[tuple[int, float]]) -> float:
    """Return the standard deviation over samples given as ``(n, sd)``, weighted by n - 1; NaN without any."""
    df = sum(n - 1 for n, _ in samples if n > 1)
    return math.sqrt(sum((n - 1) * sd**2 for n, sd in samples if n > 1) / df) if df else math.nan


def power(effect: float, n: int, alpha: float = 0.05) -> float:
    """Return the chance that a two-sided paired t test finds a true d_z of ``effect`` with ``n`` pairs.

    The non-central t distribution, as a normal one averaged over the spread that the test would estimate: finite for
    any effect, unlike the series of ``scipy.stats.nct``.
    """
    from scipy import special, stats

    limit, shift = stats.t.isf(alpha / 2, n - 1), effect * math.sqrt(n)
    spread, weights = _spreads(n - 1)
    return float(weights @ (special.ndtr(shift - limit * spread) + special.ndtr(-shift - limit * spread)))


@lru_cache(maxsize=64)
def _spreads(df: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what a test may estimate a spread of 1 to be, and with which probability: nodes of a quadrature."""
    from scipy import stats

    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return np.sqrt(stats.chi2.ppf((nodes + 1) / 2, df) / df), weights / 2


def detectable(sd: float, n: int, alpha: float = 0.05, wanted: float = 0.8) -> float:
    """Return the smallest true difference that a two-sided paired t test finds with the wanted power.

    Parameters
    ----------
    sd : float
        Standard deviation of the differences, in whose unit the result is.
    n : int
        Pairs; NaN below 2.
    alpha : float
        Level of the test.
    wanted : float
        Power.
    """
    from scipy import optimize

    if n < 2 or not sd > 0:
        return math.nan
    high = 1.0
    while power(high, n, alpha) < wanted:
        high *= 2
    return sd * float(optimize.brentq(lambda effect: power(effect, n, alpha) - wanted, 0.0, high, xtol=1e-6))


def _sd(values: np.ndarray) -> float:
    """Return the sample standard deviation, 0 where only rounding tells the values apart."""
    sd = float(values.std(ddof=1))
    return 0.0 if sd <= _EXACT * float(np.abs(values).max()) else sd


def _student(mean: float, error: float, df: int, confidence: float) -> tuple[float, float, float]:
    from scipy import stats

    reach = float(stats.t.isf((1 - confidence) / 2, df)) * error
    return mean - reach, mean + reach, 2 * float(stats.t.sf(abs(mean) / error, df))
