"""Rotated tasks: the same images in every task, turned by another angle."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.datasets.base import datasets
from benchmarks.datasets.fetch import by_hand
from benchmarks.datasets.permuted_tasks import MADE_OF_ANOTHER
from benchmarks.datasets.stream import Task, TaskStream, images_of
from benchmarks.datasets.views import View
from neurons.errors import OptionError

NAME = "rotated-tasks"
ANGLES = (0.0, 20.0, 40.0, 60.0, 80.0, 100.0, 120.0, 140.0, 160.0, 180.0)

by_hand[NAME] = MADE_OF_ANOTHER


@datasets.register(NAME)
def load(of: str = "digits-28", angles: tuple[float, ...] = ANGLES, root: Path | None = None) -> TaskStream:
    """Rotated tasks: images of another data set, in every task turned by another angle.

    Domain-incremental, with one shared head (Rotated MNIST as a stream of tasks: D. Lopez-Paz and M. Ranzato, Gradient
    Episodic Memory for Continual Learning, NeurIPS 2017, with 20 random angles up to 180 degrees).

    Parameters
    ----------
    of : str
        Name of a set of images.
    angles : tuple of float
        Degrees by which the images of each task are turned counter-clockwise about their middle. Values between pixels
        are interpolated linearly, and what comes from outside the image is 0; multiples of 90 are exact.
    root : path, optional
        Folder to search first.

    Raises
    ------
    OptionError
        For no angle or one that is not finite, or a data set that is no set of images.
    """
    if not angles or not all(math.isfinite(angle) for angle in angles):
        raise OptionError(f"dataset.angles must be one or more finite numbers, not {list(angles)}")
    images = images_of(of, root)
    tasks = []
    for angle in angles:
        train, test = (View(split, change=partial(rotate, angle=angle)) for split in (images.train, images.test))
        tasks.append(Task(f"{angle:g} degrees", train, test))
    return TaskStream.of(
        tasks,
        "domain",
        name=f"{NAME} of {of}",
        classes=images.classes,
        channels=images.channels,
        image_size=images.image_size,
        source=images.source,
        licence=images.licence,
        note=f"{images.note}; {len(angles)} tasks with the same images, turned by "
        f"{', '.join(f'{angle:g}' for angle in angles)} degrees",
    )


def rotate(images: Tensor, angle: float) -> Tensor:
    """Return square images [B, C, H, H] in [0, 1], turned counter-clockwise by ``angle`` degrees about their middle."""
    if angle % 90 == 0:
        return torch.rot90(images, int(angle // 90) % 4, (2, 3))
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    # Where each pixel comes from: the inverse turn, in coordinates whose second axis points down.
    back = torch.tensor([[cos, -sin, 0.0], [sin, cos, 0.0]]).expand(len(images), 2, 3)
    grid = functional.affine_grid(back, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False).clamp_(0, 1)
