"""Five data sets one after the other of which only one needs files, which a package brings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.datasets.base import Dataset, Samples, datasets
from benchmarks.datasets.drawing import at_least
from benchmarks.datasets.fetch import ByHand, by_hand, where
from benchmarks.datasets.five_datasets import one_after_another
from benchmarks.datasets.speech_pictures import TAKES
from benchmarks.datasets.stream import Scenario, TaskStream, check_scenario
from benchmarks.datasets.views import View

NAME = "five-offline"
PARTS = ("fashion-mnist", "digits-28", "drawn-letters", "speech-pictures", "drawn-shapes")
SIZE = 28


def find(root: str | Path | None = None, own: bool = False) -> Path:
    """Return where Fashion-MNIST is, the only one of the five that needs files."""
    found = where(PARTS[0], root)
    assert found is not None
    return found


by_hand[NAME] = ByHand("fetch fashion-mnist; its other parts come with installed packages", find)


@datasets.register(NAME)
def load(scenario: Scenario = "task", per_class: int = 130, root: Path | None = None) -> TaskStream:
    """Five data sets offline: clothes, digits, letters, pictures of speech and shapes, 28x28 grey, ten classes each.

    The idea of ``five-datasets`` with what can be had without large downloads: ``fashion-mnist`` (real, from its
    authors or a package of Debian), ``digits-28`` (real, enlarged, in the place of MNIST), ``drawn-letters`` (in the
    place of notMNIST), ``speech-pictures`` and ``drawn-shapes`` (made up). Its numbers compare with no published ones.

    Parameters
    ----------
    scenario : {"task", "domain", "class"}
        Ten outputs for each data set, or (domain) ten that they share.
    per_class : int
        Training images of each class, the first ones; where a class has fewer, all. It makes the tasks equally large.
    root : path, optional
        Folder to search first.

    Raises
    ------
    OptionError
        For a number outside its domain.
    DataError
        When Fashion-MNIST is missing, or Matplotlib, whose fonts the letters are drawn in.
    """
    check_scenario(scenario)
    at_least(1, per_class=per_class)
    # No more are drawn than are needed: the first ones are the same ones however many there are.
    made = {"drawn-letters": {"train": 10 * per_class}, "drawn-shapes": {"train": 10 * per_class}}
    made["speech-pictures"] = {"speakers": -(-per_class // TAKES)}
    parts = [_fewer(datasets.create(name, root=root, **made.get(name, {})), per_class) for name in PARTS]
    return one_after_another(NAME, parts, scenario, channels=1, image_size=SIZE)


def _fewer(part: Dataset, per_class: int) -> Dataset:
    return replace(part, train=View(part.train, first_of_each_class(part.train, per_class)))


def first_of_each_class(split: Samples, count: int) -> torch.Tensor:
    """Return the places of the first ``count`` samples of each class, in their order."""
    labels = split.labels
    chosen = [(labels == label).nonzero().flatten()[:count] for label in labels.unique()]
    return torch.cat(chosen).sort().values
