"""The world along a route: terrain, a road through it, and stretches of different character."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.datasets.drawing import random_state
from benchmarks.datasets.route.noise import Tile, along

STEP = 0.5
"""Metres between two entries of the tables along the road."""
LEAD = 300.0
"""Metres of road before the first place."""
AHEAD = 1400.0
"""Metres of road after the last place: what is seen from there depends on no end of the world."""
TURN = 0.75
"""Largest angle between the road and the x axis, in radians: the road never meets itself again."""
ROAD = 3.4
"""Half the width of the road in metres."""

FOREST, FIELDS, VILLAGE, INDUSTRY, PARK, BARE, TUNNEL = range(7)
KINDS = ("forest", "fields", "village", "industry", "park", "bare", "tunnel")
SHARES = (0.24, 0.26, 0.22, 0.12, 0.16)
"""How often a stretch with features is of each of the first five kinds."""
LIBRARY = 3
"""Stretches of each kind that repeated ones are copied from."""


@dataclass(frozen=True)
class Stretch:
    """A part of the route of one character.

    Attributes
    ----------
    start, end : float
        Metres along the road.
    kind : int
    asset : int
        Which set of things stands there: those of stretches with the same number and kind are the same.
    bank : float
        Height in metres of the ground beside the road above it: a cutting, or negative, an embankment.
    """

    start: float
    end: float
    kind: int
    asset: int
    bank: float


class World:
    """Terrain and a road: heights, and tables along x of where the road is and what is beside it.

    The road winds along the x axis, ``y = road_y(x)``, at most 43 degrees off it, so that each point of the plain has
    one place of the road beside it: s metres along the road and n metres to the left. Heights are those of the road
    next to it, banks and hills farther off.

    Parameters
    ----------
    key : tuple of int
        Seed. Worlds of one seed and different lengths are the same where both are.
    length : float
        Metres of route.
    aliasing : float
        Share, from 0 to 1, of what looks like elsewhere: of stretches, that share is copied from a small library, and
        half of that share has no features at all: bare land and tunnels.
    """

    def __init__(self, key: tuple[int, ...], length: float, aliasing: float) -> None:
        self.key, self.length, self.aliasing = key, length, aliasing
        x = np.arange(0.0, LEAD + length + AHEAD, STEP)
        bend = along((*key, 1), x, 160.0) * 0.5 + along((*key, 2), x, 600.0) * 0.45
        heading = TURN * np.tanh(bend)
        self.road_s = np.concatenate([[0.0], np.cumsum(STEP / np.cos(heading))[:-1]]) - LEAD
        road_y = np.concatenate([[0.0], np.cumsum(STEP * np.tan(heading))[:-1]])
        road_z = 9.0 * along((*key, 3), x, 420.0) + 1.2 * along((*key, 4), x, 90.0)
        self.heading = heading
        self.road_y, self.road_z = road_y.astype(np.float32), road_z.astype(np.float32)
        self.cosine, self.slope = np.cos(heading).astype(np.float32), np.tan(heading).astype(np.float32)
        self.stretches = self._stretches(float(self.road_s[-1]))
        self.hills = Tile((*key, 5), 3.0)
        self.land = Tile((*key, 6), 1.8)
        self.fine = Tile((*key, 7), 0.9, 4)
        self._characters()

    def _stretches(self, until: float) -> list[Stretch]:
        random = random_state(*self.key, 8)
        made: list[Stretch] = []
        start = -LEAD
        while start < until:
            which, dull, copied = random.random_sample(3)
            own = random.randint(LIBRARY)
            kind = int(np.searchsorted(np.cumsum(SHARES), which * sum(SHARES)))
            if dull < self.aliasing / 2:
                kind = TUNNEL if which < 0.4 else BARE
            asset = int(own) if copied < self.aliasing else LIBRARY + len(made)
            made.append(self._stretch(start, kind, asset))
            start = made[-1].end
        return made

    def _stretch(self, start: float, kind: int, asset: int) -> Stretch:
        """Return a stretch, whose length and bank are those of all with the same kind and asset."""
        length, bank = random_state(*self.key, 10, kind, asset).random_sample(2)
        height = 0.0 if kind in (VILLAGE, INDUSTRY, TUNNEL) else 9.0 * (bank - 0.5)
        return Stretch(start, start + 10.0 * (6 + int(13 * length)), kind, asset, height)

    def _characters(self) -> None:
        """Write what the stretches are into tables along x."""
        starts = np.array([stretch.start for stretch in self.stretches])
        which = np.clip(np.searchsorted(starts, self.road_s, "right") - 1, 0, None)
        kinds = np.array([stretch.kind for stretch in self.stretches])
        banks = np.array([stretch.bank for stretch in self.stretches])
        soft = np.hanning(61)
        soft /= soft.sum()

        def softened(values: np.ndarray) -> np.ndarray:
            padded = np.pad(values, 30, mode="edge")
            return np.convolve(padded, soft, "valid").astype(np.float32)

        self.kind = kinds[which].astype(np.int8)
        self.bank = softened(banks[which].astype(float))
        self.forest = softened((self.kind == FOREST).astype(float))
        self.paved = softened(np.isin(self.kind, (VILLAGE, INDUSTRY)).astype(float))
        self.bare = softened(np.isin(self.kind, (BARE, TUNNEL)).astype(float))
        self.where = self.road_s.astype(np.float32)

    def index(self, x: np.ndarray) -> np.ndarray:
        """Return the entry of the tables for x in metres."""
        return np.clip((x * np.float32(1 / STEP)).astype(np.int32), 0, len(self.road_y) - 1)

    def beside(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the entry of the tables for points, and how many metres these are to the left of the road, float32."""
        i = self.index(x)
        straight = self.road_y[i] + (x - i * np.float32(STEP)).clip(0, STEP) * self.slope[i]
        return i, (y - straight) * self.cosine[i]

    def height(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the height in metres of the ground, and of the tops of forests off the road, float32."""
        i, n = self.beside(x, y)
        n = np.abs(n)
        beside = np.clip((n - 4.5) * np.float32(1 / 7), 0, 1)
        beside *= beside * (3 - 2 * beside)
        off = np.clip((n - 10) * np.float32(1 / 120), 0, 1)
        hills = self.hills.smooth(x, y, 2600.0)
        ground = self.road_z[i] + beside * self.bank[i] + off * (18 + off * 26) * hills * (1 - 0.6 * self.bare[i])
        wood = self.forest[i] * np.clip((n - 17) * np.float32(1 / 4), 0, 1)
        return ground + wood * (7 + 1.6 * self.land.at(x, y, 90.0))

    def point(self, s: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return x, y, the height of the road and its heading for points s metres along the road, n to the left."""
        place = np.interp(s, self.road_s, np.arange(len(self.road_s)))
        i = np.minimum(place.astype(np.int64), len(self.road_s) - 2)
        share = place - i
        heading = self.heading[i] * (1 - share) + self.heading[i + 1] * share
        x, y, z = (
            np.asarray(table[i] * (1 - share) + table[i + 1] * share, np.float64)
            for table in (np.arange(len(self.road_s)) * STEP, self.road_y, self.road_z)
        )
        return x - n * np.sin(heading), y + n * np.cos(heading), z, heading
