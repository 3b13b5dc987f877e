"""The sections of the page: which figures stand where, and the sentences beneath them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from step.report import figures, samples
from step.report.aggregate import EVEN, over_seeds, plus_minus, ratios, seeds_sentence, totals
from step.report.data import ReportData, Trace
from step.report.html import Markup, element, join, table
from step.report.style import Figure, Look, looks, part_colours, words
from step.report.tables import format_cell, is_numeric
from step.report.units import MINUS, MISSING, EnergyUnit, energy_unit, format_ratio

if TYPE_CHECKING:
    import pandas as pd


class Section(NamedTuple):
    """A part of the page."""

    anchor: str
    title: str
    body: Markup


class Sheet:
    """The data with what all sections share: looks, totals, the unit of energy, and the figures placed so far."""

    def __init__(self, data: ReportData) -> None:
        self.data = data
        self.looks = looks(data)
        self.spiking = [look for look in self.looks if look.spiking]
        self.twins = [look for look in self.looks if not look.spiking]
        self.figures: dict[str, Figure] = {}
        self.captions = 0
        self.seeds = seeds_sentence(data.runs)
        self.unit = EnergyUnit("pJ", 1.0)
        self.models: list[str] = []
        if len(data.energy):
            self.total = totals(data.energy)
            self.unit = energy_unit(self.total["pJ"])
            self.models = list(dict.fromkeys(data.energy["model"]))
            self.ratios = ratios(self.total, [s.name for s in self.spiking], [t.name for t in self.twins])

    def place(self, figure: Figure, about: str) -> Markup:
        """Keep a figure for the page's script and return the element in which it will be drawn."""
        name = f"figure-{len(self.figures) + 1}"
        self.figures[name] = figure
        # the height is set beforehand, so that the page does not jump while the figures are drawn
        height = f"min-height:{figure['layout']['height']}px"
        return element("div", id=name, style=height, role="img", aria_label=about)

    def caption(self, *sentences: str | Markup) -> Markup:
        """Return the next numbered caption."""
        self.captions += 1
        spaced = [join(" ", sentence) for sentence in sentences if sentence]
        return element("figcaption", element("b", f"Figure {self.captions}."), spaced)


def sections(sheet: Sheet) -> list[Section]:
    """Return all sections, in the order of the page."""
    makers: tuple[tuple[str, str, Callable[[Sheet], Markup]], ...] = (
        ("results", "Results", _results),
        ("accuracy-energy", "Accuracy against energy", _accuracy_energy),
        ("energy-parts", "Energy by part", _energy_parts),
        ("ratios", "Spiking against twin", _ratios),
        ("firing-rates", "Firing rates", _firing_rates),
        ("samples", "Samples", _samples),
        ("learning-curves", "Learning curves", _curves),
        ("energy-models", "Energy models", _energy_models),
        ("setting", "Setting", _setting),
        ("runs", "Runs", _runs),
    )
    return [Section(anchor, title, make(sheet)) for anchor, title, make in makers]


def _results(sheet: Sheet) -> Markup:
    summary = sheet.data.summary
    if not len(summary):
        return _missing("There is no summary, because no run of this suite has finished.")
    columns = [str(column) for column in summary.columns]
    named = next((place for place, column in enumerate(columns) if column.lower() == "network"), 0)
    known = {look.name: look for look in sheet.looks}
    networks = [format_cell(summary.iat[row, named]) for row in range(len(summary))]
    heads = [_name(known[network]) if network in known else Markup(element("span", network)) for network in networks]
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
    if not sheet.models:
        return Markup("")
    accuracy = sheet.data.runs.groupby("network")["accuracy"].mean()
    lines = []
    for spiking in sheet.spiking:
        for twin in sheet.twins:
            pair = sheet.ratios[(sheet.ratios["network"] == spiking.name) & (sheet.ratios["twin"] == twin.name)]
            priced = pair[pair["ratio"].notna()]
            if priced.empty:
                continue
            points = 100 * (accuracy[spiking.name] - accuracy[twin.name])
            costs = zip(priced["ratio"], priced["model"], strict=True)
            each = ", ".join(f"{format_ratio(ratio)} ({model})" for ratio, model in costs)
            cheaper = int((priced["verdict"] == "cheaper").sum())
            how = f"{points:+.1f} points of accuracy; ".replace("-", MINUS) if points == points else ""
            lines.append(
                element(
                    "li", element("b", spiking.name), " against ", element("b", twin.name),
                    f": {how}energy {each}. Cheaper under {cheaper} of {len(priced)} energy models.",
                )
            )  # fmt: skip
    return element("ul", lines, class_="findings") if lines else Markup("")


