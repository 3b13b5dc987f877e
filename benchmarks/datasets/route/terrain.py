"""What ground a camera sees: a march over the terrain, column by column."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.datasets.route.passes import Poses
from benchmarks.datasets.route.world import World

FOCAL = 0.65
"""Focal length in widths of the image: 75 degrees from left to right."""
HORIZON = 0.45
"""Height of the horizon in parts of the image, from above, where the camera is level."""
STEPS = 40
NEAR, FAR = 1.4, 1100.0
"""Depths in metres between which the terrain is looked at, at distances in geometric progression."""


@dataclass(frozen=True, eq=False)
class View:
    """Cameras and the ground before them, float32.

    Attributes
    ----------
    left : numpy.ndarray, shape [size]
        Slope of the ray of each column to the left.
    up : numpy.ndarray, shape [B, size]
        Slope of the ray of each row.
    depth : numpy.ndarray, shape [B, size, size]
        Depth of the ground along the axis of the camera in metres, infinite where there is sky.
    x, y : numpy.ndarray, shape [B, size, size]
        Which ground it is.
    """

    poses: Poses
    left: np.ndarray
    up: np.ndarray
    depth: np.ndarray
    x: np.ndarray
    y: np.ndarray

    @property
    def size(self) -> int:
        """Rows and columns."""
        return len(self.left)


def column(values: np.ndarray) -> np.ndarray:
    """Return [B] as float32 [B, 1, 1]."""
    return values.astype(np.float32)[:, None, None]


def look(world: World, cameras: Poses, size: int) -> View:
    """Return which ground each pixel shows.

    The heights along each column's ray become slopes as seen from the camera; the running maximum over depth is what
    stands out, and a pixel shows the first depth at which it exceeds the slope of its ray.
    """
    centres = ((np.arange(size) + 0.5) / size).astype(np.float32)
    left = (0.5 - centres) / np.float32(FOCAL)
    raised = (HORIZON + FOCAL * np.tan(cameras.pitch)).astype(np.float32)
    up = (raised[:, None] - centres) / np.float32(FOCAL)
    depths = np.geomspace(NEAR, FAR, STEPS).astype(np.float32)
    cosine, sine = column(np.cos(cameras.yaw)), column(np.sin(cameras.yaw))
    across = left[:, None]
    x = column(cameras.x) + depths * (cosine - across * sine)
    y = column(cameras.y) + depths * (sine + across * cosine)
    slopes = (world.height(x, y) - column(cameras.z)) / depths  # [B, columns, depths]
    np.maximum.accumulate(slopes, axis=2, out=slopes)
    # how many rows, from above, look over each depth
    over = np.ceil((raised[:, None, None] - FOCAL * slopes) * size - 0.5).clip(0, size).astype(np.int64)
    batch = len(cameras)
    rays = np.arange(batch * size).reshape(batch, size, 1) * (size + 1)
    histogram = np.bincount((rays + over).ravel(), minlength=batch * size * (size + 1)).reshape(batch, size, size + 1)
    # depth k hides row j unless over[k] > j
    hidden = np.ascontiguousarray(histogram[:, :, :0:-1].cumsum(2)[:, :, ::-1].transpose(0, 2, 1))  # [B, rows, columns]
    sky = hidden == STEPS
    after = hidden.clip(1, STEPS - 1)
    flat = slopes.reshape(-1)
    start = np.arange(batch)[:, None, None] * (size * STEPS) + np.arange(size) * STEPS
    nearer, farther = flat[start + after - 1], flat[start + after]
    share = ((up[:, :, None] - nearer) / np.maximum(farther - nearer, 1e-6)).clip(0, 1)
    inverse = (1 / depths)[after - 1] * (1 - share) + (1 / depths)[after] * share
    depth = 1 / inverse
    ground_x = column(cameras.x) + depth * (cosine - left * sine)
    ground_y = column(cameras.y) + depth * (sine + left * cosine)
    depth[sky] = np.inf
    return View(cameras, left, up, depth, ground_x, ground_y)
