"""How spike counts of modules become scores of places."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from neurons.errors import ShapeError


@dataclass(frozen=True)
class Readout:
    """Scores of the places of each module, linear in its spike counts, all modules at once.

    score[b, m, k] = (base[m, k] + sum_n counts[b, m, n] weight[m, n, k])
                     x share of ``firing[m, :, k]`` that belongs to neurons that fired

    Every assignment is of this kind; what it lacks is left out. All in float64.

    Parameters
    ----------
    weight : Tensor, shape [M, N, K]
        What a spike of a neuron adds to the score of a place, for M modules of N neurons and K places.
    assigned : Tensor of bool, shape [M, K]
        Places that any neuron speaks for; the others have no score of their own.
    base : Tensor, shape [M, K], optional
    firing : Tensor, shape [M, N, K], optional
    """

    weight: Tensor
    assigned: Tensor
    base: Tensor | None = None
    firing: Tensor | None = None

    def score(self, counts: Tensor) -> Tensor:
        """Return scores [B, M, K] for spike counts [B, M, N].

        Raises
        ------
        ShapeError
            When modules or neurons do not fit.
        """
        if counts.dim() != 3 or counts.shape[1:] != self.weight.shape[:2]:
            M, N, _ = self.weight.shape
            raise ShapeError(f"spike counts of {M} modules of {N} neurons are [B, {M}, {N}], not {list(counts.shape)}")
        by_module = counts.transpose(0, 1)  # [M, B, N]
        # in float64, so that sums do not depend on how many queries or modules are answered together
        scores = torch.bmm(by_module.to(torch.float64), self.weight)
        if self.base is not None:
            scores = scores + self.base.unsqueeze(1)
        if self.firing is not None:
            scores = scores * torch.bmm((by_module > 0).to(torch.float64), self.firing)
        return scores.transpose(0, 1)

    def expected(self, mean: Tensor, firing: Tensor) -> Tensor:
        """Return the score [M, K] of modules that are not asked: that of an image which they do not know.

        Parameters
        ----------
        mean, firing : Tensor, shape [M, N]
            Mean count of each neuron on such images, and the share of them on which it fires. Where the read-out asks
            which neurons fire, the mean of the product is taken as the product of means.
        """
        scores = torch.einsum("mn,mnk->mk", mean, self.weight)
        if self.base is not None:
            scores = scores + self.base
        if self.firing is not None:
            scores = scores * torch.einsum("mn,mnk->mk", firing, self.firing)
        return scores

    def without(self, removed: Tensor) -> Readout:
        """Return the read-out for which neurons [M, N], true where removed, are always silent."""
        kept = (~removed).unsqueeze(2)
        return replace(
            self,
            weight=self.weight * kept,
            firing=None if self.firing is None else self.firing * kept,
        )

    @property
    def numbers(self) -> int:
        """Numbers that it holds and that are not 0."""
        parts = (self.weight, self.base, self.firing)
        return sum(int((each != 0).sum()) for each in parts if each is not None)


def by_place(scores: Tensor, slots: Tensor, assigned: Tensor) -> Tensor:
    """Put scores [B, M, K] in the order of places: [P, B]; a place without a score gets the query's lowest.

    Parameters
    ----------
    scores : Tensor, shape [B, M, K]
    slots : Tensor, shape [M, K]
        Place of each slot, -1 for none.
    assigned : Tensor of bool, shape [M, K]
    """
    filled = slots >= 0
    place, known = slots[filled], assigned[filled]
    found = scores.new_empty(int(filled.sum()), len(scores))
    found[place] = scores[:, filled].T
    if not bool(known.all()):
        lowest = found[place[known]].amin(dim=0) if bool(known.any()) else found.new_zeros(found.shape[1])
        found[place[~known]] = lowest
    return found


def distribution(scores: Tensor) -> Tensor:
    """Scale scores [P, B] of each query to [0, 1], then to a sum of 1 (Hussaini et al., RA-L 2022); equal ones evenly.

    The best place stays the best; what changes is that scores of different queries can be compared.
    """
    low, high = scores.amin(dim=0), scores.amax(dim=0)
    wide = high > low
    scaled = torch.where(wide, (scores - low) / torch.where(wide, high - low, 1.0), torch.ones_like(scores))
    return scaled / scaled.sum(dim=0)