def _accuracy_energy(sheet: Sheet) -> Markup:
    runs = sheet.data.runs
    if not sheet.models or not runs["accuracy"].notna().any():
        return _missing("No run has both an accuracy and an energy, so the two cannot be plotted.")
    panels = []
    for model in sheet.models:
        total = sheet.total[sheet.total["model"] == model]
        if not total["pJ"].notna().any():
            panels.append(element("div", element("h3", model), _missing("Not applicable to these networks.")))
            continue
        figure = figures.accuracy_against_energy(runs, total, sheet.looks, sheet.unit)
        panels.append(_panel(model, sheet.place(figure, f"Accuracy against energy under {model}")))
    return _figure(
        _key(sheet.looks), element("div", panels, class_="panels"),
        sheet.caption(
            f"Test accuracy against energy per inference (one sample, all time steps), in {sheet.unit.name}; "
            "one panel for each energy model. Up and to the left is better.",
            sheet.seeds, "Light points are single seeds." if _many_seeds(sheet) else "",
            "Absolute energies of different models do not compare.", _not_counted(sheet),
        ),
    )  # fmt: skip


def _energy_parts(sheet: Sheet) -> Markup:
    energy = sheet.data.energy
    if not sheet.models:
        return _missing("No energy model has priced these runs.")
    colours = part_colours(list(dict.fromkeys(energy.dropna(subset=["pJ"])["part"])))
    panels = []
    for model in sheet.models:
        of_model = energy[energy["model"] == model]
        priced = of_model.dropna(subset=["pJ"])
        if priced.empty:
            panels.append(element("div", element("h3", model), _missing("Not applicable to these networks.")))
            continue
        shown = [look for look in sheet.looks if look.name in set(priced["network"])]
        figure = figures.energy_by_part(of_model, shown, colours, sheet.unit)
        panels.append(
            _panel(model, sheet.place(figure, f"Energy by part under {model}"), _ratio_table(sheet, model, of_model))
        )
    entries = [
        element("li", element("span", class_="swatch", style=f"--hue:{hue}"), words(part))
        for part, hue in colours.items()
    ]
    return _figure(
        element("ul", entries, class_="key"), element("div", panels, class_="panels"),
        sheet.caption(
            f"Energy per inference by part, in {sheet.unit.name}, the mean over seeds; twins are hatched. Beneath: "
            "the total, and its ratio to the total of each twin.",
            sheet.seeds, "A part that is absent from a bar is zero or not applicable.", _not_counted(sheet),
        ),
    )  # fmt: skip


def _ratio_table(sheet: Sheet, model: str, of_model: pd.DataFrame) -> Markup:
    total = sheet.total[sheet.total["model"] == model]
    stats = over_seeds(total, ["network"], "pJ").set_index("network")
    of_pair = sheet.ratios[sheet.ratios["model"] == model].set_index(["network", "twin"])["ratio"]
    rows = []
    for look in sheet.looks:
        if look.name not in stats.index:
            amount = "not applicable"
        else:
            mean, sd = stats.loc[[look.name], ["mean", "sd"]].to_numpy(dtype=float)[0]
            amount = plus_minus(mean, sd, sheet.unit.pJ)
        against = [format_ratio(of_pair[(look.name, twin.name)]) if look.spiking else "" for twin in sheet.twins]
        rows.append([_name(look, tag=False), amount, *against])
    heads = ["", sheet.unit.name, *(f"÷ {twin.name}" for twin in sheet.twins)]
    missing = sheet.data.energy[(sheet.data.energy["model"] == model) & sheet.data.energy["pJ"].isna()]
    absent = []
    for part, rows_without in missing.groupby("part", sort=False):
        networks = list(dict.fromkeys(rows_without["network"]))
        whose = "" if len(networks) == len(sheet.looks) else f" ({', '.join(networks)})"
        absent.append(f"{words(str(part))}{whose}")
    note = element("p", f"No part of this model: {', '.join(absent)}.", class_="facts") if absent else Markup("")
    return join(table(heads, rows, [False] + [True] * (len(heads) - 1), "small"), note)


