"""What stands beside the road: trees, posts, houses, hedges, sheds, portals of tunnels."""

from __future__ import annotations

import numpy as np

from benchmarks.datasets.drawing import random_state
from benchmarks.datasets.route.world import (
    BARE,
    FIELDS,
    FOREST,
    INDUSTRY,
    PARK,
    TUNNEL,
    VILLAGE,
    Stretch,
    World,
)

CONIFER, LEAFY, POST, LAMP, WALL, SIGN, HEDGE, BUSH, PORTAL, CAR = range(10)

FIELDS_OF = ("s", "n", "ds", "dn", "height", "width", "kind", "albedo", "phase", "lift")
"""Columns of a thing: place along the road and beside it, from there to the other end (0, 0 where it always faces the
camera), height and width in metres, what it is, its albedo, a random number, and the height of its foot."""


class Assets:
    """All things of a world, in the order of their place along the road.

    A thing is an upright rectangle: between two ends, or, where it has a width instead, facing the camera.

    Attributes
    ----------
    s : numpy.ndarray, shape [things]
        Metres along the road.
    x, y, z : numpy.ndarray
        One end, or the middle, and its foot.
    dx, dy : numpy.ndarray
        From there to the other end.
    width, height, albedo, phase : numpy.ndarray
    kind : numpy.ndarray of int8
    facing : numpy.ndarray
        Azimuth of the normal of a wall, in radians.
    """

    def __init__(self, world: World) -> None:
        rows = [row for stretch in world.stretches for row in _of(world, stretch)]
        table = np.concatenate(rows) if rows else np.zeros((0, len(FIELDS_OF)))
        table = table[np.argsort(table[:, 0], kind="stable")]
        columns = dict(zip(FIELDS_OF, table.T, strict=True))
        s, n = columns["s"], columns["n"]
        x0, y0, _, heading = world.point(s, n)
        # Things of a stretch are placed along its curved road; each is straight in itself.
        ahead, left = columns["ds"], columns["dn"]
        dx = ahead * np.cos(heading) - left * np.sin(heading)
        dy = ahead * np.sin(heading) + left * np.cos(heading)
        self.s = s
        self.x, self.y, self.dx, self.dy = (each.astype(np.float32) for each in (x0, y0, dx, dy))
        i = world.index(self.x)
        beside = np.clip((np.abs(n) - 4.5) / 7, 0, 1)
        ground = world.road_z[i] + beside**2 * (3 - 2 * beside) * world.bank[i]
        self.z = (ground + columns["lift"]).astype(np.float32)
        self.width, self.height, self.albedo, self.phase = (
            columns[name].astype(np.float32) for name in ("width", "height", "albedo", "phase")
        )
        self.kind = columns["kind"].astype(np.int8)
        self.facing = np.arctan2(-dx, dy).astype(np.float32)

    def __len__(self) -> int:
        return len(self.s)


def _things(count: int, **columns: np.ndarray | float) -> np.ndarray:
    table = np.zeros((count, len(FIELDS_OF)))
    for name, values in columns.items():
        table[:, FIELDS_OF.index(name)] = values
    return table


def _of(world: World, stretch: Stretch) -> list[np.ndarray]:
    """Return the things of one stretch, which its kind and asset tell alone."""
    random = random_state(*world.key, 9, stretch.kind, stretch.asset)
    length, start = stretch.end - stretch.start, stretch.start
    if stretch.kind == TUNNEL:
        portal = {"kind": PORTAL, "width": 22.0, "height": 11.0, "albedo": 0.33}
        return [_things(1, s=start, n=0.0, phase=random.random_sample(), **portal)]
    made = [_posts(random, start, length)]
    if stretch.kind == FOREST:
        made.append(_trees(random, start, length, 0.42, (5.5, 22.0), random.random_sample()))
    if stretch.kind == FIELDS:
        made.append(_trees(random, start, length, 0.07, (6.0, 45.0), 0.1))
        made.append(_bushes(random, start, length, 0.05))
        if random.random_sample() < 0.6:
            made.append(_hedge(random, start, length, 0.16))
        made += _houses(random, start, length, (9.0, 20.0), (4.0, 8.0), 14.0, (30.0, 120.0))
    if stretch.kind == VILLAGE:
        made += [*_houses(random, start, length, (8.0, 16.0), (4.0, 9.0), 7.0)]
        made += [_trees(random, start, length, 0.05, (5.0, 8.0), 0.05), _lamps(random, start, length, 30.0)]
        made.append(_signs(random, start, length, 0.03))
    if stretch.kind == INDUSTRY:
        made += [*_houses(random, start, length, (18.0, 40.0), (6.0, 13.0), 12.0)]
        made += [_hedge(random, start, length, 0.34), _lamps(random, start, length, 45.0)]
    if stretch.kind == PARK:
        made.append(_trees(random, start, length, 0.14, (5.0, 30.0), 0.2))
        made.append(_bushes(random, start, length, 0.10))
        made.append(_signs(random, start, length, 0.015))
    if stretch.kind == BARE:
        made = made[:1]
    return made


