"""The figures of one traced sample: the input image, the raster and the membrane potential."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import TYPE_CHECKING, Any

from neurons.errors import ShapeError
from step.report.data import Trace
from step.report.style import Figure, Look, axis, layout

if TYPE_CHECKING:
    import numpy as np

MAX_UNITS = 128
MAX_STEPS = 1000
POTENTIALS = 4


def raster(trace: Trace, look: Look) -> tuple[Figure, str]:
    """Return the raster of a layer's output, and a sentence about what it leaves out (or nothing)."""
    import numpy as np

    steps, units = trace.spikes.shape
    chosen = _evenly(units, MAX_UNITS)
    shown = trace.spikes[:MAX_STEPS][:, chosen].astype(float).T
    lowest, highest = min(0.0, float(np.nanmin(shown))), max(1.0, float(np.nanmax(shown)))
    scale: list[list[Any]] = [[0.0, "var(--empty)"], [1.0, look.colour]]
    if lowest < 0:
        lowest, highest = -max(-lowest, highest), max(-lowest, highest)
        scale = [[0.0, "var(--ink)"], [0.5, "var(--empty)"], [1.0, look.colour]]
    heat = {
        "type": "heatmap", "z": shown.tolist(), "x": _steps(shown.shape[1]), "y": chosen,
        "colorscale": scale, "zmin": lowest, "zmax": highest, "showscale": False, "xgap": 1 if steps <= 40 else 0,
        "ygap": 0, "hovertemplate": "unit %{y}, time step %{x}: %{z}<extra></extra>",
    }  # fmt: skip
    x = _time_axis(shown.shape[1])
    y = axis("Unit", nticks=8, autorange="reversed", showgrid=False)
    notes = []
    if len(chosen) < units:
        notes.append(f"{len(chosen)} of {units:,} units, evenly spaced")
    if steps > MAX_STEPS:
        notes.append(f"the first {MAX_STEPS:,} of {steps:,} time steps")
    if not np.isin(shown, (0.0, 1.0)).all():
        notes.append("darker is larger")
    return {"data": [heat], "layout": layout(360, xaxis=x, yaxis=y)}, "; ".join(notes)


def potentials(trace: Trace, look: Look) -> Figure:
    """Return the membrane potential of a few units, one above the other, with threshold and spikes.

    Raises
    ------
    ShapeError
        When the trace has no potential.
    """
    if trace.potential is None:
        raise ShapeError(f"trace of {trace.network!r}, layer {trace.layer!r}: no potential was recorded to draw")
    chosen = pick_units(trace.spikes)
    steps = min(len(trace.spikes), MAX_STEPS)
    time = _steps(steps)
    data: list[dict[str, Any]] = []
    shapes: list[dict[str, Any]] = []
    figure_layout = layout(360, xaxis=_time_axis(steps))
    gap = 0.06
    height = (1 - gap * (len(chosen) - 1)) / len(chosen)
    for row, unit in enumerate(chosen):
        suffix = "" if row == 0 else str(row + 1)
        v, s = trace.potential[:steps, unit].astype(float), trace.spikes[:steps, unit]
        data.append(
            {
                "type": "scatter", "mode": "lines+markers" if steps <= 40 else "lines", "x": time, "y": v.tolist(),
                "yaxis": f"y{suffix}", "line": {"color": look.colour, "width": 1.6},
                "marker": {"size": 5, "color": "var(--paper)", "line": {"color": look.colour, "width": 1.4}},
                "hovertemplate": f"unit {unit}, time step %{{x}}: %{{y:.4g}}<extra></extra>",
            }
        )  # fmt: skip
        fired = [step for step in range(steps) if s[step] != 0]
        data.append(
            {
                "type": "scatter", "mode": "markers", "x": [time[step] for step in fired],
                "y": [float(v[step]) for step in fired], "yaxis": f"y{suffix}",
                "marker": {"size": 8, "color": look.colour}, "hoverinfo": "skip",
            }
        )  # fmt: skip
        if trace.threshold is not None:
            shapes.append(
                {
                    "type": "line", "xref": "paper", "x0": 0, "x1": 1, "yref": f"y{suffix}",
                    "y0": trace.threshold, "y1": trace.threshold,
                    "line": {"color": "var(--ink)", "width": 1, "dash": "dash"},
                }
            )  # fmt: skip
            # an invisible point keeps the threshold in view when the unit stays far below it
            data.append({"type": "scatter", "x": time[:1], "y": [trace.threshold], "yaxis": f"y{suffix}",
                         "mode": "markers", "opacity": 0, "hoverinfo": "skip"})  # fmt: skip
        top = 1 - row * (height + gap)
        title = {"text": f"unit {unit}", "font": {"size": 11}, "standoff": 4}
        figure_layout[f"yaxis{suffix}"] = axis(nticks=4) | {"domain": [max(0.0, top - height), top], "title": title}
    figure_layout["xaxis"]["anchor"] = "y" if len(chosen) == 1 else f"y{len(chosen)}"
    figure_layout["shapes"] = shapes
    return {"data": data, "layout": figure_layout}


def pick_units(spikes: np.ndarray, count: int = POTENTIALS) -> list[int]:
    """Choose units to show: evenly ranked among those that fire, from most to least active; silent ones last."""
    import numpy as np

    activity = (spikes != 0).sum(axis=0)
    ranked = np.argsort(-activity, kind="stable")
    active = ranked[activity[ranked] > 0]
    chosen = [int(active[place]) for place in _evenly(len(active), count)]
    silent = [int(unit) for unit in ranked if activity[unit] == 0]
    return (chosen + silent)[:count]


def image_uri(image: np.ndarray) -> str:
    """Return an image in [0, 1] as a PNG in a ``data:`` address.

    One channel is shown in grey, three in colour, two (event polarities) in red and blue; of any other number
    the mean is shown.
    """
    import numpy as np

    pixels = np.nan_to_num(np.clip(np.asarray(image, dtype=float), 0, 1))
    if pixels.ndim == 3 and len(pixels) == 2:
        pixels = np.stack([pixels[0], np.zeros_like(pixels[0]), pixels[1]])
    elif pixels.ndim == 3 and len(pixels) != 3:
        pixels = pixels.mean(axis=0)
    colour = pixels.ndim == 3
    return png_uri(np.round(255 * (np.moveaxis(pixels, 0, -1) if colour else pixels)).astype(np.uint8))


def png_uri(rows: np.ndarray) -> str:
    """Return pixels of 8 bits, ``[H, W]`` (grey), ``[H, W, 3]`` or ``[H, W, 4]`` (with opacity), as a PNG likewise."""
    height, width = rows.shape[:2]
    form = {3: 2, 4: 6}[rows.shape[2]] if rows.ndim == 3 else 0
    # every row begins with its filter, 0 for none
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, 8, form, 0, 0, 0)
    chunks = (_chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(raw, 9)), _chunk(b"IEND", b""))
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(chunks)).decode("ascii")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _evenly(total: int, most: int) -> list[int]:
    if total <= most:
        return list(range(total))
    return [round(place * (total - 1) / (most - 1)) for place in range(most)]


def _steps(count: int) -> list[int]:
    return list(range(1, count + 1))


def _time_axis(steps: int) -> dict[str, Any]:
    return axis("Time step", range=[0.5, steps + 0.5], **({"dtick": 1} if steps <= 12 else {"nticks": 10}))
