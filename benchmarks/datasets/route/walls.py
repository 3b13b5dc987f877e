"""Upright rectangles before a camera: which pixels each covers, the nearest on top."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.datasets.route.assets import Assets
from benchmarks.datasets.route.terrain import FOCAL, View

REACH = 170.0
"""Metres along the road up to which things are drawn."""
CLOSEST = 1.0
"""Depth in metres at which things are cut off."""


@dataclass(frozen=True, eq=False)
class Upright:
    """Rectangles before cameras, arrays [K]; ``camera`` says before which of them.

    Attributes
    ----------
    thing : numpy.ndarray of int64
        Its place among the assets.
    left, ahead : numpy.ndarray
        Of one end, in metres from the camera.
    to_left, to_ahead : numpy.ndarray
        From there to the other.
    foot, height : numpy.ndarray
        In metres from the camera.
    length : numpy.ndarray
        From end to end in metres.
    """

    camera: np.ndarray
    thing: np.ndarray
    left: np.ndarray
    ahead: np.ndarray
    to_left: np.ndarray
    to_ahead: np.ndarray
    foot: np.ndarray
    height: np.ndarray
    length: np.ndarray


@dataclass(frozen=True, eq=False)
class Covered:
    """Pixels that uprights cover, the farthest first, arrays [pixels].

    Attributes
    ----------
    upright : numpy.ndarray of int64
        Which one.
    pixel : numpy.ndarray of int64
        Flat place in [B, size, size].
    depth : numpy.ndarray
        In metres.
    along, above : numpy.ndarray
        Place on the rectangle, in parts of its length and height.
    """

    upright: np.ndarray
    pixel: np.ndarray
    depth: np.ndarray
    along: np.ndarray
    above: np.ndarray


def ranges(first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for ranges from ``first`` up to, not including, ``last`` which range each member is of, and the member."""
    counts = np.maximum(last - first, 0)
    owner = np.repeat(np.arange(len(first)), counts)
    ends = np.cumsum(counts)
    return owner, np.arange(len(owner)) - (ends - counts)[owner] + first[owner]


def before(assets: Assets, view: View) -> Upright:
    """Return the things before each camera."""
    cameras = view.poses
    first = np.searchsorted(assets.s, cameras.s - 45.0)
    last = np.searchsorted(assets.s, cameras.s + REACH)
    camera, thing = ranges(first, last)
    cosine, sine = np.cos(cameras.yaw)[camera], np.sin(cameras.yaw)[camera]

    def turned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return (y * cosine - x * sine).astype(np.float32), (x * cosine + y * sine).astype(np.float32)

    left, ahead = turned(assets.x[thing] - cameras.x[camera], assets.y[thing] - cameras.y[camera])
    to_left, to_ahead = turned(assets.dx[thing], assets.dy[thing])
    width = assets.width[thing]
    faces = width > 0
    left, to_left = np.where(faces, left + width / 2, left), np.where(faces, -width, to_left)
    to_ahead = np.where(faces, 0, to_ahead)
    foot = assets.z[thing] - cameras.z[camera].astype(np.float32)
    height = assets.height[thing]
    return Upright(camera, thing, left, ahead, to_left, to_ahead, foot, height, np.hypot(to_left, to_ahead))


def joined(one: Upright, other: Upright) -> Upright:
    """Return both."""
    names = ("camera", "thing", "left", "ahead", "to_left", "to_ahead", "foot", "height", "length")
    return Upright(*(np.concatenate([getattr(one, name), getattr(other, name)]) for name in names))


def cover(up: Upright, view: View) -> Covered:
    """Return the pixels that uprights cover before the ground does."""
    size = view.size
    # the parts of both ends that lie before the camera, as shares of the length
    with np.errstate(divide="ignore", invalid="ignore"):
        cut = (CLOSEST - up.ahead) / up.to_ahead
    begin = np.where(up.ahead < CLOSEST, np.where(up.to_ahead > 0, cut, 2.0), 0.0)
    end = np.where(up.ahead + up.to_ahead < CLOSEST, np.where(up.to_ahead < 0, cut, -1.0), 1.0)
    seen = np.flatnonzero(begin < end)
    begin, end = begin[seen], end[seen]
    near, far = (up.ahead[seen] + share * up.to_ahead[seen] for share in (begin, end))
    edges = [(up.left[seen] + share * up.to_left[seen]) / depth for share, depth in ((begin, near), (end, far))]
    columns = np.sort([(0.5 - FOCAL * edge) * size - 0.5 for edge in edges], axis=0)
    raised = view.up[:, 0][up.camera[seen]] * FOCAL * size  # rows from the first row's centre to the horizon
    closest = np.minimum(near, far)
    heights = [(up.foot[seen] + part * up.height[seen]) / closest for part in (0, 1)]
    farther = [(up.foot[seen] + part * up.height[seen]) / np.maximum(near, far) for part in (0, 1)]
    rows = np.sort([raised - FOCAL * size * slope for slope in (*heights, *farther)], axis=0)
    left, right = np.ceil(columns[0]).clip(0, size), np.floor(columns[1]).clip(-1, size - 1) + 1
    top, bottom = np.ceil(rows[0]).clip(0, size), np.floor(rows[-1]).clip(-1, size - 1) + 1
    # things thinner than a pixel still show in the one that they are in
    thin = (right <= left) & (columns[1] > 0) & (columns[0] < size - 1)
    left = np.where(thin, np.round((columns[0] + columns[1]) / 2), left)
    right = np.where(thin, left + 1, right)
    order = np.argsort(-(near + far), kind="stable")
    order = order[(right > left)[order] & (bottom > top)[order]]
    box, x = ranges(left[order].astype(np.int64), right[order].astype(np.int64))
    strip = order[box]
    of = seen[strip]
    ray = view.left[x]
    # where the ray of the column meets the wall: left + t to_left = ray (ahead + t to_ahead)
    across = up.to_left[of] - ray * up.to_ahead[of]
    t = (ray * up.ahead[of] - up.left[of]) / np.where(np.abs(across) < 1e-9, 1e-9, across)
    t = np.where(thin[strip], 0.5, t)
    depth = up.ahead[of] + t * up.to_ahead[of]
    good = (t >= 0) & (t <= 1) & (depth >= CLOSEST * 0.9)
    of, strip, x, t, depth = of[good], strip[good], x[good], t[good], depth[good]
    scale = FOCAL * size / depth
    upper = np.ceil(raised[strip] - scale * (up.foot[of] + up.height[of])).clip(0, size).astype(np.int64)
    lower = np.floor(raised[strip] - scale * up.foot[of]).clip(-1, size - 1).astype(np.int64) + 1
    line, y = ranges(upper, lower)
    camera = up.camera[of]
    pixel = ((camera * size)[line] + y) * size + x[line]
    depths = depth[line]
    shown = np.flatnonzero(depths < view.depth.reshape(-1)[pixel] * 1.03 + 0.3)
    line, y, pixel, depths = line[shown], y[shown], pixel[shown], depths[shown]
    slope = view.up.reshape(-1)[camera[line] * size + y]
    above = (slope * depths - up.foot[of][line]) / up.height[of][line]
    return Covered(of[line], pixel, depths, t[line].astype(np.float32), above.astype(np.float32).clip(0, 1))
