"""Places: what was seen along a route, once or more often, and what is seen there again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from benchmarks.datasets.base import Dataset, Samples, Split
from neurons.errors import DataError

NOWHERE = -1
"""Label of a query that shows none of the places."""


@dataclass(frozen=True, eq=False)
class PlaceDataset(Dataset):
    """Places to be recognised: reference images of every place, and query images of another pass.

    ``train`` holds the references, all places of the first traverse, then all of the second, and so on; the label of an
    image is its place. ``test`` holds the queries in the order in which they were seen; their label is the first of
    their true places, or -1 where they show none.

    Parameters
    ----------
    truth : Tensor of bool, shape [places, queries]
        Which places each query shows: one, several where neighbours look onto the same, or none.
    traverses : int
        Passes along the references, each over all places in the same order.
    synthetic : bool
        Whether the images were made by a program; every table says so.
    calibration : PlaceDataset, optional
        Other places with references and queries of their own, by which settings may be chosen. Its places are no
        places of this data set, and its queries no queries.

    Raises
    ------
    DataError
        When numbers of places, queries or traverses do not fit.
    """

    truth: Tensor = field(kw_only=True)
    traverses: int = field(kw_only=True, default=1)
    synthetic: bool = field(kw_only=True, default=False)
    calibration: PlaceDataset | None = field(kw_only=True, default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.truth.dtype != torch.bool or self.truth.shape != (self.places, len(self.test)):
            raise DataError(
                f"{self.name}: the ground truth must be a bool matrix [{self.places} places, {len(self.test)} queries],"
                f" not {self.truth.dtype} {list(self.truth.shape)}"
            )
        if not bool(self.truth.any()):
            raise DataError(f"{self.name}: the ground truth is empty: no query shows any place")
        order = torch.arange(self.places).repeat(self.traverses)
        if not torch.equal(self.train.labels, order):
            raise DataError(
                f"{self.name}: references are all {self.places} places once for each of {self.traverses} traverses, in "
                f"order; found {len(self.train)} images"
            )
        other = self.calibration
        if other is not None and (other.shape != self.shape or other.traverses != self.traverses):
            raise DataError(f"{self.name}: places for calibration need images and traverses like those of the rest")

    @property
    def places(self) -> int:
        """Number of places."""
        return self.classes

    def references(self, traverse: int) -> Samples:
        """Return the reference images of one traverse, from 0: one for each place."""
        return self.train.subset(slice(traverse * self.places, (traverse + 1) * self.places))

    def _check_labels(self, name: str, labels: Tensor) -> None:
        if name != "test":
            super()._check_labels(name, labels)
        elif not torch.equal(labels, labels_of(self.truth)):
            raise DataError(f"{self.name}: labels of queries must be the first of their true places, -1 for none")


def labels_of(truth: Tensor) -> Tensor:
    """Return the first true place of each query of a matrix [places, queries], -1 for none: int64 [queries]."""
    first = truth.to(torch.int64).argmax(dim=0)
    return torch.where(truth.any(dim=0), first, torch.full_like(first, NOWHERE))


def along(references: Sequence[Tensor], queries: Tensor, truth: Tensor, full_scale: float = 255.0) -> dict[str, Split]:
    """Return the splits ``train`` and ``test`` of images that lie in memory.

    Parameters
    ----------
    references : sequence of Tensor, each [places, C, H, W]
        The images of each traverse, a place a row.
    queries : Tensor, shape [queries, C, H, W]
    truth : Tensor of bool, shape [places, queries]
    full_scale : float
        Raw value that stands for 1.

    Raises
    ------
    DataError
        When traverses differ in their places, or images in their size.
    """
    counts = [len(images) for images in references]
    if len(set(counts)) != 1:
        raise DataError(f"reference traverses must show the same places in the same order, but have {counts} images")
    sizes = {tuple(images.shape[1:]) for images in (*references, queries)}
    if len(sizes) != 1:
        shown = " and ".join("x".join(map(str, size)) for size in sorted(sizes))
        raise DataError(f"images of references and queries must have one size, found {shown}")
    if tuple(truth.shape) != (counts[0], len(queries)):
        raise DataError(
            f"the ground truth has {' x '.join(map(str, truth.shape))} entries for {counts[0]} places and "
            f"{len(queries)} queries"
        )
    labels = torch.arange(counts[0]).repeat(len(references))
    return {
        "train": Split(torch.cat(list(references)), labels, full_scale),
        "test": Split(queries, labels_of(truth), full_scale),
    }
