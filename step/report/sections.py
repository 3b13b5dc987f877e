"""The sections of the page: which figures stand where, and the sentences beneath them."""

from __future__ import annotations

import math
from collections.abc import Callable

from step.report import (
    continual,
    effects,
    energy_sections,
    figures,
    inspection,
    pieces,
    places,
    plots,
    published,
    samples,
)
from step.report.aggregate import seeds_sentence, totals
from step.report.data import ReportData, Trace
from step.report.html import Markup, element, join, table
from step.report.pieces import Plates, Section
from step.report.style import Look, looks, looks_of, words
from step.report.tables import format_cell, is_numeric
from step.report.units import MINUS, EnergyUnit, energy_unit


class Sheet(Plates):
    """The data with what all sections share: looks, totals, the unit of energy, and the figures placed so far."""

    def __init__(self, data: ReportData) -> None:
        super().__init__()
        self.data = data
        self.looks = looks(data)
        self.spiking = [look for look in self.looks if look.spiking]
        self.twins = [look for look in self.looks if look.kind == "twin"]
        self.judged = self._with_derived()
        self.seeds = seeds_sentence(data.runs)
        self.unit = EnergyUnit("pJ", 1.0)
        self.models: list[str] = []
        if len(data.energy):
            self.total = totals(data.energy)
            self.unit = energy_unit(self.total["pJ"])
            self.models = list(dict.fromkeys(data.energy["model"]))

    def _with_derived(self) -> list[Look]:
        """Return the looks with those of twins that have no run: a verdict derives them where none was trained."""
        twins = [look.name for look in self.twins]
        derived = (twin for judged in self.data.verdicts for twin in judged.verdict.twins)
        return looks_of([look.name for look in self.spiking], dict.fromkeys([*twins, *derived]))


def sections(sheet: Sheet) -> list[Section]:
    """Return all sections, in the order of the page."""
    judged, shown, tasks, seen = sheet.data.verdicts, sheet.judged, sheet.data.continual, sheet.data.places
    makers: tuple[tuple[str, str, Callable[[], Markup]], ...] = (
        ("results", "Results", lambda: _results(sheet)),
        *(
            (("continual", "Continual learning", lambda: continual.section(sheet, tasks, sheet.looks)),)
            if tasks is not None
            else ()
        ),
        *(
            (
                (
                    "places",
                    "Place recognition",
                    lambda: places.section(sheet, seen, sheet.looks, sheet.data.summary, sheet.data.sights),
                ),
            )
            if seen is not None
            else ()
        ),
        *(
            (("plots", "Plots", lambda: plots.section(sheet, sheet.data.plots, sheet.data.metric)),)
            if sheet.data.plots
            else ()
        ),
        *((("effects", "Effects", lambda: effects.section(sheet, sheet.data.effects)),) if sheet.data.effects else ()),
        *(
            (("published", published.HEADING, lambda: published.section(sheet.data.published)),)
            if sheet.data.published
            else ()
        ),
        ("accuracy-energy", "Accuracy against energy", lambda: _accuracy_energy(sheet)),
        ("ratios", "Spiking against twin", lambda: energy_sections.ratios(sheet, judged, shown)),
        ("energy-parts", "Energy by part", lambda: energy_sections.parts(sheet, judged, shown)),
        ("energy-layers", "Energy by layer", lambda: energy_sections.layers(sheet, judged)),
        ("break-even", "Break-even", lambda: energy_sections.break_even(sheet, judged)),
        ("synapses", "Spikes per synapse", lambda: energy_sections.synapses(sheet, judged)),
        ("firing-rates", "Firing rates", lambda: _firing_rates(sheet)),
        *inspection.suite_sections(sheet, sheet.data.inspections),
        ("samples", "Samples", lambda: _samples(sheet)),
        ("learning-curves", "Learning curves", lambda: _curves(sheet)),
        ("energy-models", "Energy models", lambda: energy_sections.models(judged)),
        ("setting", "Setting", lambda: _setting(sheet)),
        ("runs", "Runs", lambda: _runs(sheet)),
    )
    return [Section(anchor, title, make()) for anchor, title, make in makers]