def _sides(random: np.random.RandomState, count: int) -> np.ndarray:
    return np.where(random.random_sample(count) < 0.5, -1.0, 1.0)


def _along(random: np.random.RandomState, start: float, length: float, density: float) -> np.ndarray:
    count = max(1, int(length * density * random.uniform(0.6, 1.4)))
    return start + length * random.random_sample(count)


def _posts(random: np.random.RandomState, start: float, length: float) -> np.ndarray:
    """Guide posts on both sides, every 25 m as everywhere: they tell no place from another."""
    s = np.repeat(np.arange(np.ceil(start / 25) * 25, start + length, 25.0), 2)
    n = np.tile([-4.6, 4.6], len(s) // 2)
    return _things(len(s), s=s, n=n, width=0.18, height=1.0, kind=POST, albedo=0.8)


def _lamps(random: np.random.RandomState, start: float, length: float, spacing: float) -> np.ndarray:
    s = np.arange(start + random.uniform(0, spacing), start + length, spacing)
    side = 1.0 if random.random_sample() < 0.5 else -1.0
    return _things(len(s), s=s, n=5.2 * side, width=0.22, height=7.0, kind=LAMP, albedo=0.25)


def _signs(random: np.random.RandomState, start: float, length: float, density: float) -> np.ndarray:
    s = _along(random, start, length, density)
    size = random.uniform(0.7, 2.2, len(s))
    return _things(
        len(s), s=s, n=_sides(random, len(s)) * random.uniform(4.6, 6.5, len(s)), width=size, height=size * 0.7,
        lift=random.uniform(1.2, 2.2, len(s)), kind=SIGN, albedo=random.uniform(0.15, 0.9, len(s)),
        phase=random.random_sample(len(s)),
    )  # fmt: skip


def _trees(
    random: np.random.RandomState,
    start: float,
    length: float,
    density: float,
    off: tuple[float, float],
    conifers: float,
) -> np.ndarray:
    s = _along(random, start, length, density)
    count = len(s)
    needles = random.random_sample(count) < conifers
    height = random.uniform(5.0, 14.0, count)
    width = height * np.where(needles, random.uniform(0.35, 0.5, count), random.uniform(0.6, 0.9, count))
    off_road = off[0] + (off[1] - off[0]) * random.random_sample(count) ** 1.7 + width * 0.35
    return _things(
        count, s=s, n=_sides(random, count) * off_road, width=width, height=height,
        kind=np.where(needles, CONIFER, LEAFY), albedo=random.uniform(0.6, 1.4, count),
        phase=random.random_sample(count),
    )  # fmt: skip


def _bushes(random: np.random.RandomState, start: float, length: float, density: float) -> np.ndarray:
    s = _along(random, start, length, density)
    height = random.uniform(0.8, 2.5, len(s))
    return _things(
        len(s), s=s, n=_sides(random, len(s)) * random.uniform(5.5, 15.0, len(s)),
        width=height * random.uniform(1.0, 2.0, len(s)), height=height, kind=BUSH,
        albedo=random.uniform(0.6, 1.4, len(s)), phase=random.random_sample(len(s)),
    )  # fmt: skip


def _hedge(random: np.random.RandomState, start: float, length: float, albedo: float) -> np.ndarray:
    """A hedge or wall along the road, in pieces of 10 m with gaps."""
    s = np.arange(start, start + length - 10, 10.0)
    s = s[random.random_sample(len(s)) < 0.75]
    side = 1.0 if random.random_sample() < 0.5 else -1.0
    off, height = random.uniform(5.5, 9.0), random.uniform(0.9, 2.4)
    return _things(
        len(s), s=s, n=side * off, ds=10.0, height=height, kind=HEDGE, albedo=albedo * random.uniform(0.7, 1.4),
        phase=random.random_sample(len(s)),
    )  # fmt: skip


def _houses(
    random: np.random.RandomState, start: float, length: float, front: tuple[float, float], tall: tuple[float, float],
    off: float, gaps: tuple[float, float] = (2.0, 22.0),
) -> list[np.ndarray]:  # fmt: skip
    """Houses in rows on both sides: the wall towards the road and both ends of each."""
    made = []
    for side in (-1.0, 1.0):
        place = start + random.uniform(0, gaps[1] / 2)
        while place < start + length - front[0]:
            long, deep, gap = random.uniform(*front), random.uniform(7.0, 12.0), random.uniform(*gaps)
            n = side * (off + random.uniform(0, 9))
            same = {
                "height": random.uniform(*tall), "albedo": random.uniform(0.18, 0.85), "kind": WALL,
                "phase": random.random_sample(),
            }  # fmt: skip
            ends = (place, long, 0.0), (place + long, 0.0, side * deep), (place, 0.0, side * deep)
            made += [_things(1, s=s, n=n, ds=ds, dn=dn, **same) for s, ds, dn in ends]
            place += long + gap
    return made
