"""Dashed curves and the pictures of them, in which two marked ends belong to one curve or to two."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ROUNDS, ATTEMPTS = 3, 4
"""How often turns are tried for a dash before the curve is given up, and how many at a time."""
SCALE = 4
"""Pictures are drawn that many times larger and then averaged, so that lines are smooth."""


@dataclass(frozen=True)
class Style:
    """Sizes, in parts of the side of a picture.

    Attributes
    ----------
    dash, gap : float
        Length of a dash and of the space after it.
    thickness : float
        Of a line.
    marker : float
        Radius of a mark.
    clearance : float
        Least distance between two curves, and between dashes of one that do not follow each other.
    margin : float
        Least distance to the edge.
    start : float
        Distance between the first ends of the two long curves.
    bend : float
        Largest turn from a dash to the next, in radians.
    """

    dash: float = 0.055
    gap: float = 0.03
    thickness: float = 0.022
    marker: float = 0.045
    clearance: float = 0.075
    margin: float = 0.06
    start: float = 0.14
    bend: float = 0.6


@dataclass(frozen=True, eq=False)
class Scenes:
    """Curves of many pictures, in parts of the side, x to the right and y down.

    Attributes
    ----------
    curves : numpy.ndarray, shape [N, K, P + 1, 2]
        Where each of the P dashes of a curve begins, and where the last ends; NaN where a curve has fewer dashes. The
        first two are the long ones.
    labels : numpy.ndarray of int64, shape [N]
        1 where both marks are on one curve.
    marks : numpy.ndarray, shape [N, 2, 2]
        The marked ends.
    """

    curves: np.ndarray
    labels: np.ndarray
    marks: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def scenes(random: np.random.RandomState, count: int, dashes: int, distractors: int, style: Style) -> Scenes:
    """Return pictures, as many with connected marks as without (one more of the one or the other for an odd number).

    Parameters
    ----------
    random : numpy.random.RandomState
    count : int
        Number of pictures.
    dashes : int
        Dashes of each of the two long curves.
    distractors : int
        Short curves, of a third of the dashes, that are tried; one that finds no place is left out.
    style : Style
    """
    made: list[np.ndarray] = []
    missing = count
    while missing > 0:
        made.append(_long_curves(random, missing + missing // 4 + 8, dashes, style)[:missing])
        missing -= len(made[-1])
    curves = _with_distractors(random, np.concatenate(made), dashes, distractors, style)
    labels = random.permutation(np.arange(count) % 2)
    rows, first = np.arange(count), random.randint(2, size=count)
    second = np.where(labels == 1, first, 1 - first)
    marks = np.stack([curves[rows, first, 0], curves[rows, second, dashes]], 1)
    return Scenes(curves, labels, marks)


def _with_distractors(
    random: np.random.RandomState, long: np.ndarray, dashes: int, distractors: int, style: Style
) -> np.ndarray:
    """Add short curves; [N, 2, P + 1, 2] becomes [N, 2 + distractors, P + 1, 2]."""
    short = max(1, dashes // 3)
    curves = np.full((len(long), 2 + distractors, dashes + 1, 2), np.nan)
    curves[:, :2] = long
    for number in range(2, 2 + distractors):
        taken = np.concatenate([_points(long), _points(curves[:, 2:number, : short + 1])], 1)
        seat = random.uniform(style.margin, 1 - style.margin, (len(long), 2))
        curve, fits = _grown(random, seat, taken, short, style)
        curves[fits, number, : short + 1] = curve[fits]
    return curves


def _long_curves(random: np.random.RandomState, count: int, dashes: int, style: Style) -> np.ndarray:
    """Return those of ``count`` tried pairs of curves that found a place, [N, 2, P + 1, 2]; they grow in turns."""
    inner = style.margin + style.start / 2
    middle = random.uniform(inner, 1 - inner, (count, 2))
    angle = random.uniform(0, 2 * np.pi, count)
    apart = np.stack([np.cos(angle), np.sin(angle)], 1) * style.start / 2
    curves = np.full((count, 2, dashes + 1, 2), np.nan)
    curves[:, 0, 0], curves[:, 1, 0] = middle + apart, middle - apart
    heading = random.uniform(0, 2 * np.pi, (count, 2))
    for dash in range(dashes):
        for which in (0, 1):
            others = _points(curves[:, 1 - which : 2 - which, : dash + 1 + which])
            taken = np.concatenate([others, _points(curves[:, which : which + 1, :dash])], 1)
            here = curves[:, which, dash]
            step, heading[:, which], fits = _step(
                random, here, heading[:, which], taken, style, first=dash == 0, last=dash == dashes - 1
            )
            curves[:, which, dash + 1] = step
            curves, heading = curves[fits], heading[fits]
    return curves


def _grown(
    random: np.random.RandomState, seat: np.ndarray, taken: np.ndarray, dashes: int, style: Style
) -> tuple[np.ndarray, np.ndarray]:
    """Return curves from ``seat`` on, [N, dashes + 1, 2], and which of them found a place."""
    count = len(seat)
    curve = np.full((count, dashes + 1, 2), np.nan)
    curve[:, 0] = seat
    fits, heading = np.ones(count, bool), random.uniform(0, 2 * np.pi, count)
    for dash in range(dashes):
        around = np.concatenate([taken, _points(curve[:, None, :dash])], 1)
        step, heading, found = _step(
            random, curve[:, dash], heading, around, style, first=dash == 0, last=dash == dashes - 1
        )
        curve[:, dash + 1] = step
        fits &= found
    return curve, fits


def _step(
    random: np.random.RandomState, here: np.ndarray, heading: np.ndarray, taken: np.ndarray, style: Style, *,
    first: bool, last: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Return where the next dash ends (with the space after it), its heading, and where one of the tries fitted."""
    bend = np.pi if first else style.bend
    length = style.dash if last else style.dash + style.gap
    shares = np.linspace(0 if first else 1 / 3, 1, 3 if first else 2)
    end, angle, found = here.copy(), heading.copy(), np.zeros(len(here), bool)
    for _ in range(ROUNDS):
        rows = np.flatnonzero(~found)
        angles = heading[rows, None] + random.uniform(-bend, bend, (len(rows), ATTEMPTS))
        steps = length * np.stack([np.cos(angles), np.sin(angles)])  # [2, rows, tries]
        x, y = (here[rows, axis, None, None] + shares * steps[axis, :, :, None] for axis in (0, 1))
        inside = (np.minimum(x, y)[..., -1] >= style.margin) & (np.maximum(x, y)[..., -1] <= 1 - style.margin)
        x_near, y_near = taken[rows, None, None, :, 0], taken[rows, None, None, :, 1]
        close = np.square(x[..., None] - x_near) + np.square(y[..., None] - y_near) < style.clearance**2
        good = inside & ~close.any((2, 3))  # NaN, where there is no curve, is close to nothing
        best, fits = good.argmax(1), good.any(1)
        chosen = rows[fits]
        end[chosen, 0], end[chosen, 1] = (each[fits, best[fits], -1] for each in (x, y))
        angle[chosen], found[chosen] = angles[fits, best[fits]], True
    return end, angle, found