def _results(sheet: Sheet) -> Markup:
    summary = sheet.data.summary
    if not len(summary):
        return pieces.missing("There is no summary, because no run of this suite has finished.")
    columns = [str(column) for column in summary.columns]
    named = next((place for place, column in enumerate(columns) if column.lower() == "network"), 0)
    known = {look.name: look for look in sheet.looks}
    networks = [format_cell(summary.iat[row, named]) for row in range(len(summary))]
    heads = [
        pieces.name(known[network]) if network in known else Markup(element("span", network)) for network in networks
    ]
    others = [place for place in range(len(columns)) if place != named]
    if len(summary) <= 6:
        # few networks stand side by side, a measure to a line, so that the eye compares along the line
        rows = [
            [_measure(columns[p]), *(format_cell(summary.iat[row, p]) for row in range(len(summary)))] for p in others
        ]
        shown = table(["", *heads], rows, [False] + [True] * len(summary), "headline")
    else:
        rows = [[heads[row], *(format_cell(summary.iat[row, p]) for p in others)] for row in range(len(summary))]
        shown = table(
            [words(columns[p]) for p in (named, *others)], rows,
            [False, *(is_numeric(summary.iloc[:, p]) for p in others)], "headline",
        )  # fmt: skip
    note = element("p", sheet.seeds, " Energies are estimates by published models, not measurements.", class_="facts")
    return join(shown, note, _findings(sheet))


def _findings(sheet: Sheet) -> Markup:
    """Say in one sentence for each pair what a spiking network gains or loses against its twin."""
    if not sheet.data.verdicts:
        return Markup("")
    accuracy = sheet.data.runs.groupby("network")["accuracy"].mean()
    lines = []
    for judged in sheet.data.verdicts:
        verdict = judged.verdict
        for twin in verdict.twins:
            points = 100 * (accuracy.get(verdict.network, math.nan) - accuracy.get(twin, math.nan))
            how = (
                f"{points:+.1f} points of {sheet.data.metric.removeprefix('test ')}; ".replace("-", MINUS)
                if points == points
                else ""
            )
            lines.append(element("li", element("b", verdict.network), f": {how}{verdict.summary(twin)}."))
    return element("ul", lines, class_="findings") if lines else Markup("")


def _accuracy_energy(sheet: Sheet) -> Markup:
    runs = sheet.data.runs
    if not sheet.models or not runs["accuracy"].notna().any():
        return pieces.missing("No run has both an accuracy and an energy, so the two cannot be plotted.")
    panels = []
    for model in sheet.models:
        total = sheet.total[sheet.total["model"] == model]
        if not total["pJ"].notna().any():
            panels.append(element("div", element("h3", model), pieces.missing("Not applicable to these networks.")))
            continue
        figure = figures.accuracy_against_energy(runs, total, sheet.looks, sheet.unit, sheet.data.metric)
        panels.append(pieces.panel(model, sheet.place(figure, f"Accuracy against energy under {model}")))
    return pieces.figure(
        pieces.key(sheet.looks), pieces.panels(panels),
        sheet.caption(
            f"{_capital(sheet.data.metric)} against energy per inference (one sample, all time steps), in "
            f"{sheet.unit.name}; "
            "one panel for each energy model. Up and to the left is better.",
            sheet.seeds, "Light points are single seeds." if _many_seeds(sheet) else "",
            "Absolute energies of different models do not compare. What each leaves out stands under Energy models.",
        ),
    )  # fmt: skip


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]


def _firing_rates(sheet: Sheet) -> Markup:
    names = {look.name for look in sheet.spiking}
    layers = sheet.data.layers
    layers = layers[layers["network"].isin(names)].dropna(subset=["rate"]) if len(layers) else layers
    if not len(layers):
        return pieces.missing("No firing rates were recorded for these networks.")
    shown = [look for look in sheet.spiking if look.name in set(layers["network"])]
    figure = figures.firing_rates(layers, shown)
    by_layer = pieces.figure(
        pieces.key(shown), sheet.place(figure, "Firing rate by layer"),
        sheet.caption(
            "Firing rate of every spiking layer: the share of its outputs, over units, time steps and test samples, "
            "that is not zero. Layers from input (top) to output.",
            sheet.seeds, "Light points are single seeds." if _many_seeds(sheet) else "",
            "Twins have no firing rate and are not shown.",
        ),
    )  # fmt: skip
    # rates over time have a section of their own where a run was inspected
    others = [each for each in sheet.data.verdicts if each.verdict.network not in sheet.data.inspections]
    return join(by_layer, energy_sections.firing(sheet, others))


