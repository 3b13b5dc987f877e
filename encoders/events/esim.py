"""ESIM: events at the exact times at which interpolated log intensity crosses levels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from encoders.events.stream import Collector, Events, checked, thresholds
from neurons.errors import OptionError

TOLERANCE = 1e-9
"""Part of a threshold by which a level counts as reached: rounding must not decide whether there is an event."""


def esim(
    frames: Tensor,
    times: Tensor | Sequence[float],
    threshold: float = 0.2,
    threshold_sd: float = 0.0,
    *,
    refractory: float = 0.0,
    log: bool = True,
    generator: torch.Generator | None = None,
) -> Events:
    r"""Return the events of a film whose log intensity goes in straight lines from frame to frame.

    A pixel remembers a level, at first its log intensity in the first frame. Where

    .. math:: L(t) \ge L_{ref} + C^+ \quad\text{or}\quad L(t) \le L_{ref} - C^-,

    it sends an event at that very time and the level moves by the threshold :math:`C^\pm`. An event within the
    refractory time after the last one that was sent is lost, its level moves nevertheless. H. Rebecq, D. Gehrig and
    D. Scaramuzza, ESIM: an open event camera simulator, CoRL 2018. Frames are to be close enough that nothing moves
    by more than about a pixel between them.

    Parameters
    ----------
    frames : Tensor, shape [T, H, W]
        Log intensity; with ``log=False`` intensity above 0, whose logarithm is taken.
    times : Tensor or sequence, shape [T]
        Microseconds of each frame, increasing.
    threshold, threshold_sd : float
        Mean and standard deviation over pixels of :math:`C^+` and of :math:`C^-`, in units of log intensity.
    refractory : float
        Microseconds.
    log : bool
    generator : torch.Generator, optional
        Needed where ``threshold_sd`` is positive.

    Returns
    -------
    Events

    Raises
    ------
    ShapeError, DataError, OptionError
        For frames, times or numbers that make no sense.
    """
    film, at = checked(frames, times, "esim")
    if refractory < 0:
        raise OptionError(f"esim: refractory must not be negative, not {refractory}")
    if not log:
        if not bool((film > 0).all()):
            raise OptionError(
                "esim: intensities must be above 0, so that they have a logarithm; add a dark level first"
            )
        film = film.log()
    brighter, darker = thresholds(threshold, threshold_sd, film.shape[1], generator, "esim")
    level = film[0].clone()
    last = torch.full_like(level, -torch.inf)
    found = Collector(*frames.shape[1:])
    for before, now, start, end in zip(film[:-1], film[1:], at[:-1].tolist(), at[1:].tolist(), strict=True):
        rises = now > before
        step = torch.where(rises, brighter, darker)
        sign = torch.where(rises, 1.0, -1.0).to(film.dtype)
        number = (sign * (now - level) / step + TOLERANCE).floor().clamp(min=0).where(now != before, 0.0)
        pixel = number.nonzero().flatten()
        ordinal = 1
        while len(pixel):
            reached = level[pixel] + sign[pixel] * step[pixel] * ordinal
            share = ((reached - before[pixel]) / (now[pixel] - before[pixel])).clamp(0.0, 1.0)
            time = start + share * (end - start)
            sent = time - last[pixel] >= refractory
            last[pixel[sent]] = time[sent]
            found.add(time[sent], pixel[sent], sign[pixel[sent]])
            ordinal += 1
            pixel = pixel[number[pixel] >= ordinal]
        level += sign * step * number
    return found.events()
