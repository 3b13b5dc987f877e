"""Data sets: images in [0, 1] with labels, a training and a test split, and where they come from.

>>> from benchmarks import datasets
>>> digits = datasets.load("digits")
>>> images, labels = digits.train.batch(slice(0, 32))
>>> images.shape                                   # [B, C, H, W]
torch.Size([32, 1, 8, 8])

Loading never downloads. Data sets that do not come with a library are brought once by ``fetch(name)``
(``step fetch NAME``) and searched for in the folders of ``benchmarks.datasets.roots``.
"""

from pathlib import Path

from benchmarks.datasets import digits, fashion_mnist
from benchmarks.datasets.base import Dataset, Split, datasets
from benchmarks.datasets.fetch import Remote, fetch, remotes
from benchmarks.datasets.roots import search_roots

register = datasets.register
create = datasets.create
names = datasets.names
describe = datasets.describe


def load(name: str, root: str | Path | None = None) -> Dataset:
    """Load the data set ``name``.

    Parameters
    ----------
    name : str
        Registered name.
    root : path, optional
        Folder to search first for ``<root>/<name>/`` (``--data`` on the command line).

    Raises
    ------
    UnknownNameError
        With the nearest known names.
    DataError
        When files are missing, truncated or altered.
    """
    return datasets.create(name, root=None if root is None else Path(root))


__all__ = [
    "Dataset", "Remote", "Split", "create", "datasets", "describe", "digits", "fashion_mnist", "fetch", "load", "names",
    "register", "remotes", "search_roots",
]  # fmt: skip
