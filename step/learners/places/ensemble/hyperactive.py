"""Neurons that answer on images of everything: found, and removed (Hussaini et al., ICRA 2023)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

GRID = (0, 5, 10, 20, 40, 60, 80, 100, 120, 140, 160, 180, 200, 300)
"""Thresholds that are tried, in images of the calibration traverse: those of the published code, and the highest that
it chose; 0 removes none. A map of other length takes the same share of its images."""


def activity(fired: Tensor, recorded: int, places: int) -> Tensor:
    """Return on how many images of the first traverse each neuron answered, float [M, N].

    As in the published code: images with at least one spike. Where only some of the places were recorded, what all of
    them would have given.

    Parameters
    ----------
    fired : Tensor, shape [M, N]
        Recorded images on which each neuron answered.
    recorded, places : int
        Images that were recorded, and those of the traverse.
    """
    return fired.to(torch.float64) * (places / max(recorded, 1))


def hyperactive(images: Tensor, threshold: float) -> Tensor:
    """Return which neurons answer on ``threshold`` images or more; none where it is 0."""
    return images >= threshold if threshold > 0 else torch.zeros_like(images, dtype=torch.bool)


def chosen(images: Tensor, recall: Callable[[Tensor], float]) -> tuple[int, dict[int, float]]:
    """Return the threshold of the best recall on calibration places, and the recall with each of them.

    Of equally good ones the mildest: none, else the highest.

    Parameters
    ----------
    images : Tensor, shape [M, N]
        Images on which neurons of the calibration modules answered.
    recall : callable
        Recall at 1 on calibration queries with neurons [M, N] removed.
    """
    found = {threshold: recall(hyperactive(images, threshold)) for threshold in GRID}
    best = max(found, key=lambda threshold: (found[threshold], threshold == 0, threshold))
    return best, found


def recall_at_1(scores: Tensor, truth: Tensor) -> float:
    """Return the share of queries whose best place [P, Q] is a true one [P, Q]; queries without one do not count.

    Of places that are equally good one is drawn, so to say: the query counts by the share of the true ones.
    """
    best = scores == scores.amax(dim=0)
    right = (best & truth).sum(dim=0) / best.sum(dim=0)
    known = truth.any(dim=0)
    return float(right[known].mean()) if bool(known.any()) else 0.0
