"""From runs to figures: totals, means over seeds, ratios to the twins."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from step.report.units import MISSING, three_digits

if TYPE_CHECKING:
    import pandas as pd

EVEN = 0.05  # a ratio within 5 % of 1 is called even: energy constants are not known better than that


def over_seeds(frame: pd.DataFrame, by: list[str], value: str) -> pd.DataFrame:
    """Return ``mean``, ``sd`` (sample standard deviation; NaN for one seed) and ``n`` of a column.

    Missing values are left out; a group without any is dropped.
    """
    grouped = frame.groupby(by, sort=False, observed=True)[value]
    table = grouped.agg(mean="mean", sd="std", n="count").reset_index()
    return table[table["n"] > 0].reset_index(drop=True)


def totals(energy: pd.DataFrame) -> pd.DataFrame:
    """Return the total ``pJ`` of every run under every energy model; NaN where no part is applicable."""
    by = ["run", "network", "seed", "model"]
    return energy.groupby(by, sort=False, observed=True)["pJ"].sum(min_count=1).reset_index()


def ratios(total: pd.DataFrame, spiking: list[str], twins: list[str]) -> pd.DataFrame:
    """Return what every spiking network costs relative to every twin, under every energy model.

    Returns
    -------
    pandas.DataFrame
        ``model``, ``network``, ``twin``, ``ratio`` (mean over mean; below 1 the spiking network is cheaper),
        ``sd`` (of the ratios of runs with the same seed; NaN below two), ``n`` (such pairs), ``verdict``.
    """
    import pandas as pd

    rows = []
    for model in total["model"].unique():
        of_model = total[total["model"] == model].dropna(subset=["pJ"])
        by_seed = {
            network: of_model[of_model["network"] == network].groupby("seed")["pJ"].mean()
            for network in (*spiking, *twins)
        }
        for network in spiking:
            for twin in twins:
                pairs = (by_seed[network] / by_seed[twin]).dropna()
                below = by_seed[twin].mean()
                ratio = by_seed[network].mean() / below if below > 0 else math.nan
                spread = float(pairs.std()) if len(pairs) > 1 else math.nan
                rows.append((model, network, twin, ratio, spread, len(pairs), verdict(ratio, spread)))
    return pd.DataFrame(rows, columns=["model", "network", "twin", "ratio", "sd", "n", "verdict"])


def verdict(ratio: float, sd: float = math.nan) -> str:
    """Say in a word who is cheaper; a ratio within 5 % or one standard deviation of 1 is ``"even"``."""
    if not math.isfinite(ratio):
        return "not applicable"
    if abs(ratio - 1) <= max(EVEN, sd if math.isfinite(sd) else 0.0):
        return "even"
    return "cheaper" if ratio < 1 else "dearer"


def plus_minus(mean: float, sd: float, scale: float = 1.0, unit: str = "") -> str:
    """Return ``"95.1 ± 0.3 %"``: the mean with three significant digits, the deviation to the same place.

    Both are divided by ``scale`` and followed by ``unit``; without a deviation the mean stands alone.
    """
    if not math.isfinite(mean):
        return MISSING
    mean, sd = mean / scale, sd / scale
    if not math.isfinite(sd):
        return f"{three_digits(mean)}{unit}"
    places = max(0, 2 - math.floor(math.log10(abs(mean)))) if mean else 2
    return f"{mean:,.{places}f} ± {sd:,.{places}f}{unit}"


def seeds_sentence(runs: pd.DataFrame) -> str:
    """Say how many seeds stand behind the figures, and which."""
    if not len(runs):
        return "No runs."
    count = runs.groupby("network", sort=False)["seed"].nunique()
    if count.nunique() > 1:
        each = ", ".join(f"{network} n = {n}" for network, n in count.items())
        return f"Mean ± s.d. over seeds ({each}); a network with one seed has no error bar."
    seeds = ", ".join(str(seed) for seed in sorted(runs["seed"].unique()))
    n = int(count.iloc[0])
    if n == 1:
        return f"One seed ({seeds}) per network, so there are no error bars."
    return f"Mean ± s.d. over n = {n} seeds ({seeds})."
