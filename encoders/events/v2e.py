"""v2e: events of frames as a real sensor sends them, with slow dark pixels, uneven thresholds, leak and shot noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from encoders.events.esim import TOLERANCE
from encoders.events.stream import Collector, Events, checked, thresholds
from neurons.errors import OptionError

LINEAR = 20.0
"""Intensity, of 255, below which the map is linear."""
BRIGHT_NOISE = 0.25
"""Shot noise at full intensity, as part of that in the dark."""


@dataclass(frozen=True)
class V2E:
    """Settings of the sensor.

    Attributes
    ----------
    threshold, threshold_sd : float
        Mean and standard deviation over pixels, in units of log intensity.
    cutoff : float
        Bandwidth of a pixel at full intensity in Hz, in proportion to the intensity below; 0 for no filter.
    leak : float
        Brighter events that a pixel sends each second without any change.
    shot : float
        Events of noise, of either sign, that a dark pixel sends each second.
    """

    threshold: float = 0.2
    threshold_sd: float = 0.03
    cutoff: float = 200.0
    leak: float = 0.01
    shot: float = 0.001

    def __post_init__(self) -> None:
        for name in ("cutoff", "leak", "shot"):
            if not 0 <= getattr(self, name) < math.inf:
                raise OptionError(f"v2e: {name} must not be negative, not {getattr(self, name)}")


PRESETS = {
    "clean": V2E(threshold_sd=0.02, cutoff=0.0, leak=0.0, shot=0.0),
    "noisy": V2E(threshold_sd=0.05, cutoff=30.0, leak=0.1, shot=5.0),
}
"""Settings by name, those that v2e has under these names."""


def lin_log(intensity: Tensor) -> Tensor:
    """Return the logarithm of intensities in 0..255, linear below 20 and equal to it there."""
    return torch.where(intensity <= LINEAR, intensity * (math.log(LINEAR) / LINEAR), intensity.clamp(min=1.0).log())


def linearised(grey: Tensor) -> Tensor:
    """Return intensities in 0..255 of sRGB grey values in 0..255."""
    share = grey.to(torch.float64) / 255.0
    return 255.0 * torch.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def v2e(
    frames: Tensor,
    times: Tensor | Sequence[float],
    settings: V2E | str = "clean",
    *,
    srgb: bool = False,
    generator: torch.Generator | None = None,
) -> Events:
    r"""Return the events of a film as a real sensor would send them.

    Intensity I of 0..255 becomes L by a map that is linear below 20 and a logarithm above, goes through a low-pass
    filter whose bandwidth is that of the intensity,

    .. math:: V \leftarrow V + \min\big(1,\; 2 \pi f \tfrac{I + 20}{275} \Delta t\big) (L - V),

    and is compared with the level of the last event once for each frame: a pixel sends
    :math:`\lfloor (V - V_{ref}) / \theta^+ \rfloor` brighter events, or as many darker ones the other way, in equal
    distances up to the time of the frame. Between frames the level leaks downwards, which makes brighter events, and
    noise sends events at random times, in full light a quarter as often as in the dark, and the more often the lower
    the threshold of a pixel; they move no level.
    Y. Hu, S.-C. Liu and T. Delbruck, v2e: from video frames to realistic DVS events, CVPR workshops 2021.

    Parameters
    ----------
    frames : Tensor, shape [T, H, W]
        Intensity in 0..255, or grey values.
    times : Tensor or sequence, shape [T]
        Microseconds of each frame, increasing.
    settings : V2E or {"clean", "noisy"}
    srgb : bool
        Frames are sRGB grey values, made linear first.
    generator : torch.Generator, optional
        Needed where thresholds have a spread or there is noise.

    Returns
    -------
    Events

    Raises
    ------
    ShapeError, DataError, OptionError
        For frames, times or settings that make no sense.
    """
    film, at = checked(frames, times, "v2e")
    chosen = _settings(settings)
    if not (float(film.min()) >= 0 and float(film.max()) <= 255):
        raise OptionError(f"v2e: intensities must lie in 0..255, found {float(film.min()):g} to {float(film.max()):g}")
    if srgb:
        film = linearised(film)
    pixels = film.shape[1]
    brighter, darker = thresholds(chosen.threshold, chosen.threshold_sd, pixels, generator, "v2e")
    if chosen.shot and generator is None:
        raise OptionError("v2e: shot noise is drawn, which needs an explicit generator")
    value = lin_log(film[0])
    level = value.clone()
    found = Collector(*frames.shape[1:])
    for light, start, end in zip(film[1:], at[:-1].tolist(), at[1:].tolist(), strict=True):
        seconds = (end - start) / 1e6
        share = torch.ones_like(light)
        if chosen.cutoff:
            share = (2 * math.pi * chosen.cutoff * seconds * (light + LINEAR) / (255.0 + LINEAR)).clamp(max=1.0)
        value = value + share * (lin_log(light) - value)
        level = level - chosen.leak * chosen.threshold * seconds
        change = value - level
        step = torch.where(change > 0, brighter, darker)
        number = (change.abs() / step + TOLERANCE).floor()
        level = level + change.sign() * number * step
        pixel = torch.repeat_interleave(torch.arange(pixels), number.to(torch.int64))
        total = number.to(torch.int64).cumsum(0)
        ordinal = torch.arange(1, len(pixel) + 1) - (total - number.to(torch.int64))[pixel]
        found.add(start + (end - start) * ordinal / number[pixel], pixel, change.sign()[pixel])
        if chosen.shot:
            dark = 1.0 - (1.0 - BRIGHT_NOISE) * (light + LINEAR) / (255.0 + LINEAR)
            for sign, own in ((1, brighter), (-1, darker)):
                expected = chosen.shot / 2 * seconds * dark * chosen.threshold / own
                noise = torch.poisson(expected, generator=generator).to(torch.int64)
                pixel = torch.repeat_interleave(torch.arange(pixels), noise)
                when = torch.rand(len(pixel), generator=generator, dtype=torch.float64)
                found.add(start + (end - start) * when, pixel, torch.full_like(pixel, sign))
    return found.events()


def _settings(settings: V2E | str) -> V2E:
    if isinstance(settings, V2E):
        return settings
    if settings not in PRESETS:
        raise OptionError(f"v2e: settings must be one of {', '.join(PRESETS)} or V2E(...), not {settings!r}")
    return PRESETS[settings]
