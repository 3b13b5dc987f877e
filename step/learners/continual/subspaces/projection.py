"""Taking the component along given rows out of vectors, in the cheapest of three equal forms."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from step.learners.continual.rules.activity import Activity

Form = Literal["rows", "matrix", "complement"]

EVENT = 1.5
"""What a non-zero costs where zeros cost nothing, in multiply-adds of a dense product (see neurons.products.cost)."""


class Projection:
    """x - sum_k w_k (x . h_k) h_k for fixed rows h_k, at the lowest cost in multiply-adds.

    ``rows`` evaluates it as it stands (2 K n for each vector); ``matrix`` multiplies by I - H^T W H (n n); and
    ``complement``, for orthonormal rows of one strength, goes through an orthonormal basis Q of what the rows leave
    free (2 (n - K) n): x -> (1 - w) x + w (x Q^T) Q. All three are the same map; which one is taken is in ``form``.
    What the last two need is made when it is first used.

    Parameters
    ----------
    rows : Tensor [K, n]
        Not changed, and must not be changed from outside.
    strength : float or Tensor [K]
        w, one for all rows or one for each; 1 removes the component wholly.
    orthonormal : bool
        Whether the rows are orthonormal.
    form : {"rows", "matrix", "complement"}, optional
        Takes this form, whatever it costs.
    """

    def __init__(
        self, rows: Tensor, strength: float | Tensor = 1.0, *, orthonormal: bool, form: Form | None = None
    ) -> None:
        self.rows = rows
        self.strength = strength
        count, n = rows.shape
        costs: dict[Form, int] = {"rows": 2 * count, "matrix": n}
        self._complements = orthonormal and isinstance(strength, float) and count <= n
        if self._complements:
            costs["complement"] = 2 * (n - count)
        self.form: Form = form if form is not None else min(costs, key=costs.__getitem__)
        self.cost = costs[self.form]
        """Multiply-adds for each entry of a vector."""
        self._made: dict[Form, Tensor] = {}

    def cost_of(self, x: Activity) -> tuple[float, Form]:
        """Return the multiply-adds for each value of activity at the cheapest, and the form that takes them.

        Zeros of activity cost nothing in the first product of each form; the second one of two has a dense factor.
        """
        if not len(self.rows):
            return 0.0, "rows"
        dense = min(1.0, EVENT * x.density())
        count, n = self.rows.shape
        costs: dict[Form, float] = {"rows": (1 + dense) * count, "matrix": dense * n}
        if self._complements:
            costs["complement"] = (1 + dense) * (n - count)
        chosen = min(costs, key=costs.__getitem__)
        return costs[chosen], chosen

    @torch.no_grad()
    def of(self, x: Activity) -> Tensor:
        """Return activity [R, n] without its component."""
        if not len(self.rows):
            return x.rows()
        form = self.cost_of(x)[1]
        if form == "matrix":
            return x.times(self._matrix())  # which is symmetric
        if form == "complement":
            basis, strength = self._complement(), self.strength
            assert isinstance(strength, float)
            return torch.addmm(x.rows(), x.times(basis), basis, beta=1 - strength, alpha=strength)
        return torch.addmm(x.rows(), x.times(self.rows) * self.strength, self.rows, alpha=-1)

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Return ``x [..., n]`` without its component, in the type of ``x``; computed in that of the rows."""
        if not len(self.rows):
            return x.clone()
        flat = x.reshape(-1, x.shape[-1]).to(self.rows.dtype)
        if self.form == "matrix":
            found = flat @ self._matrix()
        elif self.form == "complement":
            assert isinstance(self.strength, float)
            basis = self._complement()
            found = torch.addmm(flat, flat @ basis.T, basis, beta=1 - self.strength, alpha=self.strength)
        else:
            along = (flat @ self.rows.T) * self.strength
            found = torch.addmm(flat, along, self.rows, alpha=-1)
        return found.reshape(x.shape).to(x.dtype)

    def _matrix(self) -> Tensor:
        if "matrix" not in self._made:
            n = self.rows.shape[1]
            weighted = (self.rows.T * self.strength) @ self.rows
            self._made["matrix"] = torch.eye(n, dtype=self.rows.dtype, device=self.rows.device) - weighted
        return self._made["matrix"]

    def _complement(self) -> Tensor:
        if "complement" not in self._made:
            everything = torch.linalg.qr(self.rows.T, mode="complete").Q
            self._made["complement"] = everything[:, len(self.rows) :].T.contiguous()
        return self._made["complement"]


def random_rows(count: int, n: int, generator: torch.Generator) -> Tensor:
    """Return ``count`` random orthonormal rows ``[count, n]``, the same on every machine for the same generator.

    They are the orthogonal factor of a Gaussian matrix with the signs that make it uniformly distributed (Mezzadri,
    Notices of the AMS 54, 2007), as in ``torch.nn.init.orthogonal_``. ``count`` may not exceed ``n``.
    """
    found = torch.linalg.qr(torch.randn(n, count, generator=generator))
    return (found.Q * found.R.diagonal().sign()).T.contiguous()


def orthonormalised(rows: Tensor, frozen: Tensor, smallest: float = 1e-3) -> tuple[Tensor, Tensor]:
    """Return orthonormal rows, orthogonal to ``frozen``, that span what ``rows`` add to it, and which rows they keep.

    QR of the rows without their component along the frozen ones. A row of which less than ``smallest`` is left after
    the frozen and the earlier rows has no direction of its own any more and is dropped: its unit vector would be noise.

    Parameters
    ----------
    rows : Tensor [K, n]
        The important ones first.
    frozen : Tensor [F, n]
        Orthonormal.

    Returns
    -------
    Tensor [K', n], Tensor [K']
        The rows, and the numbers of those kept.
    """
    left = rows
    for _ in range(2):  # once more takes out what rounding left in ("twice is enough", Parlett 1980)
        left = left - (left @ frozen.T) @ frozen
    kept = torch.arange(len(rows), device=rows.device)
    while True:
        found = torch.linalg.qr(left[kept].T)
        size = found.R.diagonal().abs()
        weak = (size <= smallest).nonzero().flatten()
        # Rows after the first weak one may lean on its direction, which is noise: they are judged again without it.
        if not len(weak) and len(kept) <= rows.shape[1]:
            return (found.Q * found.R.diagonal().sign()).T.contiguous(), kept
        drop = int(weak[0]) if len(weak) else len(size)
        kept = torch.cat([kept[:drop], kept[drop + 1 :]])


def principal_axes(rows: Tensor, whole: float) -> tuple[Tensor, Tensor]:
    """Return squared singular values (float64, the largest first) and right singular vectors ``[k, n]`` of ``rows``.

    Directions whose energy is 1e-10 of ``whole`` or less are left out: of rows in float32 from which a part was taken,
    they hold what rounding left in. Through the smaller moment, in float64 since that squares what rounding sees.

    Parameters
    ----------
    rows : Tensor [R, n]
    whole : float
        Energy of the rows before anything was taken out.
    """
    wide = rows.double()
    if len(rows) <= rows.shape[1]:
        energy, mixed = torch.linalg.eigh(wide @ wide.T)
        real = energy > 1e-10 * whole
        energy = energy[real].flip(0)
        axes = (mixed[:, real].flip(1).T @ wide) / energy.sqrt()[:, None]
    else:
        energy, mixed = torch.linalg.eigh(wide.T @ wide)
        real = energy > 1e-10 * whole
        energy, axes = energy[real].flip(0), mixed[:, real].flip(1).T
    return energy, axes.to(rows.dtype)
