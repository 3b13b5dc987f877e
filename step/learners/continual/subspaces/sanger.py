"""Sanger's rule: every row learns what the rows before it leave, so that rows become principal axes."""

from __future__ import annotations

from torch import Tensor

from step.learners.continual.subspaces.base import subspaces
from step.learners.continual.subspaces.hebbian import Hebbian


@subspaces.register("sanger")
class Sanger(Hebbian):
    """Generalised Hebbian algorithm (Sanger, Neural Networks 2, 1989), after frozen rows.

    G = (P(Y_n^T X) - tril(Y_n^T Y_n) H_n) / R: a row is inhibited by the frozen rows, itself and the rows before it,
    and not by those after it. The rows go to the leading eigenvectors of what is left, in order, where those of Oja's
    rule go to an arbitrary rotation of them. Momentum and iterations as there; Sanger has none and one.

    Parameters
    ----------
    n : int
        Inputs of the layer.
    **options
        Of :class:`Hebbian`.
    """

    def _inhibiting(self, together: Tensor) -> Tensor:
        return together.tril()

    def _per_row(self, rows: int) -> bool:
        # The feedback that a row learns from is its own.
        return False