def _ratios(sheet: Sheet) -> Markup:
    if not sheet.models or not sheet.spiking or not sheet.twins or not sheet.ratios["ratio"].notna().any():
        return _missing("There is no pair of a spiking network and a twin that an energy model has priced.")
    panels = []
    for twin in sheet.twins:
        of_twin = sheet.ratios[sheet.ratios["twin"] == twin.name]
        if not of_twin["ratio"].notna().any():
            continue
        figure = figures.ratio_to_twin(of_twin, sheet.models, sheet.spiking)
        panels.append(_panel(f"Against {twin.name}", sheet.place(figure, f"Energy ratio to {twin.name}")))
    spread = sheet.seeds
    if (pairs := sheet.ratios["n"]).max() > 1:
        n = str(pairs.min()) if pairs.min() == pairs.max() else f"{pairs.min()} to {pairs.max()}"
        spread = f"Bars are the s.d. of the ratios of n = {n} pairs of runs with the same seed."
    return _figure(
        _key(sheet.spiking), element("div", panels, class_="panels"),
        sheet.caption(
            "Energy of the spiking network divided by that of its twin (mean over mean), on a logarithmic axis. "
            "Left of the line at 1 the spiking network is cheaper.",
            f"“Even” stands for a ratio within {100 * EVEN:.0f} % or one s.d. of 1.", spread,
            "The verdicts hold for what each model counts.", _not_counted(sheet),
        ),
    )  # fmt: skip


def _firing_rates(sheet: Sheet) -> Markup:
    names = {look.name for look in sheet.spiking}
    layers = sheet.data.layers
    layers = layers[layers["network"].isin(names)].dropna(subset=["rate"]) if len(layers) else layers
    if not len(layers):
        return _missing("No firing rates were recorded for these networks.")
    shown = [look for look in sheet.spiking if look.name in set(layers["network"])]
    figure = figures.firing_rates(layers, shown)
    return _figure(
        _key(shown), sheet.place(figure, "Firing rate by layer"),
        sheet.caption(
            "Firing rate of every spiking layer: the share of its outputs, over units, time steps and test samples, "
            "that is not zero. Layers from input (top) to output.",
            sheet.seeds, "Light points are single seeds." if _many_seeds(sheet) else "",
            "Twins have no firing rate and are not shown.",
        ),
    )  # fmt: skip


def _samples(sheet: Sheet) -> Markup:
    if not sheet.data.traces:
        return _missing("No sample was traced, so there is no raster and no membrane potential to show.")
    known = {look.name: look for look in sheet.looks}
    shown = [_sample(sheet, trace, known[trace.network]) for trace in sheet.data.traces]
    return join(shown)


