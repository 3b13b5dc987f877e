"""Place recognition: what was recognised, how surely, at which cost; tables, sentences and the section of the page."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import pandas as pd

from step.places import PlaceResults
from step.report import pieces, place_pictures
from step.report.aggregate import over_seeds
from step.report.html import Markup, element, join
from step.report.place_figures import hyperactive, over_places, precision_recall, route, similarity
from step.report.style import Look, lines_of, words
from step.report.units import MISSING, format_count, three_digits

if TYPE_CHECKING:
    from step.report.pieces import Plates
    from step.report.place_pictures import Sights
    from step.report.style import Figure

RECALL = "recall_at_1"

MOST = 12
"""Networks whose matrices and routes are drawn."""

_NAMES = {
    "precision_at_100_recall": "P@100R",
    "recall_at_100_precision": "R@100P",
    "pr_auc": "PR AUC",
    "rejection_auroc": "rejection AUROC",
    "rejection_recall_at_100_precision": "rejection R@100P",
}


def section(
    plates: Plates, found: PlaceResults, looks: list[Look], summary: pd.DataFrame, sights: list[Sights]
) -> Markup:
    """Return the section: recall, all measures, PR curves, matrices, routes, pictures, neurons, growing maps, costs.

    Parameters
    ----------
    plates : Plates
    found : PlaceResults
    looks : list of Look
    summary : pandas.DataFrame
        The headline table, of which the energies are shown among the costs.
    sights : list of Sights
        Pictures of matches.
    """
    shown = [look for look in looks if look.name in found.networks]
    drawn, left_out = _drawn(found, shown)
    return join(
        element("h3", "Recall at 1"),
        pieces.frame(table(found), "small"),
        element("h3", leading(found)),
        pieces.frame(measures(found, found.headline), "small"),
        pieces.facts(*sentences(found)),
        element("details", element("summary", "All measures"), pieces.frame(measures(found), "small")),
        _curves(plates, found, shown),
        _scaling(plates, found),
        _matrices(plates, found, drawn, left_out),
        _routes(plates, found, drawn, left_out),
        place_pictures.figures(plates, sights, {data: _origin(found, [data]) for data in found.synthetic}),
        _neurons(plates, found, drawn),
        element("h3", "Costs"),
        pieces.frame(costs(found, summary), "small"),
        pieces.facts(*cost_sentences(found)),
    )


def table(found: PlaceResults, metric: str = RECALL) -> pd.DataFrame:
    """Return a metric in percent: a row for each network, a column for each length of sequences and tolerance.

    Several seeds give mean ± s.d., one seed the value with its bootstrap interval.
    """
    scores = found.scores[found.scores["metric"] == metric]
    rows = []
    for network in found.networks:
        own = scores[scores["network"] == network]
        row = {"network": network}
        for length, tolerance in _asked(scores):
            here = own[(own["length"] == length) & (own["tolerance"] == tolerance)]
            row[f"L{length} {_within(tolerance)}"] = _percent(here)
        rows.append(row)
    return pd.DataFrame(rows)


def measures(found: PlaceResults, only: tuple[int, int] | None = None) -> pd.DataFrame:
    """Return all metrics in percent: a row for each network, length and tolerance; with ``only`` at one such pair."""
    names = list(dict.fromkeys(found.scores["metric"]))
    rows = []
    for network in found.networks:
        own = found.scores[found.scores["network"] == network]
        for length, tolerance in [only] if only else _asked(own):
            here = own[(own["length"] == length) & (own["tolerance"] == tolerance)]
            values = {_name(name): _percent(here[here["metric"] == name]) for name in names}
            where = {} if only else {"L": str(length), "tolerance": _within(tolerance)}
            rows.append({"network": network, **where, **values})
    return pd.DataFrame(rows)


def leading(found: PlaceResults) -> str:
    """Return the title of the table of all measures at the headline."""
    length, tolerance = found.headline
    return f"All measures at L{length} {_within(tolerance)}, %"


def costs(found: PlaceResults, summary: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return what mapping and a query cost, means over seeds: one row for each network; energies where there are."""
    known = pd.DataFrame({"network": []}) if summary is None else summary
    energies = known.set_index("network").filter(regex="^energy, ").to_dict("index")
    rows = []
    for network, runs in found.costs.groupby("network", sort=False):
        mean = runs[[*_QUANTITIES]].mean()
        row = {"network": network, **{name: show(float(mean[key])) for key, (name, show) in _QUANTITIES.items()}}
        rows.append({**row, **{str(name): str(text) for name, text in energies.get(network, {}).items()}})
    return pd.DataFrame(rows)


