"""A stream of events, and counts of it in bins of time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from neurons.errors import DataError, OptionError, ShapeError


class Events(NamedTuple):
    """Events in the order of their time; at the same time, in the order of rows and columns.

    Attributes
    ----------
    t : Tensor of int64, shape [N]
        Microseconds.
    x, y : Tensor of int64, shape [N]
        Column and row.
    p : Tensor of int64, shape [N]
        1 where it became brighter, -1 where darker.
    """

    t: Tensor
    x: Tensor
    y: Tensor
    p: Tensor


def counts(
    events: Events, bins: int, height: int, width: int, *, start: int | None = None, end: int | None = None,
    polarities: bool = False,
) -> Tensor:  # fmt: skip
    """Return how many events each pixel sent in each of ``bins`` equal parts of the time.

    Parameters
    ----------
    events : Events
    bins : int
    height, width : int
    start, end : int, optional
        Microseconds between which the bins lie, the end included in the last; when left out, those of the first and
        the last event. Events outside are not counted.
    polarities : bool
        Count brighter and darker ones apart.

    Returns
    -------
    Tensor of int64, shape [bins, 1 or 2, height, width]
        With ``polarities`` the brighter ones are channel 0.

    Raises
    ------
    OptionError
        For fewer than one bin or an end that is not after the start.
    DataError
        For events outside the image.
    """
    if bins < 1:
        raise OptionError(f"bins must be at least 1, not {bins}")
    t, x, y, p = events
    if len(t) and (min(int(x.min()), int(y.min())) < 0 or int(x.max()) >= width or int(y.max()) >= height):
        raise DataError(
            f"events from column {int(x.min())} to {int(x.max())} and row {int(y.min())} to {int(y.max())} do not lie "
            f"in an image of {height} x {width}"
        )
    channels = 2 if polarities else 1
    if start is None:
        start = int(t.min()) if len(t) else 0
    if end is None:
        end = max(int(t.max()), start + 1) if len(t) else start + 1
    if end <= start:
        raise OptionError(f"events are counted from start to end, which must be after it, not {start} to {end}")
    inside = (t >= start) & (t <= end)
    place = ((t - start) * bins // (end - start)).clamp(max=bins - 1)
    channel = (p < 0).to(torch.int64) if polarities else torch.zeros_like(p)
    flat = ((place * channels + channel) * height + y) * width + x
    total = torch.bincount(flat[inside], minlength=bins * channels * height * width)
    return total.reshape(bins, channels, height, width)


class Collector:
    """Gathers events of pixels, in whatever order they come, and sorts them at the end."""

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.parts: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, time: Tensor, pixel: Tensor, polarity: Tensor) -> None:
        """Take events at ``time`` in microseconds, of any precision, of flat pixels."""
        if len(pixel):
            self.parts.append((time.round().to(torch.int64), pixel, polarity.to(torch.int64)))

    def events(self) -> Events:
        """Return all of them."""
        if not self.parts:
            none = torch.zeros(0, dtype=torch.int64)
            return Events(none, none, none, none)
        t, pixel, p = (torch.cat(column) for column in zip(*self.parts, strict=True))
        order = torch.argsort(pixel, stable=True)
        order = order[torch.argsort(t[order], stable=True)]
        t, pixel, p = t[order], pixel[order], p[order]
        return Events(t, pixel % self.width, pixel // self.width, p)


def checked(frames: Tensor, times: Tensor | Sequence[float], name: str) -> tuple[Tensor, Tensor]:
    """Return frames [T, pixels] and their times [T], float64.

    Raises
    ------
    ShapeError
        When these are no frames with a time each.
    DataError
        When times do not increase, or values are not finite.
    """
    if frames.dim() != 3 or not frames.numel():
        raise ShapeError(f"{name} takes frames [T, H, W], not {list(frames.shape)}")
    at = torch.as_tensor(times, dtype=torch.float64)
    if at.shape != frames.shape[:1]:
        raise ShapeError(f"{name} needs a time for each of {len(frames)} frames, not {list(at.shape)}")
    if not bool((at[1:] > at[:-1]).all()):
        raise DataError(f"{name}: times of frames must increase")
    film = frames.to(torch.float64).flatten(1)
    if not bool(torch.isfinite(film).all()):
        raise DataError(f"{name}: frames hold NaN or infinity")
    return film, at


def thresholds(
    threshold: float, sd: float, pixels: int, generator: torch.Generator | None, name: str
) -> tuple[Tensor, Tensor]:
    """Return the thresholds of each pixel, brighter and darker, float64 [pixels], at least a tenth of the mean.

    Raises
    ------
    OptionError
        For a threshold that is not positive, or a spread without a generator.
    """
    if not threshold > 0:
        raise OptionError(f"{name}: threshold must be positive, not {threshold}")
    if sd < 0:
        raise OptionError(f"{name}: threshold_sd must not be negative, not {sd}")
    if sd == 0:
        same = torch.full((pixels,), threshold, dtype=torch.float64)
        return same, same.clone()
    if generator is None:
        raise OptionError(f"{name}: thresholds with a spread are drawn, which needs an explicit generator")
    drawn = torch.randn(2, pixels, generator=generator, dtype=torch.float64) * sd + threshold
    brighter, darker = drawn.clamp(min=threshold / 10)
    return brighter, darker
