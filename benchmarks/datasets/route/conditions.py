"""Light, season, weather and sensor of a pass."""

from __future__ import annotations

from dataclasses import dataclass

from neurons.errors import OptionError


@dataclass(frozen=True)
class Condition:
    """What a pass is made under.

    Attributes
    ----------
    azimuth, elevation : float
        Of the sun, in degrees: azimuth from the x axis, along which the route runs, to the left.
    sun, ambient : float
        Irradiance of the sun on a surface that faces it, and from everywhere.
    horizon, zenith : float
        Radiance of the sky.
    clouds : float
        Contrast of the clouds.
    grass, crop, leaf : float
        Albedo of meadows, fields and the leaves of deciduous trees.
    foliage : float
        Share of leaves on deciduous trees.
    snow : float
        Share of ground under snow.
    fog : float
        Extinction in 1/m.
    rain, dirt : float
        Contrast of streaks, and of stains on the lens.
    lamps : float
        Radiance of lamps and lit windows; they light the ground, and so do the own headlights.
    exposure : float
        Mean of the image that the exposure aims at, of 1.
    gain : float
        Largest exposure: radiance 1 / gain would still become 1.
    shot, read : float
        Standard deviation of the noise of a pixel of value 1, and of one of value 0, at exposure 1. Both grow with the
        exposure.
    traffic : float
        Chance of a car in an image.
    """

    azimuth: float = 60.0
    elevation: float = 30.0
    sun: float = 1.0
    ambient: float = 0.35
    horizon: float = 0.8
    zenith: float = 0.45
    clouds: float = 0.15
    grass: float = 0.30
    crop: float = 0.24
    leaf: float = 0.26
    foliage: float = 1.0
    snow: float = 0.0
    fog: float = 0.0012
    rain: float = 0.0
    dirt: float = 0.05
    lamps: float = 0.0
    exposure: float = 0.28
    gain: float = 4.0
    shot: float = 0.02
    read: float = 0.004
    traffic: float = 0.08


CONDITIONS = {
    "morning": Condition(azimuth=55.0, elevation=24.0, sun=1.1, ambient=0.32),
    "noon": Condition(azimuth=-80.0, elevation=62.0, sun=1.5, ambient=0.45, horizon=0.9, zenith=0.5),
    "overcast": Condition(
        sun=0.12,
        elevation=50.0,
        ambient=0.62,
        horizon=0.75,
        zenith=0.7,
        clouds=0.10,
        grass=0.24,
        crop=0.36,
        leaf=0.38,
        foliage=0.75,
        fog=0.003,
        dirt=0.08,
        traffic=0.12,
    ),
    "dusk": Condition(
        azimuth=-25.0,
        elevation=7.0,
        sun=0.30,
        ambient=0.10,
        horizon=0.42,
        zenith=0.12,
        clouds=0.2,
        grass=0.20,
        crop=0.20,
        leaf=0.18,
        foliage=0.9,
        fog=0.003,
        dirt=0.12,
        lamps=0.5,
        gain=3.0,
        shot=0.03,
        read=0.005,
        traffic=0.2,
    ),
    "night": Condition(
        sun=0.0,
        elevation=40.0,
        ambient=0.03,
        horizon=0.07,
        zenith=0.02,
        clouds=0.3,
        grass=0.22,
        crop=0.22,
        leaf=0.2,
        fog=0.003,
        dirt=0.2,
        lamps=0.4,
        gain=8.0,
        shot=0.06,
        read=0.005,
        traffic=0.3,
    ),
    "snow": Condition(
        azimuth=100.0,
        elevation=14.0,
        sun=0.5,
        ambient=0.45,
        horizon=0.55,
        zenith=0.45,
        foliage=0.3,
        leaf=0.12,
        snow=0.85,
        fog=0.005,
        dirt=0.1,
        traffic=0.12,
    ),
    "fog": Condition(
        sun=0.05,
        ambient=0.55,
        horizon=0.7,
        zenith=0.65,
        clouds=0.03,
        grass=0.22,
        crop=0.3,
        leaf=0.3,
        foliage=0.6,
        fog=0.022,
        dirt=0.15,
        traffic=0.15,
    ),
    "rain": Condition(
        sun=0.05,
        ambient=0.35,
        horizon=0.5,
        zenith=0.42,
        clouds=0.15,
        grass=0.22,
        crop=0.26,
        leaf=0.28,
        fog=0.008,
        rain=0.35,
        dirt=0.35,
        gain=3.5,
        shot=0.04,
        read=0.012,
        traffic=0.2,
    ),
}
"""What the name of a condition stands for. The references are ``morning``, in spring, and ``overcast``, in autumn."""


def condition(name: str) -> Condition:
    """Return the condition of that name.

    Raises
    ------
    OptionError
        Naming those that there are.
    """
    if name not in CONDITIONS:
        raise OptionError(f"dataset.condition must be one of {', '.join(CONDITIONS)}, not {name!r}")
    return CONDITIONS[name]
