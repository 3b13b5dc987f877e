"""Effects of the factors of a suite against seed-to-seed noise: tables, sentences and the section of the page."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from step.effects import ALPHA, FEW, LEAST, NONE, SAME, Effects, Metric
from step.report import pieces
from step.report.effects_figure import forest
from step.report.html import Markup, element, join
from step.report.units import MINUS, MISSING, format_count, format_energy, three_digits

if TYPE_CHECKING:
    from step.report.pieces import Plates

SHARED = "†"


def section(plates: Plates, effects: list[Effects]) -> Markup:
    """Return the section: for each factor a forest plot, its table, and what the words in it mean."""
    return join(*(_factor(plates, each) for each in effects))


def _factor(plates: Plates, effects: Effects) -> Markup:
    title = f"{effects.factor}, against {effects.baseline}"
    if not judged(effects):
        return join(element("h3", title), pieces.missing(unjudged(effects)))
    drawn, cut = forest(effects)
    clipped = "Intervals that reach the edge of the figure go on beyond it." if cut else ""
    figure = pieces.figure(
        pieces.panel(title, plates.place(drawn, f"Effect of {effects.factor} on {effects.metric.name}")),
        plates.caption(
            f"Effect of {effects.factor} on {effects.metric.name}. Mark: {difference(effects)}, filled where it "
            "exceeds the noise; line: its 95 % interval. Band: the seed-to-seed noise, ± one s.d. of the baseline.",
            clipped, *sentences(effects),
        ),
    )  # fmt: skip
    over = join(pieces.frame(pooled(effects), "small"), pieces.facts(*pooled_sentences(effects)))
    return join(figure, pieces.frame(table(effects), "small"), over if len(effects.pooled) else "")


def table(effects: Effects) -> pd.DataFrame:
    """Return the effects as texts: one row for each level and what is held fixed."""
    many = not effects.table.empty and effects.table["within"].nunique() > 1
    rows = []
    for row in effects.table.to_dict("records"):
        known = row["n"] > 0
        rows.append(
            {
                effects.factor: ", ".join([row["level"], *([row["within"]] if many else [])])
                + (f" {SHARED}" if row["shared"] else ""),
                "difference": _spread(row["mean"], row["sd"]) if known else MISSING,
                "95 % interval": _interval(row["low"], row["high"]),
                "n": row["n"] if known else MISSING,
                "p, Holm": _p(row["p_holm"]),
                "exceeds noise": row["exceeds"],
                "p": _p(row["p"]),
                "d_z": _signed(row["g_z"]),
                "baseline": _amount(row["baseline_mean"], row["baseline_sd"], effects.metric),
            }
        )
    return pd.DataFrame(rows)


def pooled(effects: Effects) -> pd.DataFrame:
    """Return the effects over all that is held fixed as texts: one row for each level."""
    blocks = held(effects)
    rows = [
        {
            effects.factor: row["level"],
            "mean": _signed(row["mean"]),
            "95 % interval": _interval(row["low"], row["high"]),
            blocks: row["blocks"],
            "p, Holm": _p(row["p_holm"]),
            "exceeds noise": row["exceeds"],
            "in every one": "yes" if row["everywhere"] == "yes" else "not shown",
            "p, every": _p(row["everywhere_holm"]),
            "p, differs": _p(row["p_differs"]),
        }
        for row in effects.pooled.to_dict("records")
    ]
    return pd.DataFrame(rows)


def difference(effects: Effects) -> str:
    """Return what a difference is, in words."""
    unit = {
        "points": "in percentage points", "%": "in % of the baseline's mean", "": "in its own unit",
    }[effects.metric.unit]  # fmt: skip
    return f"the difference from {effects.baseline}, {unit}, paired by seed"


def judged(effects: Effects) -> bool:
    """Whether there are several seeds to compare by."""
    return not effects.table.empty and len(effects.seeds) > 1


def unjudged(effects: Effects) -> str:
    """Say why nothing can be said."""
    if effects.table.empty:
        return f"No two levels of {effects.factor} have runs that differ in nothing else."
    if not effects.seeds:
        return "No run of this comparison is finished."
    return (
        f"One seed ({effects.seeds[0]}): no difference between levels of {effects.factor} can be told from "
        f"seed-to-seed noise; at least {LEAST} seeds are needed."
    )


def sentences(effects: Effects) -> list[str]:
    """Return what must stand beside a table of effects: what is tested, the rule of its verdict, and its power."""
    if not judged(effects):
        return [unjudged(effects)]
    words = set(effects.table["exceeds"])
    unit = {"points": " points", "%": " %", "": ""}[effects.metric.unit]
    seeds = ", ".join(map(str, effects.seeds))
    said = [
        f"Seeds {seeds}: the same seed is the same split of the data. Difference: mean ± s.d. over seeds; its "
        "interval is Student's, of this one difference, without correction.",
        f"Exceeds noise: yes where the two-sided paired t test has p < {ALPHA} after Holm's correction over the "
        f"tested effects of this factor ({effects.tests}). Within noise means not shown, not equal.",
        "n: seeds. d_z: mean over s.d. of the differences, with Hedges' correction for few seeds.",
    ]
    if effects.detectable == effects.detectable:
        corrected = (
            f", and with the correction at its strictest {three_digits(effects.detectable_corrected)}{unit}"
            if effects.tests > 1
            else ""
        )
        said.append(
            f"Power: with {effects.n} seeds and differences that scatter by {three_digits(effects.sd)}{unit} (pooled "
            f"s.d.), a test by itself would show a true difference of {three_digits(effects.detectable)}{unit} in 80 % "
            f"of cases{corrected}; smaller ones are likely to be missed."
        )
    if SAME in words:
        said.append("Not applicable: both sides are one and the same run, or have no such quantity.")
    if FEW in words:
        said.append(f"Too few seeds: fewer than {LEAST} that both sides have.")
    if NONE in words:
        said.append("Not finished: run the suite again to complete it.")
    if "no spread" in words:
        said.append("No spread: the difference is the same for every seed, so that there is nothing to judge it by.")
    if effects.table["shared"].any():
        said.append(
            f"{SHARED} one side is the same runs in several rows (a conventional network gets the data themselves at "
            "T = 1 whatever the encoder), so that these rows do not confirm each other."
        )
    return said


def pooled_sentences(effects: Effects) -> list[str]:
    """Return what the table over all that is held fixed tests."""
    blocks = held(effects)
    return [
        f"Over {blocks} as blocks. Mean: every block has the same weight, and is tested against the scatter of the "
        "pairs within blocks (t test; pairs of different blocks are taken as independent), Holm over the levels; its "
        "interval is without correction.",
        "In every one: yes where all blocks have one sign and the largest of their p, Holm over the levels, is below "
        f"{ALPHA} (intersection-union test).",
        "p, differs: that the difference is the same in all blocks (analysis of variance of the differences).",
    ]


def held(effects: Effects) -> str:
    """Return what the blocks of the pooled table are."""
    return "models" if effects.held == ["model"] else "settings"


def _signed(value: float) -> str:
    if math.isnan(value):
        return MISSING
    text = f"{value:+.2f}" if abs(value) < 100 else f"{value:+,.0f}"
    text = "0.00" if text in ("+0.00", "-0.00") else text
    return text.replace("-", MINUS)


def _spread(mean: float, sd: float) -> str:
    return _signed(mean) if math.isnan(sd) else f"{_signed(mean)} ± {sd:.2f}"


def _interval(low: float, high: float) -> str:
    return MISSING if math.isnan(low) else f"{_signed(low)} to {_signed(high)}"


def _p(p: float) -> str:
    return MISSING if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def _amount(mean: float, sd: float, metric: Metric) -> str:
    if math.isnan(mean):
        return MISSING
    if metric.unit == "points":
        return f"{100 * mean:.2f}" + ("" if math.isnan(sd) else f" ± {100 * sd:.2f}") + " %"
    return format_energy(mean) if metric.column.startswith("energy_pJ.") else format_count(mean)
