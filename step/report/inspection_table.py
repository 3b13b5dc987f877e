"""What an inspection found, as tables and sentences for the terminal and the page."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from step.report.braille import raster
from step.report.units import MISSING, format_count, three_digits

if TYPE_CHECKING:
    import pandas as pd

    from step.inspection import Inspection, Layer

_STEPS = 8  # with more time steps the rates are drawn, not written


def rates(found: Inspection) -> pd.DataFrame:
    """Return for each layer its size, rate, rate at each step, spread over samples, and spikes."""
    import pandas as pd

    rows = []
    for layer in found.layers:
        row = {"layer": layer.name, "shape": _shape(layer), "rate": percent(layer.rate)}
        if found.T > 1:
            row["by step, %" if found.T <= _STEPS else "by step"] = by_step(layer)
        row["± samples"] = percent(layer.spread)
        if not found.conventional:
            row["spikes/neuron"] = MISSING if math.isnan(layer.spikes) else three_digits(layer.spikes)
            row["spikes"] = format_count(layer.spikes * layer.neurons)
        rows.append(row)
    return pd.DataFrame(rows)


def extremes(found: Inspection) -> pd.DataFrame:
    """Return for each layer its dead and saturated neurons, and how the rates of the others spread."""
    import pandas as pd

    rows = []
    for layer in found.layers:
        channels = layer.channels != layer.neurons
        rows.append(
            {
                "layer": layer.name,
                "neurons": layer.neurons,
                "dead": percent(layer.shares[0], layer.dead),
                "> 90 %": percent(layer.nearly / layer.neurons, layer.nearly),
                "saturated": percent(layer.shares[2], layer.saturated),
                "dead channels": f"{layer.dead_channels} of {layer.channels}" if channels else MISSING,
                "rates 0 to 1": histogram(layer),
            }
        )
    return pd.DataFrame(rows)


def by_step(layer: Layer) -> str:
    """Return the rates of the time steps: whole percents where they are few, else a picture."""
    if len(layer.by_step) <= _STEPS:
        return " ".join(f"{100 * rate:.0f}" for rate in layer.by_step)
    return raster(layer.by_step, min(24, (len(layer.by_step) + 1) // 2))


def histogram(layer: Layer) -> str:
    """Return a picture of the rates of the neurons that are not dead; heights are logarithmic."""
    return raster([math.log1p(count) for count in layer.histogram], len(layer.histogram) // 2)


def percent(share: float, count: int | None = None) -> str:
    """Return a share in percent; what is not none, and not all, never reads as if it were."""
    some = share > 0 if count is None else count > 0
    if some and share < 0.0005:
        return "<0.1 %"
    if 0.9995 <= share < 1:
        return ">99.9 %"
    return f"{100 * share:.1f} %"


def meaning(found: Inspection) -> list[str]:
    """Say what the numbers are."""
    where = f"{found.samples} test samples" + (f" and {found.T} time steps" if found.T > 1 else "")
    said = []
    if found.conventional:
        said.append(
            f"rate: share of positive outputs over {where}; dead: positive for no sample; saturated: positive for "
            "every sample, so that the unit does not gate"
        )
    else:
        said.append(
            f"rate: share of outputs that are not zero, over {where}; dead: no spike at all; saturated: a spike at "
            "every step of every sample (> 90 %: at more than nine tenths of them)"
        )
    said.append(
        "a neuron is one element of a layer's output; a channel is all neurons that share their weights, dead when all "
        "of them are"
    )
    said.append(
        "± samples: standard deviation of the layer's rate over samples; rates 0 to 1: how many neurons have which "
        "rate, the dead left out, heights logarithmic"
    )
    if found.left_out:
        said.append(f"left out, because they hand on real values over time: {', '.join(found.left_out)}")
    return said


def _shape(layer: Layer) -> str:
    return "×".join(map(str, layer.shape))
