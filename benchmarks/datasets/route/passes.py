"""Where the camera is on a pass along the route, and which place each of its images shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.datasets.drawing import random_state
from benchmarks.datasets.route.world import World

LANE = -1.6
"""Metres from the middle of the road to the camera: the right lane."""
EYE = 1.5
"""Height of the camera above the road in metres."""
DROPPED, STOPS = 0.03, 0.01
"""Chance of a frame to be lost, and of a stop to begin at it, where the speed is not constant."""


@dataclass(frozen=True, eq=False)
class Poses:
    """Poses of a camera, float64 arrays [images].

    Attributes
    ----------
    s : numpy.ndarray
        Metres along the road.
    x, y, z : numpy.ndarray
        Position in metres.
    yaw, pitch : numpy.ndarray
        Azimuth from the x axis and elevation of the view, in radians.
    """

    s: np.ndarray
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    yaw: np.ndarray
    pitch: np.ndarray

    def __len__(self) -> int:
        return len(self.s)

    def part(self, which: slice) -> Poses:
        """Return some of the poses."""
        return Poses(*(getattr(self, name)[which] for name in ("s", "x", "y", "z", "yaw", "pitch")))


def stations(key: tuple[int, ...], first: float, last: float, spacing: float, speed: float) -> np.ndarray:
    """Return where on the road images are taken from ``first`` to ``last`` metres, one every ``spacing`` on average.

    Parameters
    ----------
    key : tuple of int
        Seed.
    first, last, spacing : float
        In metres.
    speed : float
        0 for a constant speed. Otherwise the speed wanders between 1 - speed and 1 + speed of the mean, the camera
        stops at times for 3 to 8 images, and images get lost.
    """
    count = round((last - first) / spacing) + 1
    if speed == 0:
        return first + spacing * np.arange(count)
    random = random_state(*key, 1)
    made, place, pace, halt = [], first, 0.0, 0
    while place <= last + spacing / 2:
        lost, stops, long = random.random_sample(3)
        # an Ornstein-Uhlenbeck process of variance 1/4, with a memory of 20 images
        pace = 0.95 * pace + 0.5 * np.sqrt(1 - 0.95**2) * random.standard_normal()
        if lost >= DROPPED:
            made.append(place)
        halt = halt - 1 if halt else (3 + int(6 * long) if stops < STOPS else 0)
        if not halt:
            place += spacing * (1 + speed * float(np.clip(2 * pace, -1, 1)))
    return np.array(made)


def poses(world: World, s: np.ndarray, key: tuple[int, ...], lateral: float, yaw: float) -> Poses:
    """Return the poses of a camera at ``s`` metres along the road, driven by hand.

    Parameters
    ----------
    world : World
    s : numpy.ndarray, shape [images]
    key : tuple of int
        Seed.
    lateral : float
        Standard deviation of the place in the lane in metres; along the road it is twice that.
    yaw : float
        Standard deviation of the direction in degrees; up and down it is a quarter of that.
    """
    side, ahead, turn, nod = random_state(*key, 2).standard_normal((len(s), 4)).T
    s = s + 2 * lateral * ahead
    x, y, z, heading = world.point(s, np.full(len(s), LANE) + lateral * side)
    _, _, later, _ = world.point(s + 2.0, np.zeros(len(s)))
    angle = np.deg2rad(yaw)
    return Poses(s, x, y, z + EYE, heading + angle * turn, np.arctan2(later - z, 2.0) + angle / 4 * nod)


def truth(places: np.ndarray, queries: np.ndarray, spacing: float) -> np.ndarray:
    """Return which place each query shows, bool [places, queries]: the nearest, if at most ``spacing`` metres away.

    Half of ``spacing`` is where the next place begins; the rest is for the ends of the map.
    """
    nearest = np.abs(places[:, None] - queries[None]).argmin(0)
    near = np.abs(places[nearest] - queries) <= spacing
    found = np.zeros((len(places), len(queries)), bool)
    found[nearest[near], np.flatnonzero(near)] = True
    return found
