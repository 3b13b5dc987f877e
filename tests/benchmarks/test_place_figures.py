"""Published event frames of two drives, matched by templates: the figures that were measured on them before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor

from benchmarks.datasets.places import PlaceDataset, along
from benchmarks.datasets.roots import search_roots
from benchmarks.protocols import Setting
from benchmarks.protocols.places import PlaceRecognition
from encoders.view import View

REPOSITORY = Path(__file__).parents[2]
ROOTS = [*search_roots(), REPOSITORY / "shared" / "data", REPOSITORY.parent / "shared" / "data"]
LENS = next((folder for root in ROOTS if (folder := root / "lens" / "dataset").is_dir()), None)

pytestmark = pytest.mark.skipif(
    LENS is None, reason="no lens/dataset in a data folder: set STEP_DATA to one with the files of AdamDHines/LENS"
)


def drives(folder: str, reference: str, query: str) -> PlaceDataset:
    assert LENS is not None
    maps, queries = (
        torch.from_numpy(
            np.stack([np.asarray(Image.open(file)) for file in sorted((LENS / folder / name).glob("*.png"))])
        )
        for name in (reference, query)
    )
    truth = torch.from_numpy(np.load(LENS / folder / f"{reference}_{query}_GT.npy", allow_pickle=False) > 0)
    if truth.shape != (len(maps), len(queries)):
        truth = truth.T.contiguous()
    splits = along([maps[:, None]], queries[:, None], truth)
    facts = {"channels": 1, "image_size": maps.shape[-1], "source": "LENS", "licence": "MIT", "note": ""}
    return PlaceDataset(folder, classes=len(maps), truth=truth, **splits, **facts)


class Templates:
    """The sum of absolute differences, or the correlation, of a query and each reference."""

    batch, memory, parameter_count = 64, 0, 0

    def __init__(self, correlated: bool = False) -> None:
        self.correlated = correlated

    def map_places(self, references: Tensor, calibration: object = None) -> None:
        self.references = self._flat(references[0])

    def similarity(self, queries: Tensor, first: int = 0) -> Tensor:
        seen = self._flat(queries)
        if self.correlated:
            return (self.references @ seen.T).float()
        return -torch.cdist(self.references, seen, p=1.0).float()

    def details(self) -> dict[str, pd.DataFrame]:
        return {}

    def _flat(self, x: Tensor) -> Tensor:
        flat = x.flatten(1).double()
        if not self.correlated:
            return flat
        flat = flat - flat.mean(dim=1, keepdim=True)
        return flat / flat.norm(dim=1, keepdim=True)


def recalls(data: PlaceDataset, view: View, learner: Templates, columns: Sequence[tuple[int, int]], **options) -> list:
    """R@1 of each (length, tolerance)."""
    protocol = PlaceRecognition(
        lengths=sorted({length for length, _ in columns}),
        tolerances=sorted({t for _, t in columns}),
        timed=0,
        **options,
    )
    setting = Setting(data, view, 1, 0)
    protocol.check(setting, learner.batch)
    table = protocol.run(learner, setting).tables["places"]
    values = table[table["metric"] == "recall_at_1"].set_index(["L", "tolerance"])["value"]
    return [round(float(values[column]), 3) for column in columns]


@pytest.mark.parametrize(
    ("correlated", "figures"),
    [(False, [0.42, 0.73, 0.588, 0.753, 0.626, 0.835]), (True, [0.43, 0.73, 0.546, 0.722, 0.615, 0.824])],
)
def test_the_example_of_lens(correlated, figures):
    data = drives("example/davis128", "example-reference", "example-query")
    columns = [(length, tolerance) for length in (1, 4, 10) for tolerance in (1, 3)]
    view = View(pick=8, gamma=True)
    assert recalls(data, view, Templates(correlated), columns, bootstrap=0) == figures


def test_a_drive_through_brisbane_counted_as_lens_does():
    """Raw counts; right is what is near in places or in queries; sequences count by the frame that they begin with."""
    data = drives("brisevent/davis346", "sunset2", "sunset1")
    assert int(data.truth.sum()) == 822
    columns = [(length, tolerance) for length in (1, 10) for tolerance in (0, 1, 3)]
    counted = {"truth_at": "first", "square": True, "bootstrap": 0}
    for correlated, figures in (
        (False, [0.106, 0.186, 0.225, 0.540, 0.775, 0.793]),
        (True, [0.085, 0.157, 0.198, 0.596, 0.863, 0.897]),
    ):
        assert recalls(data, View(), Templates(correlated), columns, **counted) == figures


def test_speed_is_searched_for_on_a_drive_with_frames_left_out():
    """Every fifth query is dropped: a diagonal loses the way that lines and paths keep."""
    data = drives("example/davis128", "example-reference", "example-query")
    kept = torch.arange(100)[torch.arange(100) % 5 != 0]
    truth = data.truth[:, kept]
    queries, _ = data.test.batch(kept)
    facts = {"channels": 1, "image_size": 80, "source": "LENS", "licence": "MIT", "note": ""}
    splits = along([data.train.batch(torch.arange(100))[0]], queries, truth, full_scale=1.0)
    short = PlaceDataset("dropped", classes=100, truth=truth, **splits, **facts)
    view = View(pick=8, gamma=True)
    found = {
        matching: recalls(short, view, Templates(), [(20, 3)], matching=matching, bootstrap=0)[0]
        for matching in ("diagonal", "velocities", "path")
    }
    assert found["diagonal"] + 0.1 < min(found["velocities"], found["path"])
