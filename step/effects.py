"""What a choice changes, against what a seed changes: effects of the factors of a suite, judged by paired tests.

The same seed gives two runs the same split of the data and, where their shapes agree, the same initial weights, so
that runs are compared seed by seed (Bouthillier et al., 2021, on the sources of variance in benchmarks).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from neurons.errors import OptionError, suggest
from step.paired import blocked, detectable, holm, paired, pooled_sd

if TYPE_CHECKING:
    import pandas as pd

    from step.spec import Spec
    from step.suite import Suite

ALPHA = 0.05
LEAST = 3
"""Seeds below which no difference is called more than noise."""

YES, NOISE, FEW, SAME, NONE, FLAT = (
    "yes", "within noise", "too few seeds", "not applicable", "not finished", "no spread",
)  # fmt: skip

_RATIO_SCALES = ("spikes", "firing_rate", "energy_pJ.", "operations.", "parameters", "seconds", "train_seconds")


@dataclass(frozen=True)
class Metric:
    """A measured quantity and the scale on which differences are given.

    Attributes
    ----------
    name : str
        Name for people.
    column : str
        Column of ``Results.runs``.
    unit : str
        ``points`` (percentage points of a share), ``%`` (of the mean of the baseline, within what is held fixed), or
        nothing: the quantity's own.
    """

    name: str
    column: str
    unit: str


@dataclass(frozen=True)
class Effects:
    """The effects of one factor on one metric.

    Attributes
    ----------
    factor, baseline : str
        Field of the grid, and the level that the others are compared with.
    metric : Metric
    held : list of str
        The other fields that have several levels: what is held fixed while the factor changes.
    table : pandas.DataFrame
        One row for each level but the baseline and each combination of the other fields (``within``): means of both
        over the ``n`` seeds that both have, ``baseline_sd`` over these (``noise`` in the unit of the metric), then
        :class:`step.paired.Paired` of the differences (in
        the unit of the metric), ``p_holm`` over all tested rows of the factor, ``exceeds`` (one plain word), and
        ``shared``: the runs of one side stand in other rows too, because the combinations resolve to the same runs.
    pooled : pandas.DataFrame
        One row for each level with at least two tested rows: :class:`step.paired.Blocked` with ``within`` as the
        block, ``p_holm`` over the levels and ``exceeds`` for the mean, ``everywhere_holm`` and ``everywhere`` for the
        claim that the effect is there, with one sign, in every block.
    seeds : list of int
        Seeds of the compared runs.
    tests : int
        Size of the family of the correction: rows with enough seeds.
    n : int
        Fewest seeds of a tested row; 0 when none could be tested.
    sd : float
        Standard deviation of the differences, pooled over all rows.
    detectable, detectable_corrected : float
        Smallest true difference that a test with ``n`` seeds and ``sd`` would find in 80 % of cases: a single test at
        the level 0.05, and the first step of Holm's correction.
    """

    factor: str
    baseline: str
    metric: Metric
    held: list[str]
    table: pd.DataFrame
    pooled: pd.DataFrame
    seeds: list[int]
    tests: int
    n: int
    sd: float
    detectable: float
    detectable_corrected: float


ACCURACY = Metric("test accuracy", "test_accuracy", "points")


def metrics_of(runs: pd.DataFrame, wanted: str, headline: str = ACCURACY.column) -> list[Metric]:
    """Return the metrics of a name: ``accuracy``, ``energy`` (under every model), or any column of numbers of runs.

    ``accuracy`` is the metric that the tables of the suite lead with, ``headline``.

    Raises
    ------
    OptionError
        When there is no such metric.
    """
    columns = [c for c in runs.columns if runs[c].dtype.kind in "if" and c not in ("seed", "T")]
    if wanted == "energy":
        return [metric_of(column) for column in columns if column.startswith("energy_pJ.")]
    column = headline if wanted == "accuracy" else wanted
    if column not in columns:
        raise OptionError(f"--metric: no metric {wanted!r}{suggest(wanted, ['accuracy', 'energy', *columns])}")
    return [metric_of(column)]


def metric_of(column: str) -> Metric:
    """Return a column of ``Results.runs`` as a metric."""
    name = column.replace("energy_pJ.", "energy, ").replace("operations.", "").replace("_", " ")
    if column.endswith(("accuracy", "auc")) or column.startswith("recall_at_"):
        return Metric(name, column, "points")
    return Metric(name, column, "%" if column.startswith(_RATIO_SCALES) else "")


def effects_of(
    suite: Suite, runs: pd.DataFrame, metric: Metric = ACCURACY, factors: Iterable[str] | None = None
) -> list[Effects]:
    """Return the effects of the factors of a suite.

    Parameters
    ----------
    suite : Suite
    runs : pandas.DataFrame
        Finished runs with run, seed and the column of the metric; see ``Results.runs``.
    metric : Metric
    factors : iterable of str, optional
        Those of ``suite.baselines`` when left out.

    Raises
    ------
    OptionError
        On a factor that the suite does not compare.
    """
    wanted = list(suite.baselines) if factors is None else list(factors)
    for factor in wanted:
        if factor not in suite.baselines:
            raise OptionError(f"{suite.name} does not compare levels of {factor!r}{suggest(factor, suite.baselines)}")
    return [_effects(suite, runs, metric, factor) for factor in wanted]


def as_frame(effects: Iterable[Effects]) -> pd.DataFrame:
    """Return effects as one frame of numbers, with the factor, baseline and metric of each row."""
    import pandas as pd

    told = [e.table.assign(factor=e.factor, baseline=e.baseline, metric=e.metric.column) for e in effects]
    frame = pd.concat(told, ignore_index=True)
    first = ["metric", "factor", "baseline"]
    return frame[[*first, *(column for column in frame.columns if column not in first)]]


def _effects(suite: Suite, runs: pd.DataFrame, metric: Metric, factor: str) -> Effects:
    import pandas as pd

    values = dict(zip(runs["run"], runs[metric.column].astype(float), strict=True))
    found: dict[str, dict[str, dict[int, str]]] = {}  # within, level, seed: run
    places: dict[str, set[str]] = {}
    specs = {spec.id: spec for spec in suite.specs}
    for cell in suite.cells:
        if factor in cell.levels:
            within = _within(suite, cell.levels, factor, specs[cell.run])
            found.setdefault(within, {}).setdefault(cell.levels[factor], {})[cell.seed] = cell.run
            places.setdefault(cell.run, set()).add(within)
    baseline = suite.baselines[factor]
    rows, differences = [], []
    for within, levels in found.items():
        base = levels.get(baseline, {})
        for level in (level for level in suite.factors[factor] if level != baseline and level in levels and base):
            row, differences_ = _row(base, levels[level], values, metric)
            shared = any(len(places[run]) > 1 for run in (*base.values(), *levels[level].values()))
            rows.append({"within": within, "level": level, **row, "shared": shared})
            differences.append(differences_)
    table = pd.DataFrame(rows)
    tested = [place for place, row in enumerate(rows) if row["exceeds"] is None]
    for place, p in zip(tested, holm([rows[place]["p"] for place in tested]), strict=True):
        table.loc[place, "p_holm"] = p
        table.loc[place, "exceeds"] = YES if p < ALPHA else NOISE
    spread = [(len(d), row["sd"]) for d, row in zip(differences, rows, strict=True) if row["sd"] == row["sd"]]
    n = min((rows[place]["n"] for place in tested), default=0)
    sd = pooled_sd(spread)
    held = [key for key, levels in suite.factors.items() if key != factor and len(levels) > 1]
    return Effects(
        factor, baseline, metric, held, table, _pooled(rows, differences), _seeds(found, values), len(tested), n, sd,
        detectable(sd, n, ALPHA), detectable(sd, n, ALPHA / max(len(tested), 1)),
    )  # fmt: skip


def _within(suite: Suite, levels: dict[str, str], factor: str, spec: Spec) -> str:
    """Return what is held fixed while the factor changes: the levels of all other fields that have several."""
    held = [level for key, level in levels.items() if key != factor and len(suite.factors[key]) > 1]
    if held:
        return ", ".join(held)
    return str(spec.neuron["name"] if factor == "model" else spec.model["name"])


def _row(
    base: dict[int, str], other: dict[int, str], values: dict[str, float], metric: Metric
) -> tuple[dict[str, Any], list[float]]:
    pairs = [(base[seed], other[seed]) for seed in base if seed in other]
    known = [(values[a], values[b]) for a, b in pairs if a in values and b in values]
    measured = [(a, b) for a, b in known if not math.isnan(a) and not math.isnan(b)]
    same = any(a == b for a, b in pairs)
    mean = sum(a for a, _ in measured) / len(measured) if measured else math.nan
    scale = {"points": 100.0, "%": 100.0 / mean if mean else math.nan}.get(metric.unit, 1.0)
    usable = [] if same or math.isnan(scale) else measured
    differences = [scale * (b - a) for a, b in usable]
    result = paired(differences)
    exceeds = None
    if same or (known and not usable):
        exceeds = SAME
    elif not known:
        exceeds = NONE
    elif result.n < LEAST:
        exceeds = FEW
    elif result.sd == 0:
        exceeds = FLAT if result.mean else NOISE
    of_base, of_other = paired([a for a, _ in measured]), paired([b for _, b in measured])
    means = {"baseline_mean": of_base.mean, "baseline_sd": of_base.sd, "level_mean": of_other.mean}
    row = {**means, "noise": scale * of_base.sd, **result._asdict(), "p_holm": math.nan, "exceeds": exceeds}
    return row, differences


def _pooled(rows: list[dict[str, Any]], differences: list[list[float]]) -> pd.DataFrame:
    import pandas as pd

    by_level: dict[str, list[list[float]]] = {}
    for row, values in zip(rows, differences, strict=True):
        if len(values) >= LEAST:
            by_level.setdefault(row["level"], []).append(values)
    table = pd.DataFrame(
        [{"level": level, **blocked(groups)._asdict()} for level, groups in by_level.items() if len(groups) > 1]
    )
    for claim, p, adjusted in (("exceeds", "p", "p_holm"), ("everywhere", "p_everywhere", "everywhere_holm")):
        if len(table):
            table[adjusted] = math.nan
            tested = table[p].notna()
            table.loc[tested, adjusted] = holm(list(table.loc[tested, p]))
            table[claim] = [YES if value < ALPHA else NOISE if value == value else FLAT for value in table[adjusted]]
    return table


def _seeds(found: dict[str, dict[str, dict[int, str]]], values: dict[str, float]) -> list[int]:
    runs = ((seed, run) for levels in found.values() for by_seed in levels.values() for seed, run in by_seed.items())
    return sorted({seed for seed, run in runs if run in values})