def _samples(sheet: Sheet) -> Markup:
    if not sheet.data.traces:
        return pieces.missing("No sample was traced, so there is no raster and no membrane potential to show.")
    known = {look.name: look for look in sheet.looks}
    shown = [_sample(sheet, trace, known[trace.network]) for trace in sheet.data.traces]
    return join(shown)


def _sample(sheet: Sheet, trace: Trace, look: Look) -> Markup:
    about = f"{trace.network}, {trace.layer}"
    raster, left_out = samples.raster(trace, look)
    steps, units = trace.spikes.shape
    rate = float((trace.spikes != 0).mean())
    right = trace.label == trace.predicted
    said = f": class {trace.label}, predicted {trace.predicted}" + ("" if right else " ✗")
    facts = f"Test sample {trace.sample}{said if trace.label is not None else ''}."
    picture = element("img", src=samples.image_uri(trace.image), alt=f"Input image of test sample {trace.sample}")
    cells = [
        element("div", element("h3", "Input"), picture, element("p", facts, class_="facts")),
        pieces.panel("Raster", sheet.place(raster, f"Raster of {about}")),
    ]
    sentences = ["Left, the input image. Middle, the raster: a filled cell is a spike."]
    if trace.potential is not None:
        cells.append(
            pieces.panel("Membrane potential", sheet.place(samples.potentials(trace, look), f"Potential of {about}"))
        )
        line = f"; the dashed line is the threshold, {trace.threshold:g}" if trace.threshold is not None else ""
        sentences.append(
            f"Right, the membrane potential before the reset of some of the units, chosen from the most to the least "
            f"active of those that fire; filled points are spikes{line}."
        )
    else:
        sentences = ["Left, the input image. Right, the raster: a filled cell is a spike.",
                     "No membrane potential was recorded for this layer."]  # fmt: skip
    if left_out:
        sentences.append(f"Shown: {left_out}.")
    which = (
        f"{units:,} units"
        if trace.neurons in (None, units)
        else f"the {units:,} most active of {trace.neurons:,} units"
    )
    size = f"{which} over {steps:,} time steps, {100 * rate:.1f} % of these outputs not zero."
    return pieces.figure(
        element("div", cells, class_="sample" if trace.potential is not None else "sample plain"),
        sheet.caption(
            join(element("b", trace.network), ", layer ", element("code", trace.layer), ": ", size), *sentences
        ),
    )  # fmt: skip


def _curves(sheet: Sheet) -> Markup:
    curves = sheet.data.curves
    curves = curves.dropna(subset=["value"]) if len(curves) else curves
    if not len(curves):
        return pieces.missing("No learning curves were recorded.")
    shown = [look for look in sheet.looks if look.name in set(curves["network"])]
    panels = []
    for name in dict.fromkeys(curves["name"]):
        figure = figures.learning_curve(curves[curves["name"] == name], str(name), shown)
        panels.append(element("div", sheet.place(figure, f"{words(str(name))} over epochs")))
    band = "Bands are ± one s.d. over the seeds that reached the epoch." if _many_seeds(sheet) else ""
    return pieces.figure(
        pieces.key(shown), pieces.panels(panels),
        sheet.caption(
            "Learning curves: the mean over seeds after every epoch; twins are dashed or dotted.", band, sheet.seeds
        ),
    )  # fmt: skip


def _setting(sheet: Sheet) -> Markup:
    if not sheet.data.description:
        return pieces.missing("The setting of this suite was not recorded.")
    return pieces.description(sheet.data.description)


def _runs(sheet: Sheet) -> Markup:
    if not len(sheet.data.runs):
        return pieces.missing("No run has finished.")
    count = len(sheet.data.runs)
    title = f"All {count} runs" if count > 1 else "The run"
    return element(
        "details", element("summary", title), pieces.frame(sheet.data.runs, ""), open="" if count <= 24 else None
    )


def _measure(name: str) -> Markup:
    # a name that begins with blanks belongs under the one above it
    return element("span", words(name.strip()), class_="indent" if name.startswith(" ") else None)


def _many_seeds(sheet: Sheet) -> bool:
    return bool((sheet.data.runs.groupby("network")["seed"].nunique() > 1).any())
