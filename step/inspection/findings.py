"""What is wrong with the layers of a network, in plain words."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from step.inspection.data import NEARLY, Inspection, Layer

MOSTLY = 0.5
"""Share of the neurons from which a layer is called mostly dead or mostly saturated."""

FEW = 4
"""Layers that one sentence names."""


def findings(found: Inspection) -> list[str]:
    """Return one sentence for each thing that a reader should look at; empty when nothing stands out."""
    layers = found.layers
    silent = [layer for layer in layers if layer.rate == 0]
    alive = [layer for layer in layers if layer.rate > 0]
    never, always = (
        ("are never active", "are positive for every sample, and so do not gate")
        if found.conventional
        else ("never fired", "fire at every step of every sample, and so say nothing of the input")
    )
    rules: list[tuple[str, list[Layer], Callable[[Layer], str]]] = [
        (
            f"Silent in all {found.samples} samples, so that nothing passes through",
            [layer for layer in silent if not layer.attention], lambda layer: "",
        ),
        (
            f"Silent in all {found.samples} samples, inside an attention, which so hears nothing there",
            [layer for layer in silent if layer.attention], lambda layer: "",
        ),
        (
            f"Mostly dead (at least half of the neurons {never})",
            [layer for layer in alive if layer.shares[0] >= MOSTLY], lambda layer: _percent(layer.shares[0]),
        ),
        (
            f"Mostly saturated (at least half of the neurons {always})",
            [layer for layer in alive if layer.shares[2] >= MOSTLY], lambda layer: _percent(layer.shares[2]),
        ),
        (
            "Near saturation (rate above 90 %)",
            [layer for layer in alive if layer.rate > NEARLY and layer.shares[2] < MOSTLY],
            lambda layer: f"rate {_percent(layer.rate)}",
        ),
        (
            f"Silent at first, so that fewer than the {found.T} time steps are used",
            [layer for layer in alive if layer.by_step[0] == 0 and len(layer.by_step) > 1],
            lambda layer: f"until step {_first(layer)}",
        ),
        (
            "Silent for some samples",
            [layer for layer in alive if layer.silent_samples > 0],
            lambda layer: _percent(layer.silent_samples),
        ),
    ]  # fmt: skip
    said = [f"{what}: {_named(which, how)}." for what, which, how in rules if which]
    return said + _heads(found)


def _heads(found: Inspection) -> list[str]:
    """Say which heads give no weight to any token of the shown samples."""
    said = []
    for each in found.attention:
        silent = [head + 1 for head in range(each.heads) if not each.received[:, head].any()]
        if silent:
            which = "no head" if len(silent) == each.heads else f"not head {', '.join(map(str, silent))}"
            said.append(f"{each.name}: {which} gives weight to any token")
    if not said:
        return []
    more = f", and {len(said) - FEW} more" if len(said) > FEW else ""
    return [f"Heads without weight in the {len(found.shown)} shown samples: {'; '.join(said[:FEW])}{more}."]


def _named(layers: Iterable[Layer], how: Callable[[Layer], str]) -> str:
    names = [f"{layer.name} ({how(layer)})" if how(layer) else layer.name for layer in layers]
    more = f", and {len(names) - FEW} more" if len(names) > FEW else ""
    return ", ".join(names[:FEW]) + more


def _first(layer: Layer) -> int:
    return next(step for step, rate in enumerate(layer.by_step, 1) if rate > 0)


def _percent(share: float) -> str:
    return "< 1 %" if share < 0.005 else f"{100 * share:.0f} %"
