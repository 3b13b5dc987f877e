"""Data sets: images in [0, 1] with labels, a training and a test split, and where they come from.

>>> from benchmarks import datasets
>>> digits = datasets.load("digits")
>>> images, labels = digits.train.batch(slice(0, 32))
>>> images.shape                                   # [B, C, H, W]
torch.Size([32, 1, 8, 8])

Loading never downloads. Data sets that do not come with a library are brought once by ``fetch(name)``
(``step fetch NAME``), or by hand, and searched for in the folders of ``benchmarks.datasets.roots``. Large ones stay
in their files: ``batch`` decodes what it is asked for.
"""

import inspect
from pathlib import Path
from typing import Any

from benchmarks.datasets import (
    cifar,
    digits,
    digits_28,
    digits_adding,
    drawn_images,
    earth_maps,
    event_traverses,
    fashion_mnist,
    five_datasets,
    five_offline,
    image_folder,
    imagenet,
    lens_traverses,
    listops,
    lra_text,
    memory_tasks,
    mini_imagenet,
    mnist,
    neuronio,
    neuronio_synthetic,
    nordland,
    not_mnist,
    oxford_robotcar,
    pathfinder,
    permuted_pixels,
    permuted_tasks,
    pixel_sequence,
    places,
    rotated_tasks,
    route_folders,
    sfu_mountain,
    shd,
    shd_adding,
    speech_pictures,
    split_tasks,
    svhn,
    synthetic_adding,
    synthetic_route,
    tiny_imagenet,
)
from benchmarks.datasets.base import Dataset, Samples, Split, datasets
from benchmarks.datasets.fetch import Remote, fetch, remotes, where
from benchmarks.datasets.image_files import ImageFiles
from benchmarks.datasets.moments import moments
from benchmarks.datasets.places import PlaceDataset, labels_of
from benchmarks.datasets.reading import Reading
from benchmarks.datasets.roots import search_roots
from benchmarks.datasets.sequence import SequenceDataset, SequenceSplit
from benchmarks.datasets.stream import Joined, Scenario, Task, TaskStream
from benchmarks.datasets.views import View
from neurons.errors import OptionError

register = datasets.register
create = datasets.create
names = datasets.names
describe = datasets.describe


def load(name: str, root: str | Path | None = None, **options: Any) -> Dataset:
    """Load the data set ``name``.

    Parameters
    ----------
    name : str
        Registered name.
    root : path, optional
        Folder to search first for ``<root>/<name>/`` (``--data`` on the command line).
    **options
        What the data set lets one choose.

    Raises
    ------
    UnknownNameError
        With the nearest known names.
    OptionError
        When it has no such option, or needs one that is not given.
    DataError
        When files are missing, truncated or altered.
    """
    for option, parameter in datasets.options(name).items():
        if parameter.default is inspect.Parameter.empty and option not in options:
            raise OptionError(f"dataset {name!r} needs {option!r}: write {{name: {name}, {option}: ...}}")
    return datasets.create(name, root=None if root is None else Path(root), **options)


__all__ = [
    "Dataset", "ImageFiles", "Joined", "PlaceDataset", "Reading", "Remote", "Samples", "Scenario", "SequenceDataset",
    "SequenceSplit", "Split", "Task", "TaskStream", "View", "cifar", "create", "datasets", "describe", "digits",
    "digits_28", "digits_adding", "drawn_images", "earth_maps", "event_traverses", "fashion_mnist", "fetch",
    "five_datasets", "five_offline", "image_folder", "imagenet", "labels_of", "lens_traverses", "listops", "load",
    "lra_text", "memory_tasks", "mini_imagenet", "mnist", "moments", "names", "neuronio", "neuronio_synthetic",
    "nordland", "not_mnist", "oxford_robotcar", "pathfinder", "permuted_pixels", "permuted_tasks", "pixel_sequence",
    "places", "register", "remotes", "rotated_tasks", "route_folders", "search_roots", "sfu_mountain", "shd",
    "shd_adding", "speech_pictures", "split_tasks", "svhn", "synthetic_adding", "synthetic_route",
    "tiny_imagenet", "where",
]  # fmt: skip
