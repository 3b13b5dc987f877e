"""The sections on what the layers of networks do: of one run on a page of its own, and of all networks of a suite."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from step.report import inspection_figures as figures
from step.report import inspection_table, pieces
from step.report.html import Markup, element, join
from step.report.pictures import Album, tiles
from step.report.pieces import Plates, Section

if TYPE_CHECKING:
    import numpy as np

    from step.inspection import AttentionMap, Inspection, Shown

_ANCHORS = {
    "by-step": "Firing rates by time step",
    "dead-saturated": "Dead and saturated neurons",
    "attention-maps": "Attention maps",
}


def run_sections(plates: Plates, found: Inspection, facts: Mapping[str, str]) -> list[Section]:
    """Return everything about one run."""
    by_name = {"": found}
    over_time = _ANCHORS["by-step"] if found.T > 1 else "Active outputs by layer"
    parts = [
        Section("layers", "Layers", _tables(found)),
        Section("by-step", over_time, by_step(plates, by_name)),
        Section("dead-saturated", _ANCHORS["dead-saturated"], states(plates, by_name)),
        Section("distribution", "Rates of single neurons", _distribution(plates, found)),
    ]
    if not found.conventional:
        parts.append(Section("spike-counts", "Spike counts", _spike_counts(plates, found)))
    if found.maps:
        parts.append(Section("spike-maps", "Activity over the image", _maps(plates, found)))
    if found.attention:
        parts.append(Section("attention-maps", _ANCHORS["attention-maps"], attention(plates, by_name, full=True)))
    return [*parts, Section("setting", "Setting", pieces.description(facts))]


def suite_sections(plates: Plates, by_network: Mapping[str, Inspection]) -> list[tuple[str, str, Callable[[], Markup]]]:
    """Return the makers of the short form for a suite: anchor, title, body.

    There are none without inspections, and no attention maps without attentions.
    """
    over_time = {name: found for name, found in by_network.items() if found.T > 1}
    attentive = {name: found for name, found in by_network.items() if found.attention}
    makers: dict[str, Callable[[], Markup]] = {}
    if over_time:
        makers["by-step"] = lambda: by_step(plates, over_time)
    if by_network:
        makers["dead-saturated"] = lambda: states(plates, by_network)
    if attentive:
        makers["attention-maps"] = lambda: attention(plates, attentive, full=False)
    return [(anchor, _ANCHORS[anchor], make) for anchor, make in makers.items()]


def by_step(plates: Plates, by_network: Mapping[str, Inspection]) -> Markup:
    """Return rates by layer and time step, a heat map for each network."""
    shown = [
        _panel(name, plates.place(figures.rates_by_step(found), f"Rates by layer and time step {name}".strip()))
        for name, found in by_network.items()
    ]
    found = next(iter(by_network.values()))
    numbers = "The number in a cell is the rate in percent." if found.T <= 8 else ""
    what = (
        "the share of a layer's outputs, over neurons and samples, that is not zero"
        if not found.conventional
        else "the share of a layer's outputs, over neurons and samples, that is positive"
    )
    caption = plates.caption(
        f"Rate of every layer at every time step: {what}. Colours run from 0 to the largest rate of the network.",
        numbers, _basis(by_network),
    )  # fmt: skip
    return pieces.figure(pieces.panels(shown), caption)


def states(plates: Plates, by_network: Mapping[str, Inspection]) -> Markup:
    """Return the shares of dead and saturated neurons, a panel for each network."""
    shown = [
        _panel(name, plates.place(figures.states(found), f"Dead and saturated neurons {name}".strip()))
        for name, found in by_network.items()
    ]
    twins = any(found.conventional for found in by_network.values())
    caption = plates.caption(
        "Neurons of every layer by how often they are active. Dead: never, in any sample. Saturated: at every time "
        "step of every sample. Above 90 %: at more than nine tenths of them, but not at all. A neuron is one element "
        "of the layer's output.",
        "Conventional activations are active where their output is positive: dead ones never pass anything on, "
        "saturated ones never gate." if twins else "",
        "A neuron that is dead in these samples may fire for others.", _basis(by_network),
    )  # fmt: skip
    return pieces.figure(pieces.swatches(figures.STATES), pieces.panels(shown), caption)


def attention(plates: Plates, by_network: Mapping[str, Inspection], full: bool) -> Markup:
    """Return attention maps over the image; in full also by head and for more tokens that ask."""
    shown = []
    for place, (name, found) in enumerate(by_network.items()):
        album = Album(f"input-attention-{place}", found.images)
        shown.append(join(element("h3", name) if name else "", album.kept()))
        shown += [_attended(album, found, k, full) for k in range(len(found.shown))]
    found = next(iter(by_network.values()))
    caption = plates.caption(
        "Attention over the image, one picture for each attention, means over all time steps and (but by head) all "
        "heads. Received: the weight with which a token is heard, mean over the tokens that ask; where an attention "
        "has one weight for each token, that weight. Middle: the weights with which the framed token in the middle "
        "hears the others.",
        "Weights are those that the attention works with, not normalised: without a softmax rows do not sum to one "
        "and need not be comparable between networks or blocks. Each picture runs from no colour at 0 to full colour "
        "at its own largest value (orange; blue for negative weights); the range stands beneath.",
        f"{len(found.shown)} test samples, evenly over those inspected, not chosen by what they show.",
    )  # fmt: skip
    return pieces.figure(*shown, caption)


def _attended(album: Album, found: Inspection, k: int, full: bool) -> Markup:
    """Return the attention maps of one sample."""
    first = [album.image(k, "input")]
    received = [album.overlay(k, _grid(each, each.received[k].mean(0)), each.name) for each in found.attention]
    parts = [element("h4", _about(found.shown[k])), tiles("Received", first + received)]
    asking = [each for each in found.attention if each.queries]
    if asking:
        middle = [_asked(album, each, k, 0, each.name) for each in asking]
        parts.append(tiles("Middle", first + middle))
    if full:
        heads = [tiles(each.name, _by_head(album, each, k)) for each in found.attention]
        parts.append(_folded("Received, by head", heads))
        others = [
            tiles(each.name, [_asked(album, each, k, q, f"token {each.queries[q]}") for q in range(len(each.queries))])
            for each in asking
        ]
        if others:
            parts.append(_folded("More tokens that ask, framed", others))
    return element("div", parts)


def _by_head(album: Album, each: AttentionMap, k: int) -> list[Markup]:
    return [
        album.overlay(k, _grid(each, each.received[k, head]), f"head {head + 1}") for head in range(each.heads)
    ]  # fmt: skip


def _asked(album: Album, each: AttentionMap, k: int, q: int, note: str) -> Markup:
    return album.overlay(k, _grid(each, each.rows[k, :, q].mean(0)), note, mark=each.queries[q])


def _grid(each: AttentionMap, tokens: np.ndarray) -> np.ndarray:
    return tokens.reshape(each.grid)


def _about(shown: Shown) -> str:
    said = f"Test sample {shown.sample}"
    if shown.label is None:
        return said
    said += f": class {shown.label}"
    if shown.predicted is not None:
        said += f", predicted {shown.predicted}" + ("" if shown.predicted == shown.label else " ✗")
    return said


def _tables(found: Inspection) -> Markup:
    from step.inspection import findings

    said = findings(found)
    lines = element("ul", [element("li", line) for line in said], class_="findings small") if said else join()
    return join(
        pieces.frame(inspection_table.rates(found), "notes"), pieces.frame(inspection_table.extremes(found), "notes"),
        lines if said else pieces.facts("Nothing stands out."),
        [element("p", f"{line}.", class_="facts") for line in inspection_table.meaning(found)],
    )  # fmt: skip


def _distribution(plates: Plates, found: Inspection) -> Markup:
    caption = plates.caption(
        "How the rates of the neurons of every layer are distributed, dead neurons left out. A row runs from 0 to its "
        "own fullest bin, so that rows do not compare in height.", _basis({"": found}),
    )  # fmt: skip
    return pieces.figure(plates.place(figures.distribution(found), "Distribution of the rates of neurons"), caption)


def _spike_counts(plates: Plates, found: Inspection) -> Markup:
    shown = [
        element("div", plates.place(figures.spikes(found, whole), about))
        for whole, about in ((True, "Spikes of every layer"), (False, "Spikes of a neuron of every layer"))
    ]
    caption = plates.caption(
        "Mean number of spikes in one inference (one sample, all time steps); counts of integer neurons in full.",
        _basis({"": found}),
    )
    return pieces.figure(pieces.panels(shown), caption)


def _maps(plates: Plates, found: Inspection) -> Markup:
    album = Album("input-maps", found.images)
    rows = [
        tiles(_about(found.shown[k]), [album.image(k, "input"), *(album.grey(maps[k], name) for name, maps in
                                                                   found.maps.items())])
        for k in range(len(found.shown))
    ]  # fmt: skip
    some = len(found.maps) < found.map_layers
    left = f" {len(found.maps)} of {found.map_layers} such layers, evenly chosen." if some else ""
    what = "a share of the channels with a positive output" if found.conventional else "time steps with a spike"
    caption = plates.caption(
        f"Activity over the image, of layers on maps: {what}, mean over channels, black at 0 to white at the largest "
        f"value of the picture; the range stands beneath.{left}",
        f"{len(found.shown)} test samples, evenly over those inspected, not chosen by what they show. Large maps are "
        "averaged down.",
    )
    return pieces.figure(album.kept(), *rows, caption)


def _panel(name: str, body: Markup) -> Markup:
    return pieces.panel(name, body) if name else element("div", body)


def _folded(title: str, body: list[Markup]) -> Markup:
    return element("details", element("summary", title), body)


def _basis(by_network: Mapping[str, Inspection]) -> str:
    counts = sorted({found.samples for found in by_network.values()})
    one = f"Counted on {' or '.join(map(str, counts))} test samples in eval mode"
    return f"{one}; of each network one run." if len(by_network) > 1 else f"{one}."
