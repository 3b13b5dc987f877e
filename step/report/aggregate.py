"""From runs to figures: totals and means over seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


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
