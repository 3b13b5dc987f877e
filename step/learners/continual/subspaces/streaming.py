"""Learners that carry the rows themselves from batch to batch, and how their number grows by itself."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from neurons.checks import count
from step.learners.continual.rules.activity import Activity
from step.learners.continual.subspaces.base import Found, Subspace
from step.learners.continual.subspaces.capacity import automatic_rank, residual_share
from step.learners.continual.subspaces.projection import orthonormalised, random_rows

DECAY = 0.9
"""Of the averages of energies from one update to the next: rows move, so that old measurements mislead."""


class Streaming(Subspace):
    """A subspace whose new rows are improved by every batch.

    New rows start as random orthonormal rows, orthonormal among themselves and not to the frozen ones (Xiao et al.).

    With an automatic rank a task begins with one block of rows. Every ``every`` updates the share of the batch's energy
    outside the span of all rows is measured; where it is above 1 - ``threshold`` and has not fallen by a tenth since
    the last measurement, the rows there are have found what they can, and their number is doubled. That ends: the share
    cannot fall by tenths for ever without going below 1 - ``threshold``, and rows end at ``capacity``. When the task is
    over, the new rows are turned to the principal axes of the activity in their span, orthonormal ones, and the last of
    them, without which ``threshold`` is held as well, are dropped: too many were a matter of time only.

    Parameters
    ----------
    block : int, optional
        Rows that an automatic rank begins with; by default a sixteenth of the dimensions, or 8.
    every : int
        Updates between two decisions of an automatic rank.
    **options
        Of :class:`Subspace`.
    """

    def __init__(self, n: int, *, block: int | None = None, every: int = 10, **options: Any) -> None:
        super().__init__(n, **options)
        self.block = block if block is not None else max(8, n // 16)
        count("a subspace", block=self.block, every=every)
        self.every = every
        self._end()

    def _end(self) -> None:
        self.fresh = self._empty()
        """Rows of the current task, ``[K, n]``."""
        self._progress = torch.tensor([0.0, 1.0], dtype=torch.float64)  # updates, residual share when last measured
        self._forget()

    def _forget(self) -> None:
        """Begin the averages of energies anew: with other rows they would be of unequal age."""
        self._total = torch.zeros((), device=self.device)
        self._along = torch.zeros(self.rank, device=self.device)
        self._basis = self._empty()
        self._moment = self._empty(0)

    def _begin(self, rows: int | None) -> None:
        self._extend(min(self.block, self.n - self.rank) if rows is None else rows)

    def _extend(self, rows: int) -> None:
        new = random_rows(rows, self.n, self.generator).to(self.device)
        self.fresh = torch.cat([self.fresh, new])
        self._forget()

    def _learn(self, x: Activity) -> None:
        done = int(self._progress[0])
        if self.automatic and done and done % self.every == 0:
            self._decide(x)
        if len(self.fresh):
            self._improve(x)
        self._progress[0] += 1
        if self.automatic or self.importance is not None:
            self._measure(x)

    @abstractmethod
    def _improve(self, x: Activity) -> None:
        """Change ``fresh`` by what the batch says."""

    def _measure(self, x: Activity) -> None:
        """Average the energies of activity: all of it, along frozen rows, and its moment in the span of the new ones.

        Rows on their way are not orthonormal, and activity along two that lean on each other would count twice. The
        moment is held in an orthonormal basis of their span therefore and carried over from that of the last update.
        """
        basis, _ = orthonormalised(self.fresh, self.frozen)
        y = x.times(basis)
        turn = basis @ self._basis.T
        self._total = DECAY * self._total + x.energy() / len(x)
        self._along = DECAY * self._along + x.times(self.frozen).square().mean(0)
        self._moment = DECAY * (turn @ self._moment @ turn.T) + y.T @ y / len(x)
        self._basis = basis

    def _decide(self, x: Activity) -> None:
        before, left = float(self._progress[1]), residual_share(x.rows(), self._without, self.fresh)
        self._progress[1] = left
        room = self.n - self.rank - len(self.fresh)
        if room and left > 1 - self.threshold and left > 0.9 * before:
            self._extend(min(max(self.block, len(self.fresh)), room))

    def _found(self) -> Found:
        if not (self.automatic or self.importance is not None) or not float(self._total):
            return Found(self.fresh)
        energy, axes = torch.linalg.eigh(self._moment)
        energy, rows = energy.flip(0), axes.flip(1).T @ self._basis
        if self.automatic:
            kept = automatic_rank(energy, self._along.sum(), self._total, self.threshold)
            energy, rows = energy[:kept], rows[:kept]
        return Found(rows, energy, self._along)

    def _state(self) -> dict[str, Tensor]:
        return {
            "fresh": self.fresh,
            "progress": self._progress,
            "total": self._total,
            "along": self._along,
            "basis": self._basis,
            "moment": self._moment,
        }

    def _set_state(self, state: Mapping[str, Tensor]) -> None:
        self.fresh = state["fresh"]
        self._progress = state["progress"].cpu()
        self._total, self._along = state["total"], state["along"]
        self._basis, self._moment = state["basis"], state["moment"]
