"""Gradient projection memory: singular vectors of stored activity when a task is over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from neurons.checks import count
from step.learners.continual.rules.activity import Activity
from step.learners.continual.subspaces.base import Found, Subspace, subspaces
from step.learners.continual.subspaces.capacity import automatic_rank
from step.learners.continual.subspaces.projection import principal_axes


@subspaces.register("svd")
class SVD(Subspace):
    """Gradient projection memory, GPM (Saha, Garg and Roy, ICLR 2021): an SVD of a sample of a task's activity.

    While a task runs, a uniform sample of at most ``samples`` of its rows is kept (reservoir sampling: each row draws a
    random key and the largest keys stay). When it is over, the sample loses what the frozen rows hold and the leading
    right singular vectors of the rest become new rows: a fixed number of them, or the fewest that hold ``threshold`` of
    the energy together with the frozen ones. The sample is dropped then.

    Activity is taken as it is during training, where Saha et al. run the trained network once more: let ``update`` see
    only activity of the trained network for theirs.

    Parameters
    ----------
    n : int
        Inputs of the layer.
    samples : int
        Rows kept. No more directions than this can be found for a task.
    **options
        Of :class:`Subspace`.
    """

    def __init__(self, n: int, *, samples: int = 512, **options: Any) -> None:
        super().__init__(n, **options)
        count("an SVD subspace", samples=samples)
        self.samples = samples
        self._end()

    def _begin(self, rows: int | None) -> None:
        self._wanted = -1 if rows is None else rows

    def _end(self) -> None:
        self._wanted = 0
        self._sample = self._empty()
        self._keys = torch.zeros(0, dtype=torch.float64)

    def _learn(self, activity: Activity) -> None:
        x = activity.rows()
        keys = torch.cat([self._keys, torch.rand(len(x), dtype=torch.float64, generator=self.generator)])
        stay = keys.topk(min(self.samples, len(keys))).indices
        self._keys = keys[stay]
        self._sample = torch.cat([self._sample, x])[stay.to(self.device)]

    def _found(self) -> Found:
        left = self._without(self._sample)
        along = (self._sample @ self.frozen.T).square().sum(0)
        total = self._sample.square().sum()
        energy, axes = principal_axes(left, float(total))
        if self._wanted < 0:
            kept = automatic_rank(energy, total - left.square().sum(), total, self.threshold)
        else:
            kept = min(self._wanted, len(energy))
        return Found(axes[:kept], energy[:kept].float(), along)

    def _state(self) -> dict[str, Tensor]:
        return {
            "wanted": torch.tensor(self._wanted),
            "sample": self._sample,
            "keys": self._keys,
        }

    def _set_state(self, state: Mapping[str, Tensor]) -> None:
        self._wanted = int(state["wanted"])
        self._sample, self._keys = state["sample"], state["keys"].cpu()
