"""Small pictures for the terminal, drawn with the dots of the braille alphabet: two by four in every character."""

from __future__ import annotations

import math
from collections.abc import Sequence

# The bits of the dots of one character, by row from the top, then by column (Unicode, block 2800).
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


def curve(values: Sequence[float], width: int, height: int, low: float, high: float) -> list[str]:
    """Return lines of text with a curve over evenly spaced values, neighbours joined.

    Parameters
    ----------
    values : sequence of float
        NaN and infinities leave a gap.
    width, height : int
        Size in characters.
    low, high : float
        Values at the lower and the upper edge.
    """
    cells = [[0] * width for _ in range(height)]
    columns, rows = 2 * width, 4 * height
    span = (high - low) or 1.0
    before: int | None = None
    for column in range(columns):
        value = values[min(len(values) - 1, round(column * (len(values) - 1) / max(columns - 1, 1)))]
        if not math.isfinite(value):
            before = None
            continue
        row = min(rows - 1, max(0, round((high - value) / span * (rows - 1))))
        # joined upright to the last one, all but the row in which that stands
        reach = [row] if before is None or before == row else range(row, before, 1 if row < before else -1)
        for y in reach:
            cells[y // 4][column // 2] |= _DOTS[y % 4][column % 2]
        before = row
    return ["".join(chr(0x2800 + bits) if bits else " " for bits in line) for line in cells]


def raster(values: Sequence[float], width: int) -> str:
    """Return one line with a bar wherever a value is not 0, as high as it is among the others."""
    columns = 2 * width
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    cells = [0] * width
    for position, value in enumerate(values):
        if not value or not math.isfinite(value):
            continue
        column = position * columns // len(values)
        for y in range(4 - max(1, round(4 * abs(value) / largest)), 4):
            cells[column // 2] |= _DOTS[y][column % 2]
    return "".join(chr(0x2800 + bits) if bits else " " for bits in cells)


def framed(lines: Sequence[str], low: float, high: float, margin: int = 8) -> list[str]:
    """Return a curve with a scale on its left: the values at its two edges."""
    labels = [""] * len(lines)
    labels[-1] = f"{low:.3g}"
    labels[0] = f"{high:.3g}"
    edge = ["┤" if label else "│" for label in labels]
    return [f"{label:>{margin}} {mark}{line}" for label, mark, line in zip(labels, edge, lines, strict=True)]
