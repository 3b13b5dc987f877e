"""Sequence matching: how alike the last L frames of a query are to the ways along the map that end at a place.

``diagonal`` goes one place with every frame, as VPRSNN does (S. Hussaini, M. Milford, T. Fischer, Applications of
Spiking Neural Networks in Visual Place Recognition, IEEE T-RO 2025), which is SeqSLAM without its search for a speed.
``velocities`` takes the best of the straight lines between two speeds (M. Milford and G. Wyeth, SeqSLAM, ICRA 2012).
``path`` takes the best way of steps of none to three places, found by dynamic programming, so that stops, frames that
were dropped and changes of speed within the window cost little. All of them look back only: a window ends at the frame
that is answered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil, floor
from typing import Literal, get_args

import torch
from torch import Tensor

from neurons.errors import OptionError

Matching = Literal["diagonal", "velocities", "path"]

STEPS = 3
"""The most places that ``path`` goes on with a frame."""

ENTRIES = 1 << 21
"""Scores that are worked on at a time."""


def check_matching(matching: str, speeds: Sequence[float], penalty: float) -> None:
    """Raise an OptionError where options of :func:`sequence_scores` are outside their domains."""
    if matching not in get_args(Matching):
        raise OptionError(f"matching is {', '.join(map(repr, get_args(Matching)))}, not {matching!r}")
    if not isinstance(speeds, list | tuple) or len(speeds) != 2 or not 0 < speeds[0] <= 1 <= speeds[1] < float("inf"):
        raise OptionError(f"speeds are the slowest, above 0 and at most 1, and the fastest, at least 1, not {speeds}")
    if not 0 <= penalty < float("inf"):
        raise OptionError(f"penalty must be at least 0, not {penalty}")


def sequence_scores(
    similarity: Tensor,
    length: int,
    matching: Matching = "diagonal",
    *,
    speeds: tuple[float, float] = (0.5, 2.0),
    penalty: float = 0.5,
) -> Tensor:
    """Return how alike each place is to the end of each window of frames, as a mean over the window.

    Parameters
    ----------
    similarity : Tensor, shape [P, Q]
        Of places along the map to queries in the order in which they were seen; higher is more alike. A place without
        a score (-inf) counts in a window as the one that is least alike to that frame, and a frame without any score
        says nothing.
    length : int
        Frames of a window, from 1; 1 gives the similarity itself.
    matching : {"diagonal", "velocities", "path"}
        ``diagonal``: the mean of S[p - k, q - k]. ``velocities``: the best line through (p, q) that goes back a whole
        number of places over the window, at a speed within ``speeds``. ``path``: the best way of 0 to 3 places a frame;
        a step of d places takes ``penalty`` |d - 1| standard deviations (of the frame's similarities over places) off.
    speeds : (float, float)
        Slowest and fastest of ``velocities``, in places a frame.
    penalty : float
        Of ``path``; 0 lets it wander freely.

    Returns
    -------
    Tensor of float64, shape [P, Q - length + 1]
        Column j is the window of frames j to j + length - 1, and answers the last of them. -inf where a window would
        begin before the map does: for the first length - 1 places of ``diagonal``, so that as many windows as there are
        on the diagonal of a square matrix remain.

    Raises
    ------
    OptionError
        When the matching is unknown, or the window is longer than the map or the queries.
    """
    check_matching(matching, speeds, penalty)
    places, queries = similarity.shape
    if not 1 <= length <= min(places, queries):
        raise OptionError(f"lengths: a window of {length} frames does not fit {places} places and {queries} queries")
    if length == 1:
        return similarity.to(torch.float64)
    found = torch.empty(places, queries - length + 1, dtype=torch.float64)
    for first, last in column_blocks(places, found.shape[1]):
        frames = _filled(similarity[:, first : last + length - 1].to(torch.float64))
        if matching == "path":
            found[:, first:last] = _path(frames, length, penalty)
        else:
            low, high = speeds if matching == "velocities" else (1.0, 1.0)
            found[:, first:last] = _lines(frames, length, low, high)
    return found


def column_blocks(rows: int, columns: int) -> Iterator[tuple[int, int]]:
    """Yield ranges [first, last) of columns that hold about ``ENTRIES`` entries."""
    step = max(1, ENTRIES // rows)
    for first in range(0, columns, step):
        yield first, min(columns, first + step)


def _filled(frames: Tensor) -> Tensor:
    """Return scores [P, C] with the lowest of its frame where a place has none; 0 in a frame without any."""
    missing = torch.isneginf(frames)
    if not bool(missing.any()):
        return frames
    lowest = frames.masked_fill(missing, torch.inf).amin(dim=0)
    lowest = torch.where(torch.isinf(lowest), torch.zeros_like(lowest), lowest)
    return torch.where(missing, lowest, frames)


def _lines(frames: Tensor, length: int, slowest: float, fastest: float) -> Tensor:
    """Return the best mean over lines that go back D places in a window, D / (length - 1) between two speeds."""
    places, columns = frames.shape[0], frames.shape[1] - length + 1
    gaps = length - 1
    best = frames.new_full((places, columns), -torch.inf)
    # without a small allowance a speed such as 1.1 over ten gaps would lose its last line to rounding
    for back in range(ceil(slowest * gaps - 1e-9), min(floor(fastest * gaps + 1e-9), places - 1) + 1):
        total = frames.new_zeros(places - back, columns)
        for k in range(length):
            row = back - (2 * back * k + gaps) // (2 * gaps)  # back * k / gaps, to the nearest place
            total += frames[row : row + places - back, gaps - k : gaps - k + columns]
        torch.maximum(best[back:], total, out=best[back:])
    return best / length


def _path(frames: Tensor, length: int, penalty: float) -> Tensor:
    """Return the best mean over ways of 0 to ``STEPS`` places a frame, less the price of their steps."""
    price = penalty * frames.std(dim=0, unbiased=False)
    best = frames
    for k in range(1, length):
        # column j of ``best`` ends at frame j + k - 1, and goes on to frame j + k
        before, now = best[:, :-1], frames[:, k:]
        longer = before - price[k:]
        torch.maximum(longer[1:], before[:-1], out=longer[1:])
        for step in range(2, min(STEPS, len(frames) - 1) + 1):
            torch.maximum(longer[step:], before[:-step] - price[k:] * (step - 1), out=longer[step:])
        best = longer.add_(now)
    return best / length
