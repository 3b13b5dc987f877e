"""Continual learning: what was kept of every task, at which cost; tables, sentences and the section of the page."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pandas as pd

from step.continual import METRICS, ContinualResults
from step.report import pieces
from step.report.continual_figures import accuracy_matrix, over_tasks, ranks
from step.report.html import Markup, element, join
from step.report.units import MINUS, MISSING, format_count, format_energy, format_ratio

if TYPE_CHECKING:
    from step.report.pieces import Plates
    from step.report.style import Look

_NAMES = {
    "test_accuracy": "ACC, %",
    "bwt": "BWT, points",
    "forgetting": "forgetting, points",
    "learning_accuracy": "learning accuracy, %",
    "forward_transfer": "forward transfer, points",
    "intransigence": "intransigence, points",
}
_SIGNED = ("bwt", "forward_transfer", "intransigence")
assert tuple(_NAMES) == METRICS


MOST = 8
"""Warnings about single layers that are shown."""


def section(plates: Plates, found: ContinualResults, looks: list[Look]) -> Markup:
    """Return the section: measures, accuracy matrices, accuracy over tasks, dimensions taken, and costs."""
    shown = [look for look in looks if look.name in set(found.metrics["network"])]
    return join(
        pieces.frame(table(found), "small"),
        pieces.facts(*sentences(found)),
        _over_time(plates, found, shown),
        _matrices(plates, found, shown),
        _ranks(plates, found, shown),
        element("h3", "Costs"),
        pieces.frame(costs(found), "small"),
        pieces.facts(*cost_sentences(found)),
    )


def table(found: ContinualResults) -> pd.DataFrame:
    """Return the measures of every network as texts, mean ± s.d. over seeds; those that no run has are left out."""
    known = [name for name in METRICS if found.metrics[name].notna().any()]
    rows = []
    for network, runs in found.metrics.groupby("network", sort=False):
        rows.append({"network": network, **{_NAMES[name]: _percent(runs[name], name in _SIGNED) for name in known}})
    return pd.DataFrame(rows)


def costs(found: ContinualResults) -> pd.DataFrame:
    """Return what inference and training cost, means over seeds and tasks: one row for each network.

    Training is that of one step of the last task, when most dimensions are taken.
    """
    rows = []
    for network, tasks in found.tasks.groupby("network", sort=False):
        row: dict[str, Any] = {
            "network": network,
            "spikes / inference": format_count(float(tasks["spikes_final"].mean())),
            "when learned": format_count(float(tasks["spikes_learned"].mean())),
            "energy / inference": format_energy(float(tasks["energy_pJ_final"].mean())),
        }
        if len(found.training):
            row |= _training(found.training[found.training["network"] == network])
        rows.append(row)
    return pd.DataFrame(rows)


def _training(steps: pd.DataFrame) -> dict[str, str]:
    last = steps[steps["task"] == steps["task"].max()]
    counts = ["product_macs", "projection_macs", "subspace_macs", "lateral_words", "weights"]
    prices = ["product_pJ", "projection_pJ", "subspace_pJ"]
    mean = last.groupby("run")[counts + prices].sum().mean()
    extra = mean["projection_macs"] + mean["subspace_macs"]
    return {
        "training step, MACs": format_count(mean["product_macs"]),
        "+ projection": format_count(mean["projection_macs"]),
        "+ subspace": format_count(mean["subspace_macs"]),
        "extra": format_ratio(extra / mean["product_macs"]) if mean["product_macs"] else MISSING,
        "energy / step": format_energy(float(mean[prices].sum())),
        "lateral / weights": format_ratio(mean["lateral_words"] / mean["weights"]) if mean["weights"] else MISSING,
    }


def sentences(found: ContinualResults) -> list[str]:
    """Return what must stand beside the table of measures."""
    said = [
        "ACC: mean accuracy of all tasks after the last one. BWT (backward transfer): what the tasks before the last "
        "gained since they were learned. Forgetting: what is missing to their best. Learning accuracy: mean of each "
        "task just after it. Forward transfer: accuracy of a task just before it is learned, less that of the "
        "untrained network."
    ]
    if found.metrics["intransigence"].notna().any():
        said.append(
            "Intransigence: how much less of each task was learned than by the same network that learned all at once."
        )
    return said + warnings(found)


def warnings(found: ContinualResults) -> list[str]:
    """Return what the protection of layers warned of by the last task, a sentence for each layer; at most eight."""
    if "warnings" not in found.ranks:
        return []
    last = found.ranks[found.ranks.groupby("run")["task"].transform("max") == found.ranks["task"]]
    told = last[last["warnings"].fillna("").ne("")]
    said = list(dict.fromkeys(f"{r['network']}, {r['layer']}: {r['warnings']}." for _, r in told.iterrows()))
    return said if len(said) <= MOST else [*said[: MOST - 1], f"{len(said) - MOST + 1} more such warnings."]


def cost_sentences(found: ContinualResults) -> list[str]:
    """Return what must stand beside the table of costs."""
    said = [
        "Inference: mean over samples of all tasks, after the last one (when learned: of each just after it), energy "
        "by op-count at 45 nm. Methods that act on gradients leave the network as it is, so that what differs here is "
        "how much its neurons spike."
    ]
    if len(found.training):
        said.append(
            "Training: multiply-accumulates of one step of the last task, all dense and on real numbers: products "
            "forward and backward, projection of gradients, learning of the subspace (by lateral connections, for "
            "example); extra: the last two over the first. What a method does when a task is over, and samples that it "
            "replays, are not counted. Lateral / weights: values that the lateral connections hold for each weight of "
            "the layers that they protect."
        )
    return said


def _over_time(plates: Plates, found: ContinualResults, looks: list[Look]) -> Markup:
    after = found.matrix[found.matrix["learned"] > 0]
    first = after[after["task"] == 1]
    seen = after[after["task"] <= after["learned"]]
    mean = seen.groupby(["network", "seed", "learned"], sort=False)["accuracy"].mean().reset_index()
    many = found.metrics.groupby("network")["seed"].nunique().max() > 1
    return pieces.figure(
        pieces.key(looks),
        pieces.panels([
            pieces.panel("Task 1", plates.place(over_tasks(first, "Accuracy of task 1", looks), "Accuracy of task 1")),
            pieces.panel(
                "All tasks so far", plates.place(over_tasks(mean, "Mean accuracy", looks), "Mean accuracy so far")
            ),
        ]),
        plates.caption(
            "Accuracy on test samples of the first task, and mean over all tasks learned so far, after each task.",
            "Mean over seeds; bars are one s.d." if many else "One seed.",
        ),
    )  # fmt: skip


def _matrices(plates: Plates, found: ContinualResults, looks: list[Look]) -> Markup:
    panels = [
        pieces.panel(look.name, plates.place(accuracy_matrix(matrix), f"Accuracy of every task, {look.name}"))
        for look, matrix in _first_runs(found.matrix, looks)
    ]
    return pieces.figure(
        pieces.panels(panels),
        plates.caption(
            "Accuracy (%) of every task after every task, of the run with the lowest seed. On the diagonal a task has "
            "just been learned; left of it is what was kept, right of it what a task to come already profits from."
        ),
    )


def _ranks(plates: Plates, found: ContinualResults, looks: list[Look]) -> Markup:
    if not len(found.ranks):
        return Markup("")
    panels = [
        pieces.panel(look.name, plates.place(ranks(of_run), f"Dimensions taken, {look.name}"))
        for look, of_run in _first_runs(found.ranks, looks)
    ]
    return pieces.figure(
        pieces.panels(panels),
        plates.caption(
            "Dimensions of the input of each protected layer that the tasks have taken, of all there are (with hard "
            "attention: neurons of the layer): weights no longer change in them. A piece for each task, the first one "
            "darkest. Of the run with the lowest seed."
        ),
    )


def _first_runs(frame: pd.DataFrame, looks: list[Look]) -> Iterable[tuple[Look, pd.DataFrame]]:
    """Yield the rows of each network's run with the lowest seed."""
    for look in looks:
        own = frame[frame["network"] == look.name]
        if len(own):
            yield look, own[own["seed"] == own["seed"].min()]


def _percent(values: pd.Series, signed: bool) -> str:
    known = 100 * values.dropna()
    if known.empty:
        return MISSING
    mean = f"{known.mean():+.2f}" if signed else f"{known.mean():.2f}"
    spread = known.std(ddof=1)
    return mean.replace("-", MINUS) + ("" if math.isnan(spread) else f" ± {spread:.2f}")