def scale_table(found: PlaceResults) -> pd.DataFrame:
    """Return recall and costs against the number of places; without rows where the map has one size throughout."""
    points = _points(found)
    rows = []
    for (line, places), here in points.groupby(["line", "places"], sort=False):
        row: dict[str, Any] = {"network": line, "places": f"{places:,.0f}"}
        row |= {name: _spread(100 * here[name]) for name in points.columns if name.startswith("R@1")}
        row |= {name: show(float(here[key].mean())) for key, (name, show) in _QUANTITIES.items() if key != "places"}
        rows.append(row)
    return pd.DataFrame(rows)


def sentences(found: PlaceResults) -> list[str]:
    """Return what must stand beside the tables of recall."""
    seeds = found.costs.groupby("network")["seed"].nunique()
    length, tolerance = found.headline
    said = [
        "R@1, %: share of the queries that show a place of the map whose best match is right. L: queries in a sequence "
        "that is matched together. ±t: a match up to t places from a true one counts; exact: none but a true one.",
        "Mean ± s.d. over seeds." if seeds.max() > 1 else "",
        "In brackets: 95 % interval of a bootstrap over blocks of neighbouring queries." if seeds.min() == 1 else "",
        f"The headline is L{length} {_within(tolerance)}.",
        "P@100R: precision when every query must be answered. R@100P: share of queries that are answered before the "
        "first wrong answer, the surest first.",
    ]
    return [sentence for sentence in (*said, _origin(found, found.synthetic)) if sentence]


def cost_sentences(found: PlaceResults) -> list[str]:
    """Return what must stand beside the table of costs."""
    return [
        "Mapping: wall-clock time to learn all places. Latency: median of single queries; queries / s: in batches. "
        "Memory: what answering needs. Times are of the machine named under Setting, energies estimates of one query.",
    ]


def _seconds(seconds: float) -> str:
    if math.isnan(seconds):
        return MISSING
    # rounded before the unit is chosen, so that it is 1.00 ms and not 1000 µs
    size, unit = next(((s, u) for s, u in ((1.0, "s"), (1e-3, "ms")) if float(f"{seconds:.2e}") >= s), (1e-6, "µs"))
    return f"{three_digits(seconds / size)} {unit}"


def _bytes(count: float) -> str:
    text = format_count(count)
    return text if text == MISSING else f"{text}B" if " " in text else f"{text} B"


_QUANTITIES: dict[str, tuple[str, Callable[[float], str]]] = {
    "places": ("places", format_count),
    "map_seconds": ("mapping", _seconds),
    "latency_seconds": ("latency", _seconds),
    "queries_per_second": ("queries / s", format_count),
    "memory_bytes": ("memory", _bytes),
    "parameters": ("parameters", format_count),
}


def _asked(scores: pd.DataFrame) -> list[tuple[int, int]]:
    pairs = scores[["length", "tolerance"]].dropna().drop_duplicates()
    return sorted((int(length), int(tolerance)) for length, tolerance in pairs.itertuples(index=False, name=None))


def _within(tolerance: int) -> str:
    return f"±{tolerance}" if tolerance else "exact"


def _name(metric: str) -> str:
    recall = re.fullmatch(r"recall_at_(\d+)", metric)
    return f"R@{recall[1]}" if recall else _NAMES.get(metric, words(metric))


