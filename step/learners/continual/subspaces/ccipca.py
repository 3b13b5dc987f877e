"""Candid covariance-free incremental PCA: averages whose directions are the principal axes, without a learning rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from neurons.errors import OptionError
from step.learners.continual.rules.activity import Activity
from step.learners.continual.subspaces.base import subspaces
from step.learners.continual.subspaces.streaming import Streaming


@subspaces.register("ccipca")
class CCIPCA(Streaming):
    """Candid covariance-free incremental PCA (Weng, Zhang and Hwang, IEEE TPAMI 25, 2003), not centred.

    An estimate v_k is a running average of x (x . v_k) / |v_k|: its direction goes to the k-th eigenvector of the
    second moment, its length to the eigenvalue. Then x loses its component along v_k and the next estimate learns from
    the rest. Here x is a batch: sums over its R rows stand for single samples, with weight R (1 + l) / t after t rows
    of the task, at most 1. What the frozen rows hold is taken out first.

    Parameters
    ----------
    n : int
        Inputs of the layer.
    amnesia : float
        l, how much more than its share a new sample counts (the amnesic parameter, 2 to 4 in Weng et al.).
    **options
        Of :class:`Streaming` and :class:`Subspace`.
    """

    def __init__(self, n: int, *, amnesia: float = 2.0, **options: Any) -> None:
        if not 0 <= amnesia < float("inf"):
            raise OptionError(f"amnesia of CCIPCA must be 0 or more and finite, not {amnesia}")
        self.amnesia = amnesia
        super().__init__(n, **options)

    def _end(self) -> None:
        super()._end()
        self._size = self._empty(1)[:, 0]
        """Lengths of the estimates, whose directions are ``fresh``."""
        self._age = torch.zeros(0, dtype=torch.float64)

    def _extend(self, rows: int) -> None:
        super()._extend(rows)
        self._size = torch.cat([self._size, torch.zeros(rows, device=self.device)])
        self._age = torch.cat([self._age, torch.zeros(rows, dtype=torch.float64)])

    def _improve(self, x: Activity) -> None:
        left = self._without.of(x)
        self._age += len(x)
        shares = (len(x) * (1 + self.amnesia) / self._age).clamp_max(1).tolist()
        fresh, size = self.fresh.clone(), self._size.clone()
        for k, share in enumerate(shares):
            estimate = (1 - share) * size[k] * fresh[k] + share / len(x) * ((left @ fresh[k]) @ left)
            size[k] = estimate.norm()
            # An axis along which nothing was ever active keeps its direction.
            fresh[k] = torch.where(size[k] > 0, estimate / size[k].clamp_min(1e-30), fresh[k])
            left = left - torch.outer(left @ fresh[k], fresh[k])
        self.fresh, self._size = fresh, size

    def _state(self) -> dict[str, Tensor]:
        return {**super()._state(), "size": self._size, "age": self._age}

    def _set_state(self, state: Mapping[str, Tensor]) -> None:
        super()._set_state(state)
        self._size, self._age = state["size"], state["age"].cpu()
