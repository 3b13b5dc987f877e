"""Split tasks: the classes of a set of images, a few in every task."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from benchmarks.datasets.base import Samples, datasets
from benchmarks.datasets.drawing import at_least, check_seed, random_state
from benchmarks.datasets.fetch import by_hand
from benchmarks.datasets.permuted_tasks import MADE_OF_ANOTHER
from benchmarks.datasets.stream import Scenario, Task, TaskStream, check_scenario, images_of
from benchmarks.datasets.views import View
from neurons.errors import OptionError

NAME = "split-tasks"

by_hand[NAME] = MADE_OF_ANOTHER


@datasets.register(NAME)
def load(
    of: str = "digits-28",
    tasks: int = 5,
    scenario: Scenario = "task",
    seed: int | None = None,
    root: Path | None = None,
) -> TaskStream:
    """Split tasks: the classes of another data set, equally many in every task.

    Split MNIST (5 x 2; F. Zenke, B. Poole and S. Ganguli, Continual Learning Through Synaptic Intelligence, ICML 2017),
    10-split CIFAR-100 (``of: cifar100, tasks: 10``) and 20-split mini-ImageNet (``of: mini-imagenet, tasks: 20, seed:
    2022``) are of this kind.

    Parameters
    ----------
    of : str
        Name of a set of images.
    tasks : int
        Number of tasks, of which the number of classes is a multiple.
    scenario : {"task", "domain", "class"}
        Output ``n`` of the network stands for the ``n``-th class of the stream. Domain-incremental, all tasks share the
        outputs: it stands for the ``n``-th class of each task.
    seed : int, optional
        Of a random order of the classes; when left out they come in the order of their labels.
    root : path, optional
        Folder to search first.

    Raises
    ------
    OptionError
        For a number outside its domain, or a data set that is no set of images.
    """
    check_scenario(scenario)
    at_least(1, tasks=tasks)
    if seed is not None:
        check_seed(seed)
    images = images_of(of, root)
    each, rest = divmod(images.classes, tasks)
    if rest or not each:
        raise OptionError(f"dataset.tasks: {images.classes} classes of {of} cannot be split into {tasks} equal parts")
    order = torch.arange(images.classes)
    if seed is not None:
        order = torch.from_numpy(random_state(seed).permutation(images.classes))
    output = torch.empty_like(order)
    output[order] = torch.arange(images.classes)
    relabel = output % each if scenario == "domain" else output
    stream = []
    for number, classes in enumerate(order.split(each)):
        own = None if scenario == "domain" else (number * each, (number + 1) * each)
        train, test = (_of_classes(split, classes, relabel) for split in (images.train, images.test))
        stream.append(Task(_named(classes.tolist()), train, test, own))
    how = "in the order of their labels" if seed is None else f"in a random order (seed {seed})"
    return TaskStream.of(
        stream,
        scenario,
        name=f"{NAME} of {of}",
        classes=each if scenario == "domain" else images.classes,
        channels=images.channels,
        image_size=images.image_size,
        source=images.source,
        licence=images.licence,
        note=f"{images.note}; {tasks} tasks of {each} classes {how}, {scenario}-incremental",
    )


def _of_classes(split: Samples, classes: Tensor, relabel: Tensor) -> View:
    return View(split, torch.isin(split.labels, classes).nonzero().flatten(), relabel)


def _named(classes: list[int]) -> str:
    if len(classes) > 2 and classes == list(range(classes[0], classes[-1] + 1)):
        return f"classes {classes[0]} to {classes[-1]}"
    return f"{'classes' if len(classes) > 1 else 'class'} {', '.join(map(str, classes))}"