def _percent(rows: pd.DataFrame) -> str:
    values = 100 * rows["value"].dropna()
    if len(values) == 1 and rows[["low", "high"]].notna().all(axis=None):
        low, high = 100 * rows["low"].iloc[0], 100 * rows["high"].iloc[0]
        return f"{values.iloc[0]:.1f} [{low:.1f}, {high:.1f}]"
    return _spread(values)


def _spread(values: pd.Series) -> str:
    if values.empty:
        return MISSING
    return f"{values.mean():.1f}" + (f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else "")


def _origin(found: PlaceResults, data: Iterable[str]) -> str:
    """Say which data a program made; nothing where none."""
    made = [name for name in dict.fromkeys(data) if found.synthetic[name]]
    return f"Synthetic images, made by a program: {'; '.join(made)}." if made else ""


def _drawn(found: PlaceResults, looks: list[Look]) -> tuple[list[Look], str]:
    """Return the networks whose matrices are drawn, and what the captions say of the others."""
    if len(looks) <= MOST:
        return looks, ""
    largest = found.costs.groupby("network")["places"].max().fillna(0).sort_values(ascending=False, kind="stable")
    chosen = set(largest.index[:MOST])
    return [look for look in looks if look.name in chosen], f"Shown: the {MOST} of {len(looks)} with most places."


def _curves(plates: Plates, found: PlaceResults, looks: list[Look]) -> Markup:
    curves = found.pr
    if not len(curves):
        return Markup("")
    curves = curves[curves["tolerance"] == found.headline[1]]
    several = len(found.synthetic) > 1
    if several:
        # the same learner looks the same on all data
        looks = lines_of(dict.fromkeys(found.costs["line"]))
    panels = []
    for data in found.synthetic:
        names = {network: found.lines[network] if several else network for network in found.networks}
        own = curves[curves["network"].map(found.data) == data]
        own = own.assign(network=own["network"].map(names))
        for length in dict.fromkeys((found.lengths[0], found.lengths[-1])):
            figure = precision_recall(own[own["length"] == length], looks)
            title = f"{data}, L = {length}" if several else f"L = {length}"
            panels.append(pieces.panel(title, plates.place(figure, f"Precision, recall, {title}")))
    return pieces.figure(
        pieces.key(looks), pieces.panels(panels),
        plates.caption(
            "Precision against recall as fewer queries are answered, those with the best score first; L: queries in a "
            f"sequence. A match counts {_meant(found.headline[1])}. Of the run with the lowest seed.",
            _origin(found, found.synthetic),
        ),
    )  # fmt: skip


def _meant(tolerance: int) -> str:
    if not tolerance:
        return "where it is a true place"
    return f"up to {tolerance} place{'s' if tolerance > 1 else ''} from a true one"


def _matrices(plates: Plates, found: PlaceResults, looks: list[Look], left_out: str) -> Markup:
    if not len(found.similarity):
        return Markup("")
    panels = [
        pieces.panel(
            look.name, plates.place(similarity(found.similarity[found.similarity["network"] == look.name]), look.name)
        )
        for look in looks
        if look.name in set(found.similarity["network"])
    ]
    return pieces.figure(
        pieces.panels(panels),
        plates.caption(
            "Similarity of every place to every single query, from the smallest value (light) to the largest of each "
            "network; of large maps the largest in each block. Of the run with the lowest seed.",
            left_out, _origin(found, [found.data[look.name] for look in looks]),
        ),
    )  # fmt: skip