def _points(curves: np.ndarray) -> np.ndarray:
    """Return the ends of all dashes of curves [N, K, J, 2] and points between them, [N, points, 2]."""
    starts, ends = curves[:, :, :-1], curves[:, :, 1:]
    between = [starts + (ends - starts) * share for share in (1 / 3, 2 / 3)]
    flat = [np.reshape(each, (len(curves), each.shape[1] * each.shape[2], 2)) for each in (curves, *between)]
    return np.concatenate(flat, 1)


def draw(found: Scenes, number: int, side: int, style: Style, *, dashed: bool = True) -> np.ndarray:
    """Return a picture, uint8 [side, side], white on black.

    Parameters
    ----------
    found : Scenes
    number : int
        Which of the pictures.
    side : int
        Its side in pixels.
    style : Style
    dashed : bool
        Leave the spaces between dashes empty.
    """
    from PIL import Image, ImageDraw

    large = side * SCALE
    image = Image.new("L", (large, large))
    canvas = ImageDraw.Draw(image)
    width = max(1, round(style.thickness * large))
    for curve in found.curves[number]:
        nodes = curve[~np.isnan(curve).any(1)] * large
        for index in range(len(nodes) - 1):
            start, end = nodes[index], nodes[index + 1]
            if dashed and index < len(nodes) - 2:
                end = start + (end - start) * style.dash / (style.dash + style.gap)
            canvas.line([*start, *end], fill=255, width=width)
    radius = style.marker * large
    for x, y in found.marks[number] * large:
        canvas.ellipse([x - radius, y - radius, x + radius, y + radius], fill=255)
    return np.asarray(image.resize((side, side), Image.Resampling.BOX))
