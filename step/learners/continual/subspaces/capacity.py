"""How much of a layer's dimensions is taken, and how many more a task needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from step.learners.continual.subspaces.base import Subspace
from step.learners.continual.subspaces.projection import Projection, orthonormalised


def automatic_rank(energy: Tensor, held: Tensor | float, total: Tensor | float, threshold: float) -> int:
    """Return the least number of new rows with which ``threshold`` of a task's energy is held.

    Saha et al. (ICLR 2021), equation 9: the least k with held + sum of the first k >= threshold * total.

    Parameters
    ----------
    energy : Tensor [K]
        Energy along candidates for new rows, the largest first.
    held : Tensor or float
        Energy of the same activity that the frozen rows hold already.
    total : Tensor or float
        All of it.
    threshold : float
        Between 0 and 1.
    """
    with_each = held + torch.cat([energy.new_zeros(1), energy.clamp_min(0).cumsum(0)])
    return min(int((with_each < threshold * total).sum()), len(energy))


def residual_share(x: Tensor, without_frozen: Projection, rows: Tensor) -> float:
    """Return the share of the energy of ``x [R, n]`` outside the span of the frozen rows and of ``rows [K, n]``.

    The span counts, whatever the lengths of ``rows`` and the angles between them. 0 for a silent ``x``.
    """
    left = without_frozen(x)
    basis, _ = orthonormalised(rows, without_frozen.rows)
    left = left - (left @ basis.T) @ basis
    return float(left.square().sum() / x.square().sum().clamp_min(1e-30))


def rank_report(subspaces: Mapping[str, Subspace]) -> list[dict[str, Any]]:
    """Return ``report()`` of each layer with its name under ``layer``, in the order given."""
    return [{"layer": name, **subspace.report()} for name, subspace in subspaces.items()]
