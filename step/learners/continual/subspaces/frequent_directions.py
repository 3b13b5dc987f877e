"""Frequent Directions: a deterministic sketch of all activity of a task, with a bound on its error."""

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


@subspaces.register("frequent-directions")
class FrequentDirections(Subspace):
    """Frequent Directions (Liberty, KDD 2013; Ghashami et al., SIAM J. Comput. 45, 2016).

    The sketch B holds at most 2 l rows. Where a batch would make it longer, the batch is appended, and of the singular
    values s of the whole the first l - 1 stay, as sqrt(s^2 - s_l^2). Then for all activity A of the task, unit vectors
    x and k < l, 0 <= |A x|^2 - |B x|^2 <= |A - A_k|^2 / (l - k), where A_k is the best approximation of rank k. The
    leading singular vectors of B become new rows when the task is over. What the frozen rows hold is taken out of A
    first.

    Parameters
    ----------
    n : int
        Inputs of the layer.
    sketch : int, optional
        l; by default twice the new rows, or half of the dimensions for an automatic rank, and 16 or more.
        An automatic rank ends below it.
    **options
        Of :class:`Subspace`.
    """

    def __init__(self, n: int, *, sketch: int | None = None, **options: Any) -> None:
        super().__init__(n, **options)
        if sketch is not None:
            count("Frequent Directions", sketch=sketch)
        self.sketch = sketch
        self._end()

    def _begin(self, rows: int | None) -> None:
        self._wanted = -1 if rows is None else rows

    def _end(self) -> None:
        self._wanted = 0
        self._rows = self._empty()
        self._along = torch.zeros(self.rank, dtype=torch.float64, device=self.device)
        self._energy = torch.zeros(2, dtype=torch.float64, device=self.device)  # all of it, and of it outside

    @property
    def length(self) -> int:
        """Rows l of the sketch for the current task; more than the dimensions would be of no use."""
        chosen = self.sketch or max(16, 2 * self._wanted if self._wanted >= 0 else self.n // 2)
        return min(max(chosen, self._wanted + 1), self.n + 1)

    def _learn(self, activity: Activity) -> None:
        x = activity.rows()
        left = self._without(x)
        self._along += (x @ self.frozen.T).square().sum(0)
        self._energy += torch.stack([x.square().sum(), left.square().sum()])
        rows = torch.cat([self._rows, left])
        length = self.length
        if len(rows) > 2 * length:
            energy, axes = principal_axes(rows, float(self._energy[0]))
            if len(energy) >= length:
                energy = energy[: length - 1] - energy[length - 1]
            rows = axes[: len(energy)] * energy.clamp_min(0).sqrt()[:, None].to(axes.dtype)
        self._rows = rows

    def _found(self) -> Found:
        energy, axes = principal_axes(self._rows, float(self._energy[0]))
        if self._wanted < 0:
            everything, outside = self._energy
            # Shrinking took the same amount out of every direction at most: what is missing is shared out again.
            missing = (outside - energy.sum()).clamp_min(0) / self.length
            kept = automatic_rank(energy + missing, everything - outside, everything, self.threshold)
        else:
            kept = min(self._wanted, len(energy))
        return Found(axes[:kept], energy[:kept].float(), self._along.float())

    def _state(self) -> dict[str, Tensor]:
        return {
            "wanted": torch.tensor(self._wanted),
            "rows": self._rows,
            "along": self._along,
            "energy": self._energy,
        }

    def _set_state(self, state: Mapping[str, Tensor]) -> None:
        self._wanted = int(state["wanted"])
        self._rows, self._along, self._energy = state["rows"], state["along"], state["energy"]
