"""The sections on energy: who is cheaper under every model, what the answer rests on, and where it turns round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from energy.models import PARTS
from step.report import energy_figures as figures
from step.report import pieces, verdict_table
from step.report.data import Judged
from step.report.html import Markup, element, join
from step.report.pieces import Plates, Section
from step.report.style import Look, part_colours
from step.report.units import energy_unit

if TYPE_CHECKING:
    import pandas as pd

    from energy import Verdict
    from energy.measured import Measured

ESTIMATED = "Energies are estimates by published models, not measurements."
_NO_VERDICT = "No spiking network here has been judged against a twin."
_SIGNS = (
    f"{verdict_table.RECONSTRUCTED} equations put together from descriptions, not the paper's own; "
    f"{verdict_table.UNCONFIRMED} rests on a constant that was not found in its source itself."
)


def verdict_sections(plates: Plates, judged: Judged, looks: Sequence[Look], measured: Measured | None) -> list[Section]:
    """Return the sections of a page about one network."""
    found = [
        Section("ratios", "Spiking against twin", join(_lead(judged), ratios(plates, [judged], looks))),
        Section("energy-parts", "Energy by part", parts(plates, [judged], looks)),
        Section("energy-layers", "Energy by layer", layers(plates, [judged])),
        Section("break-even", "Break-even", break_even(plates, [judged])),
        Section("synapses", "Spikes per synapse", synapses(plates, [judged])),
    ]
    over_time = firing(plates, [judged])
    if over_time:
        found.append(Section("firing", "Firing over time", over_time))
    if measured is not None:
        found.append(Section("measured", "Measured: this computer, simulating", _measured(measured)))
    found.append(Section("energy-models", "Energy models", models([judged])))
    return found


def _lead(judged: Judged) -> Markup:
    verdict = judged.verdict
    lines = [element("li", element("b", verdict.network), f": {verdict.summary(twin)}.") for twin in verdict.twins]
    return element("ul", lines, class_="findings") if lines else Markup("")


def ratios(plates: Plates, judged: Sequence[Judged], looks: Sequence[Look]) -> Markup:
    """Return for every spiking network its ratio to each twin, as figures and as tables."""
    shown = [
        _ratios_of(plates, each, looks, unfold=not place) for place, each in enumerate(judged) if each.verdict.twins
    ]
    return join(shown) if shown else pieces.missing(_NO_VERDICT)


def _ratios_of(plates: Plates, judged: Judged, looks: Sequence[Look], unfold: bool) -> Markup:
    verdict, names = judged.verdict, _names(judged.verdict)
    known = {look.name: look for look in looks}
    network = known[verdict.network]
    panels, tables, outside = [], [], []
    for twin in verdict.twins:
        rows = verdict.table[verdict.table["twin"] == twin]
        drawn = set(figures.drawable(rows)["label"])
        outside += [names[label] for label in rows["label"] if label not in drawn]
        title = f"{verdict.network} against {twin}"
        if drawn:
            figure = figures.ratios(rows, names, network, known[twin])
            panels.append(pieces.panel(title, plates.place(figure, f"Energy of {title}, the ratio under every model")))
            table = pieces.frame(verdict_table.sensitivities(verdict, twin), "small")
            tables.append(_folded(f"What the ratio of {title} rests on", table, unfold))
    if not panels:
        return pieces.missing(f"No energy model applies to {verdict.network} and its twins.")
    left_out = f"Not applicable, or without a finite ratio: {_listed(outside)}." if outside else ""
    other = verdict.table.loc[verdict.table["unit"] != "pJ", ["label", "unit"]].drop_duplicates()
    units = ", ".join(f"{names[row['label']]} ({row['unit']})" for row in other.to_dict("records"))
    caption = plates.caption(
        "Energy of the spiking network divided by that of its twin, under every model, on a logarithmic axis: left of "
        "the line at 1 the spiking network is cheaper. The mark is that of the cheaper one, grey within 5 % of 1.",
        "Band: the ratio with all memory at 0.5 and 1.5 times its price. Line with ends: at 0.5 and 1.5 times the "
        "measured firing rates (at the ratio itself where neurons cannot fire that often). Cross: with weights "
        "reused as far as a dataflow can.",
        _SIGNS, f"Ratios of counts, not of energies: {units}." if units else "", left_out, ESTIMATED, judged.basis,
    )  # fmt: skip
    shown = pieces.figure(
        pieces.key([network, *(known[twin] for twin in verdict.twins)]), pieces.panels(panels), caption
    )
    amounts = pieces.frame(verdict_table.energies(verdict), "small")
    energies = _folded(f"Energy per inference of {verdict.network} and its twins, and who is cheaper", amounts, unfold)
    note = pieces.facts(
        "Even at rate: spikes per input and time step at which both cost the same (never: dearer without any spike; "
        "always: cheaper as far as rates can grow). Turned round by: the constant, or the firing rate, whose smallest "
        "change makes the other one cheaper, and that change. > before an energy: some layer has no price and is "
        "missing in the total."
    )
    return join(shown, energies, tables, note)


def parts(plates: Plates, judged: Sequence[Judged], looks: Sequence[Look]) -> Markup:
    """Return what the energy of the first network and its twins goes into, a panel for each model."""
    if not judged:
        return pieces.missing(_NO_VERDICT)
    verdict, names = judged[0].verdict, _names(judged[0].verdict)
    in_pJ = verdict.parts[verdict.parts["unit"] == "pJ"]
    if in_pJ.empty:
        return pieces.missing("No model prices these networks in units of energy.")
    order = [part for part in PARTS if part in set(in_pJ["part"])]
    colours = part_colours(order)
    known = {look.name: look for look in looks}
    panels = []
    for label, found in in_pJ.groupby("label", sort=False):
        have = set(found["network"])
        shown = [known[each] for each in (verdict.network, *verdict.twins) if each in have]
        unit = energy_unit(found.groupby("network")["pJ"].sum())
        figure = figures.energy_by_part(found, shown, colours, unit)
        name = names[str(label)]
        panels.append(pieces.panel(name, plates.place(figure, f"Energy by part under {name}")))
    without = [names[label] for label in verdict.notes["label"] if label not in set(in_pJ["label"])]
    caption = plates.caption(
        "Energy per inference (one sample, all time steps) by part, one panel for each model, each in its own unit; "
        "twins are hatched. Absolute energies of different models do not compare.",
        "A part that is absent is zero, or the model does not know it.",
        f"Without a price in units of energy: {_listed(without)}." if without else "",
        _only_first(judged), ESTIMATED, judged[0].basis,
    )  # fmt: skip
    return pieces.figure(pieces.swatches(colours), pieces.panels(panels), caption)


def layers(plates: Plates, judged: Sequence[Judged]) -> Markup:
    """Return the share of every layer of the first network in its total, under every model."""
    if not judged:
        return pieces.missing(_NO_VERDICT)
    verdict = judged[0].verdict
    own = verdict.layers[verdict.layers["network"] == verdict.network]
    if own["pJ"].notna().sum() == 0:
        return pieces.missing(f"No model prices the layers of {verdict.network}.")
    figure = figures.layer_shares(own, _names(verdict))
    caption = plates.caption(
        f"Share of each layer of {verdict.network} in its total, in per cent of the column: layers from input (top) "
        "to output, a column for each model. An empty cell has no price under that model.",
        _only_first(judged), ESTIMATED, judged[0].basis,
    )  # fmt: skip
    about = f"Heat map of the share of every layer of {verdict.network} in its energy under every model"
    return pieces.figure(plates.place(figure, about), caption)


def break_even(plates: Plates, judged: Sequence[Judged]) -> Markup:
    """Return how the ratio of the first network to each twin moves with its firing rate."""
    if not judged:
        return pieces.missing(_NO_VERDICT)
    verdict, names = judged[0].verdict, _names(judged[0].verdict)
    # only models that have a curve take a stroke, so that few need to share one
    names = {label: names[label] for label in dict.fromkeys(verdict.curves["label"])}
    panels = []
    for twin in verdict.twins:
        of_twin = verdict.curves[verdict.curves["twin"] == twin]
        if len(of_twin):
            about = f"Energy of {verdict.network} over {twin} against the firing rate, under every model"
            panels.append(
                pieces.panel(f"Against {twin}", plates.place(figures.break_even(of_twin, names), about))
            )  # fmt: skip
    if not panels:
        return pieces.missing(f"{verdict.network} has no twin, or meets no spikes, so that there is no break-even.")
    caption = plates.caption(
        f"Energy of {verdict.network} divided by that of the twin if all its firing rates were another, on "
        "logarithmic axes; a line for each model. Below the line at 1 the spiking network is cheaper. Points and the "
        "dotted line: the network as it was measured. The rate is that of all connections, so that a layer weighs by "
        "its operations; a curve ends where the busiest layer would fire at every step.",
        _SIGNS, _only_first(judged), ESTIMATED, judged[0].basis,
    )  # fmt: skip
    return join(pieces.figure(*panels, caption))


def synapses(plates: Plates, judged: Sequence[Judged]) -> Markup:
    """Return spikes per synapse of every layer of the first network, on one axis with published limits."""
    if not judged or not (judged[0].verdict.synapses["spikes_per_synapse"] > 0).any():
        return pieces.missing("No layer meets spikes, so that there are no spikes per synapse.")
    verdict = judged[0].verdict
    limits = judged[0].thresholds
    figure = figures.spikes_per_synapse(verdict.synapses, limits)
    silent = verdict.synapses.loc[verdict.synapses["spikes_per_synapse"] == 0, "layer"]
    caption = plates.caption(
        f"Spikes per synapse and inference: every layer of {verdict.network} that meets spikes, and the network as a "
        "whole (diamond). Synaptic events over connections, where a connection is a multiply-accumulate of one time "
        "step, not a weight.",
        _about_limits(limits),
        f"Without a spike: {_listed(list(silent))}." if len(silent) else "",
        _only_first(judged), judged[0].basis,
    )  # fmt: skip
    about = f"Spikes per synapse of every layer of {verdict.network}, with published limits"
    return pieces.figure(plates.place(figure, about), caption)


def _about_limits(limits: pd.DataFrame | None) -> str:
    if limits is None or limits.empty:
        return ""
    said = (
        "Above, published limits: a spiking network may be cheaper below them; within a band that depends on its rival."
    )
    sources = "; ".join(f"{row.name}: {row.source}" for row in limits.itertuples(index=False))
    weak = "" if limits["confirmed"].all() else f" {verdict_table.UNCONFIRMED} not found in the source itself."
    return f"{said} {sources}.{weak}"


def firing(plates: Plates, judged: Sequence[Judged]) -> Markup:
    """Return firing at each time step of every network whose steps were counted one by one; nothing without any."""
    shown = []
    for each in judged:
        if each.steps is None or not len(each.steps) or each.steps["step"].nunique() < 2:
            continue
        name = each.verdict.network
        caption = plates.caption(
            f"Firing rate of every spiking layer of {name} at each time step: the share of its outputs, over units "
            "and samples, that is not zero.", each.basis,
        )  # fmt: skip
        place = plates.place(figures.firing_over_time(each.steps), f"Firing rate of the layers of {name} over time")
        shown.append(pieces.figure(place, caption))
    return join(shown)


def models(judged: Sequence[Judged]) -> Markup:
    """Return what every energy model is built on, what it leaves out, says besides, and warns of."""
    if not judged:
        return pieces.missing(_NO_VERDICT)
    import pandas as pd

    notes = judged[0].verdict.notes
    names = _names(judged[0].verdict)
    lead = element("p", "What each energy model is built on, and what it leaves out. Their verdicts are worth no more.")
    built = notes.groupby(["source", "confidence", "ignores"], sort=False)["label"].agg(list).reset_index()
    rows = [
        {"models": _listed([names[label] for label in row["label"]]), "equations": row["confidence"],
         "source": row["source"], "leaves out": row["ignores"]}
        for row in built.to_dict("records")
    ]  # fmt: skip
    table = pieces.frame(pd.DataFrame(rows), "notes")
    told = notes.to_dict("records")
    weak = [f"{names[row['label']]}: {row['unconfirmed']}" for row in told if row["unconfirmed"]]
    said = [f"{names[row['label']]}: {row['figures']}" for row in told if row["figures"]]
    warned: dict[str, list[str]] = {}
    for each in judged:
        for who, warning in verdict_table.warnings(each.verdict):
            where = f" ({each.verdict.network})" if len(judged) > 1 else ""
            warned.setdefault(warning, []).append(f"{who}{where}")
    lists = (
        ("Constants not found in their source itself", weak),
        ("What models say beside the price", said),
        ("Warnings", [f"{warning} – {_listed(who)}" for warning, who in warned.items()]),
    )
    return join(lead, table, pieces.facts(_SIGNS), [_list(title, lines) for title, lines in lists if lines])


def _list(title: str, lines: Sequence[str]) -> Markup:
    listed = element("ul", [element("li", line) for line in lines], class_="findings small")
    return _folded(f"{title} ({len(lines)})", listed, unfold=True)


def _folded(title: str, body: Markup, unfold: bool) -> Markup:
    return element("details", element("summary", title), body, open="" if unfold else None)


def _measured(found: Measured) -> Markup:
    table = pieces.frame(found.table(), "notes") if found.readings else Markup("")
    return join(table, [element("p", f"{note}.", class_="facts") for note in found.notes])


def _names(verdict: Verdict) -> dict[str, str]:
    return verdict_table.marks(verdict)


def _only_first(judged: Sequence[Judged]) -> str:
    others = [each.verdict.network for each in judged[1:]]
    return f"Shown for the first spiking network; not for {_listed(others)}." if others else ""


def _listed(names: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(names))