def _sample(sheet: Sheet, trace: Trace, look: Look) -> Markup:
    about = f"{trace.network}, {trace.layer}"
    raster, left_out = samples.raster(trace, look)
    steps, units = trace.spikes.shape
    rate = float((trace.spikes != 0).mean())
    right = trace.label == trace.predicted
    facts = f"Test sample {trace.sample}: class {trace.label}, predicted {trace.predicted}" + ("." if right else " ✗.")
    picture = element("img", src=samples.image_uri(trace.image), alt=f"Input image of test sample {trace.sample}")
    cells = [
        element("div", element("h3", "Input"), picture, element("p", facts, class_="facts")),
        _panel("Raster", sheet.place(raster, f"Raster of {about}")),
    ]
    sentences = ["Left, the input image. Middle, the raster: a filled cell is a spike."]
    if trace.potential is not None:
        cells.append(
            _panel("Membrane potential", sheet.place(samples.potentials(trace, look), f"Potential of {about}"))
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
    return _figure(
        element("div", cells, class_="sample" if trace.potential is not None else "sample plain"),
        sheet.caption(
            join(element("b", trace.network), ", layer ", element("code", trace.layer), ": ", size), *sentences
        ),
    )  # fmt: skip


def _curves(sheet: Sheet) -> Markup:
    curves = sheet.data.curves
    curves = curves.dropna(subset=["value"]) if len(curves) else curves
    if not len(curves):
        return _missing("No learning curves were recorded.")
    shown = [look for look in sheet.looks if look.name in set(curves["network"])]
    panels = []
    for name in dict.fromkeys(curves["name"]):
        figure = figures.learning_curve(curves[curves["name"] == name], str(name), shown)
        panels.append(element("div", sheet.place(figure, f"{words(str(name))} over epochs")))
    band = "Bands are ± one s.d. over the seeds that reached the epoch." if _many_seeds(sheet) else ""
    return _figure(
        _key(shown), element("div", panels, class_="panels"),
        sheet.caption(
            "Learning curves: the mean over seeds after every epoch; twins are dashed or dotted.", band, sheet.seeds
        ),
    )  # fmt: skip


def _energy_models(sheet: Sheet) -> Markup:
    notes = sheet.data.energy_notes
    if not len(notes):
        return _missing("The energy models left no notes on their sources.")
    lead = element("p", "What each energy model is built on, and what it leaves out. Their verdicts are worth no more.")
    return join(lead, _frame(notes, "notes"))


def _setting(sheet: Sheet) -> Markup:
    if not sheet.data.description:
        return _missing("The setting of this suite was not recorded.")
    items = []
    for name, value in sheet.data.description.items():
        shown = element("code", value) if name.lower() == "command" else value
        items.append(join(element("dt", name), element("dd", shown)))
    return element("dl", items)


def _runs(sheet: Sheet) -> Markup:
    if not len(sheet.data.runs):
        return _missing("No run has finished.")
    count = len(sheet.data.runs)
    title = f"All {count} runs" if count > 1 else "The run"
    return element("details", element("summary", title), _frame(sheet.data.runs, ""), open="" if count <= 24 else None)


def _frame(frame: pd.DataFrame, class_: str) -> Markup:
    numeric = [is_numeric(frame.iloc[:, place]) for place in range(frame.shape[1])]
    rows = [[format_cell(value) for value in row] for row in frame.itertuples(index=False, name=None)]
    return table([words(str(column)) for column in frame.columns], rows, numeric, class_)


def _measure(name: str) -> Markup:
    # a name that begins with blanks belongs under the one above it
    return element("span", words(name.strip()), class_="indent" if name.startswith(" ") else None)


def _key(shown: list[Look]) -> Markup:
    return element("ul", [element("li", _name(look)) for look in shown], class_="key")


def _name(look: Look, tag: bool = True) -> Markup:
    kind = element("span", "spiking" if look.spiking else "twin", class_="tag") if tag else Markup("")
    return join(look.mark, element("span", look.name, kind))


def _panel(title: str, *children: Markup) -> Markup:
    return element("div", element("h3", title), *children)


def _figure(*children: Markup) -> Markup:
    return element("figure", *children)


def _missing(sentence: str) -> Markup:
    return element("p", sentence, class_="missing")


def _many_seeds(sheet: Sheet) -> bool:
    return bool((sheet.data.runs.groupby("network")["seed"].nunique() > 1).any())


def _not_counted(sheet: Sheet) -> str:
    """Say what each model on the page leaves out, from its own notes."""
    notes = sheet.data.energy_notes
    if not len(notes):
        return ""
    each = [
        f"{model}: {ignored}"
        for model, ignored in zip(notes["model"], map(format_cell, notes["ignores"]), strict=True)
        if model in sheet.models and ignored not in ("", MISSING)
    ]
    return f"Not counted by {'; by '.join(each)}." if each else ""
