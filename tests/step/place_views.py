"""Views to test learners of places on: the two passes that LENS ships, and made ones."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import encoders
from benchmarks.datasets.roots import search_roots

REPOSITORY = Path(__file__).parents[2]
EXAMPLE = "lens/dataset/example/davis128"


@cache
def lens_views() -> tuple[Tensor, Tensor]:
    """Return references [1, 100, 1, 10, 10] and queries [100, 1, 10, 10] of the example of LENS, as LENS sees them."""
    roots = [*search_roots(), REPOSITORY / "shared" / "data", REPOSITORY.parent / "shared" / "data"]
    folder = next((root / EXAMPLE for root in roots if (root / EXAMPLE / "example-query").is_dir()), None)
    if folder is None:
        pytest.skip(f"no {EXAMPLE} in a data folder: set STEP_DATA to one with the files of AdamDHines/LENS")
    view = encoders.create("view", pick=8, gamma=True)
    references, queries = (view(_images(folder / f"example-{part}"), 1)[0] for part in ("reference", "query"))
    return references[None], queries


def _images(folder: Path) -> Tensor:
    files = sorted(folder.glob("*.png"))
    return torch.stack([torch.from_numpy(np.array(Image.open(file).convert("L")))[None] for file in files]) / 255.0


def recalls(similarity: Tensor) -> dict[tuple[int, int], float]:
    """Return R@1 of one query for each place, by length of the sequence and tolerance in places."""
    found = {}
    for length in (1, 4, 10):
        windows = len(similarity) - length + 1
        # float64, so that the order of the sum decides no tie
        summed = sum(similarity[k : k + windows, k : k + windows].double() for k in range(length))
        off = (torch.as_tensor(summed).argmax(0) - torch.arange(windows)).abs()
        found |= {(length, within): float((off <= within).double().mean()) for within in (1, 3)}
    return found


ROWS = [(1, 1), (1, 3), (4, 1), (4, 3), (10, 1), (10, 3)]
"""Sequence lengths and tolerances of the published rows."""


def row(similarity: Tensor) -> list[float]:
    """Return R@1 in the order of ``ROWS``."""
    found = recalls(similarity)
    return [found[key] for key in ROWS]


def made_views(places: int = 12, traverses: int = 2, side: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return references [R, P, 1, side, side] of random places with little noise, and as many noisy queries."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand(places, 1, side, side, generator=generator)
    noise = torch.randn(traverses + 1, places, 1, side, side, generator=generator) * 0.05
    seen = (truth + noise).clamp(0.0, 1.0)
    return seen[:traverses], seen[traverses]
