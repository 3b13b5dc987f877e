"""Passes along a route as images: rendered once, then kept on disk."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from benchmarks.datasets.drawing import random_state
from benchmarks.datasets.route.assets import Assets
from benchmarks.datasets.route.conditions import Condition
from benchmarks.datasets.route.passes import Poses, poses, stations
from benchmarks.datasets.route.render import CHUNK, Renderer
from benchmarks.datasets.route.sensor import Sensor
from benchmarks.datasets.route.world import World
from encoders.events import V2E, counts, v2e
from neurons.compiler import cache

VERSION = 2
"""Goes up with every change of the pictures, so that none is read that older code has drawn."""

FRAMES, SUBSTEP = 9, 0.125
"""Frames of the film of one place for an event camera, and metres between them: nothing far moves by a pixel."""
PACE = 10.0
"""Metres a second, by which metres become times for events and their noise."""
SENSOR = V2E(cutoff=100.0, leak=0.1, shot=1.0)
"""The event camera; between the presets of v2e."""


@dataclass(frozen=True)
class Route:
    """A route and the camera: what all passes along it share.

    Attributes
    ----------
    key : tuple of int
        Seed of the world.
    length : float
        Metres.
    aliasing : float
        Share of what looks like elsewhere, from 0 to 1.
    size : int
        Rows and columns of an image.
    sensor : {"frames", "events"}
    """

    key: tuple[int, ...]
    length: float
    aliasing: float
    size: int = 64
    sensor: Literal["frames", "events"] = "frames"


@dataclass(frozen=True)
class Pass:
    """One pass.

    Attributes
    ----------
    key : tuple of int
        Seed of everything that differs from pass to pass.
    condition : Condition
    first, last, spacing : float
        Metres along the road of the first and the last image, and between images.
    lateral, yaw : float
        Standard deviations of the camera's place in metres and of its direction in degrees.
    speed : float
        How much the speed wanders.
    photons : float, optional
        Mean photons of a pixel.
    """

    key: tuple[int, ...]
    condition: Condition
    first: float
    last: float
    spacing: float
    lateral: float
    yaw: float
    speed: float = 0.0
    photons: float | None = None
    version: int = field(default=VERSION, init=False)


def folder() -> Path:
    """Return where passes are kept: ``STEP_CACHE``, or the user's cache folder."""
    return cache.directory().parent / "routes"


def images_of(route: Route, run: Pass) -> tuple[Tensor, np.ndarray]:
    """Return the images of a pass and where they were taken.

    Returns
    -------
    Tensor of uint8, shape [images, 1, size, size]
        Grey values; of an event camera the number of events of each pixel, of either sign, at most 255.
    numpy.ndarray of float64, shape [images]
        Metres along the road.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load, save

    said = json.dumps([asdict(route), asdict(run)], sort_keys=True)
    file = folder() / f"{hashlib.sha256(said.encode()).hexdigest()[:32]}.safetensors"
    if file.is_file():
        try:
            kept = load(file.read_bytes())
            return kept["images"], kept["stations"].numpy()
        except (OSError, SafetensorError, KeyError):
            pass  # damaged: drawn anew
    images, at = drawn(route, run)
    # a full disk or a folder that cannot be written to costs time at the next call, no more
    try:
        cache.write(file, save({"images": images, "stations": torch.from_numpy(at)}))
    except OSError as error:
        _warn(file.parent, error)
    return images, at


def _warn(where: Path, error: OSError) -> None:
    import warnings

    warnings.warn(f"rendered images cannot be kept in {where} ({os.strerror(error.errno or 0)})", stacklevel=4)


@lru_cache(maxsize=2)
def _world(key: tuple[int, ...], length: float, aliasing: float) -> tuple[World, Assets]:
    world = World(key, length, aliasing)
    return world, Assets(world)


def drawn(route: Route, run: Pass) -> tuple[Tensor, np.ndarray]:
    """Return what :func:`images_of` does, rendered now."""
    world, assets = _world(route.key, route.length, route.aliasing)
    at = stations(run.key, run.first, run.last, run.spacing, run.speed)
    cameras = poses(world, at, run.key, run.lateral, run.yaw)
    renderer = Renderer(world, assets, run.condition, route.size, run.key)
    sensor = Sensor(run.condition, route.size, run.key, run.photons)
    parts = []
    if route.sensor == "events":
        for number in range(len(cameras)):
            parts.append(_events(renderer, sensor, cameras.part(slice(number, number + 1)), number))
    else:
        for first, radiance in zip(range(0, len(at), CHUNK), renderer.images(cameras), strict=True):
            parts.append(sensor.images(radiance, first))
    return torch.from_numpy(np.concatenate(parts)).unsqueeze(1), cameras.s


def _events(renderer: Renderer, sensor: Sensor, camera: Poses, number: int) -> np.ndarray:
    """Return how many events each pixel sends while the camera moves past one place, uint8 [1, size, size]."""
    ahead = (np.arange(FRAMES) - FRAMES // 2) * SUBSTEP
    film = renderer.draw(moved(camera, ahead), number * FRAMES, FRAMES)
    # the aperture is set for the whole film: events are about changes, not about exposure
    light = np.clip(sensor.seen(film, number * FRAMES), 0, None)
    bright = sensor.condition.exposure / max(float(light.mean()), 1e-6)
    intensity = torch.from_numpy(light).to(torch.float64).mul(255 * min(bright, sensor.condition.gain)).clamp(0, 255)
    seed = int(random_state(*sensor.key, 4, number).randint(2**31))
    generator = torch.Generator().manual_seed(seed)
    times = torch.arange(FRAMES, dtype=torch.float64) * (SUBSTEP / PACE * 1e6)
    events = v2e(intensity, times, SENSOR, generator=generator)
    frame = counts(events, 1, renderer.size, renderer.size, start=0, end=int(times[-1]))
    return frame[:, 0].clamp(max=255).to(torch.uint8).numpy()


def moved(camera: Poses, ahead: np.ndarray) -> Poses:
    """Return one camera at several distances in metres along its view."""
    same = np.ones(len(ahead))
    level = np.cos(camera.pitch) * ahead
    return Poses(
        camera.s + ahead,
        camera.x + level * np.cos(camera.yaw),
        camera.y + level * np.sin(camera.yaw),
        camera.z + np.sin(camera.pitch) * ahead,
        camera.yaw * same,
        camera.pitch * same,
    )
