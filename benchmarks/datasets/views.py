"""A split seen through a choice of samples, other labels and a change of the images, without a copy of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmarks.datasets.base import Indices, Samples

Change = Callable[[Tensor], Tensor]
"""Images [B, C, H, W] in [0, 1] to images in [0, 1], each one for itself."""


@dataclass(frozen=True, eq=False)
class View:
    """Some samples of a split, changed when they are asked for.

    Parameters
    ----------
    base : Samples
        The split, in memory or in files.
    places : Tensor of int64, shape [N], optional
        Samples of it that are here, in this order; all when left out.
    relabel : Tensor of int64, shape [classes of the split], optional
        New label of each of its classes.
    change : callable, optional
        What becomes of images.
    shape : tuple of int, optional
        Shape of a sample where ``change`` makes another one.
    """

    base: Samples
    places: Tensor | None = None
    relabel: Tensor | None = None
    change: Change | None = None
    shape: tuple[int, ...] | None = None

    @property
    def labels(self) -> Tensor:
        """Label of each sample, int64 [N]."""
        labels = self.base.labels if self.places is None else self.base.labels[self.places]
        return labels if self.relabel is None else self.relabel[labels]

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of a sample."""
        return self.base.sample_shape if self.shape is None else self.shape

    def __len__(self) -> int:
        return len(self.base) if self.places is None else len(self.places)

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Return the samples at ``indices`` as float32 [B, *sample_shape] in [0, 1] and their labels as int64 [B]."""
        return self._seen(*self.base.batch(indices if self.places is None else self.places[indices]))

    def batches(self, chunks: Iterable[Indices]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield ``batch(indices)`` for each of ``chunks``, read ahead where the split does so."""
        places = self.places
        wanted = chunks if places is None else (places[chunk] for chunk in chunks)
        for x, labels in self.base.batches(wanted):
            yield self._seen(x, labels)

    def _seen(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return x if self.change is None else self.change(x), labels if self.relabel is None else self.relabel[labels]

    def subset(self, indices: Indices) -> View:
        """Return the split that holds only the samples at ``indices``, in that order."""
        places = torch.arange(len(self)) if self.places is None else self.places
        return replace(self, places=places[indices])

    def training(self, seed: int, epoch: int) -> View:
        """Return the view of the split as epoch ``epoch`` of a training with this seed reads it."""
        return replace(self, base=self.base.training(seed, epoch))
