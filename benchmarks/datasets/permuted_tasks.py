"""Permuted tasks: the same images in every task, their pixels in another order."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from benchmarks.datasets.base import Split, datasets
from benchmarks.datasets.drawing import at_least, check_seed, random_state
from benchmarks.datasets.fetch import ByHand, by_hand
from benchmarks.datasets.moments import said
from benchmarks.datasets.permuted_pixels import permute
from benchmarks.datasets.stream import Task, TaskStream, images_of
from benchmarks.datasets.views import View

NAME = "permuted-tasks"

MADE_OF_ANOTHER = ByHand("it is made of another data set, its option 'of': fetch that one where it needs files")

by_hand[NAME] = MADE_OF_ANOTHER


@datasets.register(NAME)
def load(of: str = "digits-28", tasks: int = 10, seed: int = 0, root: Path | None = None) -> TaskStream:
    """Permuted tasks: images of another data set, in every task with their pixels in another random order.

    Domain-incremental, with one shared head (Permuted MNIST: I. J. Goodfellow et al., An Empirical Investigation of
    Catastrophic Forgetting in Gradient-Based Neural Networks, arXiv:1312.6211; J. Kirkpatrick et al., Overcoming
    catastrophic forgetting in neural networks, PNAS 2017, as a stream of tasks). The first task is permuted too. Images
    stay in [0, 1]; where a network wants them standardised, the encoder ``standardised`` does it with the mean and
    standard deviation that ``note`` states.

    Parameters
    ----------
    of : str
        Name of a set of images, such as ``mnist``, ``fashion-mnist`` or ``digits``.
    tasks : int
        Number of tasks.
    seed : int
        Of the orders; that of task ``i`` depends on the seed and ``i`` alone.
    root : path, optional
        Folder to search first.

    Raises
    ------
    OptionError
        For a number outside its domain, or a data set that is no set of images.
    """
    at_least(1, tasks=tasks)
    check_seed(seed)
    images = images_of(of, root)
    stream = []
    for number in range(tasks):
        order = torch.from_numpy(random_state(seed, number).permutation(images.image_size**2))
        train, test = (View(split, change=partial(permute, order=order)) for split in (images.train, images.test))
        stream.append(Task(f"permutation {number + 1}", train, test))
    pixels = f"; {said(images.train)}" if isinstance(images.train, Split) else ""
    return TaskStream.of(
        stream,
        "domain",
        name=f"{NAME} of {of}",
        classes=images.classes,
        channels=images.channels,
        image_size=images.image_size,
        source=images.source,
        licence=images.licence,
        note=f"{images.note}; {tasks} tasks with the same images, their pixels in one random order for each task (the "
        f"first included), the same for training and test{pixels}",
    )
