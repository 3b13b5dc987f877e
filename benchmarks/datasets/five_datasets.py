"""Five data sets one after the other: unlike tasks for one network."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.datasets.base import Dataset, Samples, datasets
from benchmarks.datasets.fetch import ByHand, by_hand, where
from benchmarks.datasets.stream import Scenario, Task, TaskStream, check_scenario
from benchmarks.datasets.views import View
from neurons.errors import DataError

NAME = "five-datasets"
PARTS = ("cifar10", "mnist", "svhn", "fashion-mnist", "notmnist")
SIZE = 32
ADVICE = "fetch cifar10, mnist, svhn and fashion-mnist, and bring notmnist"


def find(root: str | Path | None = None, own: bool = False) -> Path:
    """Return where the last of the five data sets is; all are looked for."""
    found = [where(name, root) for name in PARTS]
    assert found[-1] is not None  # it needs files
    return found[-1]


by_hand[NAME] = ByHand(ADVICE, find)


@datasets.register(NAME)
def load(scenario: Scenario = "task", root: Path | None = None) -> TaskStream:
    """Five data sets: CIFAR-10, MNIST, SVHN, Fashion-MNIST and notMNIST one after the other, in colour at 32x32.

    The stream of S. Ebrahimi et al., Adversarial Continual Learning, ECCV 2020, which GPM (G. Saha, I. Garg and K. Roy,
    ICLR 2021) and HLOP (M. Xiao et al., ICLR 2024) report on, in the order of the latter. Grey images of 28x28 get a
    border of two pixels of 0 and are copied to three channels.

    Parameters
    ----------
    scenario : {"task", "domain", "class"}
        Ten outputs for each data set, or (domain) ten that they share.
    root : path, optional
        Folder to search first.

    Raises
    ------
    DataError
        When one of the data sets is missing.
    """
    check_scenario(scenario)
    parts = [datasets.create(name, root=root) for name in PARTS]
    return one_after_another(NAME, parts, scenario, channels=3, image_size=SIZE)


def one_after_another(
    name: str, parts: list[Dataset], scenario: Scenario, channels: int, image_size: int
) -> TaskStream:
    """Return the stream of some data sets with equally many classes, brought to one shape.

    Parameters
    ----------
    name : str
        Of the stream.
    parts : list of Dataset
        In the order of the tasks.
    scenario : {"task", "domain", "class"}
    channels, image_size : int
        Of all tasks; see :func:`fit`.

    Raises
    ------
    DataError
        When the numbers of classes differ, or images do not fit.
    """
    each = parts[0].classes
    if any(part.classes != each for part in parts):
        raise DataError(f"{name}: the data sets must have equally many classes")
    tasks = []
    for number, part in enumerate(parts):
        own = None if scenario == "domain" else (number * each, (number + 1) * each)
        labels = torch.arange(each) + (own[0] if own else 0)
        train, test = (_fitted(split, labels, channels, image_size) for split in (part.train, part.test))
        tasks.append(Task(part.name, train, test, own))
    said: dict[str, Any] = {
        field: "; ".join(dict.fromkeys(getattr(part, field) for part in parts)) for field in ("source", "licence")
    }
    sizes = ", ".join(f"{task.name} ({len(task.train):,} and {len(task.test):,})" for task in tasks)
    notes = "; ".join(f"{part.name}: {part.note}" for part in parts)
    return TaskStream.of(
        tasks,
        scenario,
        name=name,
        classes=each if scenario == "domain" else each * len(parts),
        channels=channels,
        image_size=image_size,
        note=f"{sizes}, training and test images of each, in this order, {scenario}-incremental; {notes}",
        **said,
    )


def _fitted(split: Samples, labels: Tensor, channels: int, image_size: int) -> View:
    change = partial(fit, channels=channels, image_size=image_size)
    change(split.batch(slice(0, 1))[0])
    return View(split, relabel=labels, change=change, shape=(channels, image_size, image_size))


def fit(images: Tensor, channels: int, image_size: int) -> Tensor:
    """Return images [B, C, H, H] as [B, channels, image_size, image_size]: a border of 0, and copies of a grey channel.

    Raises
    ------
    DataError
        For images that are larger, have an odd difference, or are neither grey nor of as many channels.
    """
    border, odd = divmod(image_size - images.shape[-1], 2)
    if border < 0 or odd or images.shape[1] not in (1, channels):
        raise DataError(f"images {list(images.shape[1:])} cannot become [{channels}, {image_size}, {image_size}]")
    padded = functional.pad(images, (border,) * 4) if border else images
    return padded.repeat(1, channels, 1, 1) if images.shape[1] != channels else padded
