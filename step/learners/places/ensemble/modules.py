"""Which module holds which places, and in which order it sees them."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

EMPTY = -1
"""Slot of a module that holds no place."""

# Everything random has a seed of its own, so that nothing that is added later changes what was drawn before.
MEMBERSHIP, WEIGHTS, ORDER, TRAINING, FROZEN, RECORD, SAMPLE, QUERIES, CALIBRATION, ADDED = range(10)


def derived(seed: int, *path: int) -> int:
    """Return a seed below 2^31 that follows from ``seed`` and a path of numbers, each path its own."""
    return int(np.random.SeedSequence([seed, *path]).generate_state(1)[0]) & 0x7FFFFFFF


def membership(places: int, size: int, how: Literal["shuffled", "regions"], seed: int) -> Tensor:
    """Return the places of each module, int64 [modules, size], -1 where the last module has fewer.

    Parameters
    ----------
    places : int
    size : int
        Places of a module.
    how : {"shuffled", "regions"}
        Modules of places drawn from anywhere along the route, or of neighbours (places.md 1.6: shuffled as published).
    seed : int
    """
    order = torch.arange(places)
    if how == "shuffled":
        order = torch.randperm(places, generator=torch.Generator().manual_seed(seed))
    modules = -(-places // size)
    slots = torch.full((modules * size,), EMPTY)
    slots[:places] = order
    return slots.view(modules, size)


def order_of(slots: Tensor, traverses: int, places: int, seed: int, epoch: int) -> tuple[Tensor, Tensor]:
    """Return which images the modules see in an epoch and which of their slots these show, both [modules, n].

    Every module sees each of its places once for each traverse, in an order of its own. A module with fewer places
    than the others sees some of them again until it has had as many presentations: thresholds rise with the number of
    spikes, and those of all modules should have risen alike.

    Parameters
    ----------
    slots : Tensor, shape [modules, K]
        Places of each module; what is drawn for a module depends on its number, not on how many there are.
    traverses, places : int
        Images are numbered traverse x places + place.
    seed, epoch : int
    """
    size = slots.shape[1]
    images, shown = [], []
    for number, row in enumerate(slots):
        generator = torch.Generator().manual_seed(derived(seed, ORDER, epoch, number))
        filled = int((row != EMPTY).sum())
        rounds = -(-size // filled)
        passes = []
        for traverse in range(traverses):
            slot = torch.cat([torch.randperm(filled, generator=generator) for _ in range(rounds)])[:size]
            passes.append(torch.stack([traverse * places + row[slot], slot]))
        seen = torch.cat(passes, dim=1)[:, torch.randperm(size * traverses, generator=generator)]
        images.append(seen[0])
        shown.append(seen[1])
    return torch.stack(images), torch.stack(shown)


def sample(places: int, count: int | None, seed: int) -> Tensor:
    """Return the places of the first traverse that are recorded, in order: all, or one of each of ``count`` stretches.

    A stretch is places / count long, and the place in it is drawn: evenly spread, but in step with nothing.
    """
    if count is None or count >= places:
        return torch.arange(places)
    edges = torch.linspace(0, places, count + 1, dtype=torch.float64)
    inside = torch.rand(count, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (edges[:-1] + inside * (edges[1:] - edges[:-1])).floor().long().clamp(max=places - 1)