def _routes(plates: Plates, found: PlaceResults, looks: list[Look], left_out: str) -> Markup:
    if not len(found.matches):
        return Markup("")
    length, tolerance = found.headline
    here = found.matches[found.matches["length"] == length]
    panels: list[Markup] = []
    for look in looks:
        own = here[here["network"] == look.name]
        if len(own):
            figure = route(own, f"correct_t{tolerance}")
            panels.append(pieces.panel(look.name, plates.place(figure, f"Matches along the route, {look.name}")))
    return pieces.figure(
        pieces.swatches({"right": "var(--blue)", "wrong": "var(--vermillion)", "true place": "var(--axis)"}),
        pieces.panels(panels),
        plates.caption(
            f"The place that every query was matched with, L = {length}; right: {_meant(tolerance)}. Of the run with "
            "the lowest seed.", left_out, _origin(found, [found.data[look.name] for look in looks]),
        ),
    )  # fmt: skip


def _neurons(plates: Plates, found: PlaceResults, looks: list[Look]) -> Markup:
    if not len(found.neurons):
        return Markup("")
    panels: list[Markup] = []
    for look in looks:
        own = found.neurons[found.neurons["network"] == look.name].dropna(subset=["images"])
        if len(own):
            removed, modules = int(own["hyperactive"].sum()), own[["member", "module"]].drop_duplicates().shape[0]
            panels.append(
                pieces.panel(
                    look.name,
                    plates.place(hyperactive(own), f"Activity of the neurons of {look.name}"),
                    pieces.facts(f"{removed:,} of {len(own):,} neurons in {modules:,} modules are hyperactive."),
                )
            )
    if not panels:
        return Markup("")
    return pieces.figure(
        pieces.swatches({"neurons": "var(--blue)", "hyperactive": "var(--vermillion)"}),
        pieces.panels(panels),
        plates.caption(
            "On how many reference images of the record pass, most of them of other modules, each excitatory neuron "
            "fired at least once. Hyperactive ones fire on so many that they say little. Of the run with the lowest "
            "seed.",
            _origin(found, [found.data[look.name] for look in looks]),
        ),
    )  # fmt: skip


def _points(found: PlaceResults) -> pd.DataFrame:
    """Return recall and costs of every run of lines that have maps of several sizes."""
    sizes = found.costs.groupby("line")["places"].nunique()
    points = found.costs[found.costs["line"].isin(sizes.index[sizes > 1])].dropna(subset=["places"])
    tolerance = found.headline[1]
    recall = found.scores[(found.scores["metric"] == RECALL) & (found.scores["tolerance"] == tolerance)]
    for length in dict.fromkeys((found.lengths[0], found.lengths[-1])):
        values = recall[recall["length"] == length].set_index("run")["value"]
        points = points.assign(**{f"R@1, L = {length}": points["run"].map(values)})
    order = {line: place for place, line in enumerate(dict.fromkeys(points["line"]))}
    return points.sort_values(["line", "places"], key=lambda c: c.map(order) if c.name == "line" else c, kind="stable")


def _scaling(plates: Plates, found: PlaceResults) -> Markup:
    points = _points(found)
    if not len(points):
        return Markup("")
    looks = lines_of(dict.fromkeys(points["line"]))
    quantities = [(name, f"{name} (%)", 1.0) for name in points.columns if name.startswith("R@1")]
    quantities += [
        ("map_seconds", "Mapping (s)", 1.0), ("latency_seconds", "Latency of a query (ms)", 1e-3),
        ("memory_bytes", "Memory (MB)", 1e6),
    ]  # fmt: skip
    panels = []
    for column, title, unit in quantities:
        values = points.assign(value=points[column] / unit).dropna(subset=["value"])
        if len(values):
            figure: Figure = over_places(values, title, looks, percent=column.startswith("R@1"))
            panels.append(pieces.panel(title, plates.place(figure, f"{title} against places")))
    several = over_seeds(points.assign(value=1.0), ["line", "places"], "value")["n"].max() > 1
    return join(
        pieces.figure(
            pieces.key(looks), pieces.panels(panels),
            plates.caption(
                f"Recall and costs as the map grows; a match counts {_meant(found.headline[1])}.",
                "Mean over runs with one s.d." if several else "One run each.",
                _origin(found, points["data"]),
            ),
        ),
        pieces.frame(scale_table(found), "small"),
    )  # fmt: skip
