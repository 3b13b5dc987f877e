"""Templates and the linear read-out: distances as written, published rows, maps that grow, cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from place_views import lens_views, made_views, row
from torch import Tensor

import energy
from neurons.errors import DataError, OptionError, ShapeError
from step.learners.base import learners
from step.learners.places.hog import hog
from step.learners.places.ridge import Ridge, RidgeConfig, ridge
from step.learners.places.templates import Templates, TemplatesConfig

DISTANCES = ("sad", "ncc", "cosine", "hog", "random-projection")


def templates(references: Tensor, seed: int = 0, **options: Any) -> Templates:
    learner = Templates(None, TemplatesConfig(**options), seed=seed)
    learner.map_places(references)
    return learner


def linear(references: Tensor, **options: Any) -> Ridge:
    learner = Ridge(None, RidgeConfig(**options))
    learner.map_places(references)
    return learner


def test_registered() -> None:
    assert learners.get("templates") is Templates
    assert learners.get("ridge") is Ridge


@pytest.mark.parametrize(
    ("distance", "published"),
    [("sad", (0.42, 0.73, 0.588, 0.753, 0.626, 0.835)), ("ncc", (0.43, 0.73, 0.546, 0.722, 0.615, 0.824))],
)
def test_rows_of_lens_frames(distance: str, published: tuple[float, ...]) -> None:
    references, queries = lens_views()
    assert row(templates(references, distance=distance).similarity(queries)) == pytest.approx(published, abs=0.001)


def test_ridge_row_of_lens_frames() -> None:
    references, queries = lens_views()
    published = (0.45, 0.70, 0.639, 0.804, 0.615, 0.857)
    assert row(linear(references, penalty=100.0).similarity(queries)) == pytest.approx(published, abs=0.001)


def test_distances_are_those_of_numpy() -> None:
    references, queries = made_views()
    a, b = references.flatten(2).double().numpy(), queries.flatten(1).double().numpy()
    sad = -np.abs(a[:, :, None] - b).sum(-1).min(0)
    assert np.allclose(templates(references, distance="sad").similarity(queries), sad, atol=1e-5)
    correlation = np.corrcoef(np.concatenate([*a, b]))[: a.shape[0] * a.shape[1], a.shape[0] * a.shape[1] :]
    ncc = correlation.reshape(*a.shape[:2], -1)
    assert np.allclose(templates(references, distance="ncc").similarity(queries), ncc.max(0), atol=1e-5)
    mean = templates(references, distance="ncc", several="mean").similarity(queries)
    assert np.allclose(mean, ncc.mean(0), atol=1e-5)


def test_oriented_gradients_of_an_edge() -> None:
    """A vertical edge has a horizontal gradient, half in the first and half in the last of nine bins."""
    image = torch.zeros(1, 1, 8, 8)
    image[..., 4:] = 1.0
    found = hog(image, cell=8, block=1).view(9)
    assert found[0] == pytest.approx(float(found[8]))
    assert found[1:8].abs().max() == 0
    turned = hog(image.mT, cell=8, block=1).view(9)
    assert int(turned.argmax()) == 4
    assert hog(torch.rand(3, 1, 28, 28), cell=4).shape == (3, 6 * 6 * 4 * 9)
    assert torch.allclose(hog(torch.rand(2, 1, 8, 8).mul(0.5), 4).norm(dim=1), torch.ones(2), atol=1e-3)


@pytest.mark.parametrize("distance", DISTANCES)
def test_finds_places_and_answers_alike_in_any_batch(distance: str) -> None:
    references, queries = made_views()
    learner = templates(references, distance=distance, features=64, cell=3)
    whole = learner.similarity(queries)
    assert whole.shape == (12, 12)
    assert (whole.argmax(0) == torch.arange(12)).double().mean() >= 0.9
    parts = torch.cat([learner.similarity(queries[i : i + 5], i) for i in range(0, 12, 5)], dim=1)
    assert torch.allclose(whole, parts, atol=1e-6)


@pytest.mark.parametrize("distance", DISTANCES)
def test_further_places_leave_the_answers_for_others(distance: str) -> None:
    references, queries = made_views()
    learner = templates(references[:, :8], distance=distance, cell=3)
    before = learner.similarity(queries)
    learner.add_places(references[:, 8:])
    grown = learner.similarity(queries)
    assert torch.allclose(grown[:8], before, atol=1e-6)
    assert torch.allclose(grown, templates(references, distance=distance, cell=3).similarity(queries), atol=1e-6)


def test_random_projection_follows_its_seed() -> None:
    references, queries = made_views()

    def answers(**options: Any) -> Tensor:
        return templates(references, distance="random-projection", features=8, **options).similarity(queries)

    assert torch.equal(answers(seed=1), answers(seed=1))
    assert torch.equal(answers(seed=1), answers(seed=2, projection_seed=1))
    assert not torch.allclose(answers(seed=1), answers(seed=2))


@pytest.mark.parametrize("distance", DISTANCES)
def test_saved_and_loaded(distance: str, tmp_path: Path) -> None:
    references, queries = made_views()
    learner = templates(references, distance=distance, cell=3)
    learner.save(tmp_path / "map.safetensors")
    other = Templates(None, TemplatesConfig(distance=distance, cell=3), seed=5)  # type: ignore[arg-type]
    other.load(tmp_path / "map.safetensors")
    assert torch.equal(other.similarity(queries), learner.similarity(queries))
    assert other.parameter_count == learner.parameter_count > 0


def test_cost_of_absolute_differences_is_three_operations_a_pixel() -> None:
    references, queries = made_views()
    record = templates(references).measure(queries[:3])
    pixels = 24 * 36
    totals = record.operations.groupby("op")["dense"].sum()
    assert totals["abs"] == pixels
    # subtractions, and additions but for the first of each template
    assert totals["add"] == 2 * pixels - 24
    assert "mac" not in totals
    assert energy.price(record, "typed-horowitz")["total"].sum() > 0
    assert energy.price(record, "op-count")["applicable"].sum() == 0


def test_cost_of_correlation_is_a_product() -> None:
    references, queries = made_views()
    record = templates(references, distance="ncc").measure(queries[:3])
    assert record.summary()["dense_macs"] == 24 * 36
    assert energy.price(record, "op-count")["total"].sum() == pytest.approx(4.6 * 24 * 36)


@pytest.mark.parametrize("bias", [True, False])
def test_ridge_is_the_minimum_by_either_system(bias: bool) -> None:
    """Wide and tall problems give the weights at which the gradient of the loss is 0."""
    generator = torch.Generator().manual_seed(0)
    for samples, inputs in ((30, 7), (7, 30)):
        x = torch.randn(samples, inputs, generator=generator, dtype=torch.float64)
        y = torch.randn(samples, 3, generator=generator, dtype=torch.float64)
        w = ridge(x, y, 2.0)
        assert torch.allclose((x @ w.T - y).T @ x + 2.0 * w, torch.zeros_like(w), atol=1e-9)
    references, queries = made_views()
    learner = linear(references, penalty=1.0, bias=bias)
    assert bool((learner.similarity(queries).argmax(0) == torch.arange(12)).all())
    assert learner.parameter_count == 12 * 36 + 12 * bias


def test_ridge_grows_to_the_map_of_all_places(tmp_path: Path) -> None:
    references, queries = made_views()
    learner = linear(references[:, :8], penalty=1.0)
    learner.add_places(references[:, 8:])
    assert torch.allclose(learner.similarity(queries), linear(references, penalty=1.0).similarity(queries), atol=1e-6)
    learner.save(tmp_path / "map.safetensors")
    other = Ridge(None, RidgeConfig(penalty=1.0))
    other.load(tmp_path / "map.safetensors")
    assert torch.equal(other.similarity(queries), learner.similarity(queries))
    one = torch.cat([other.similarity(query[None]) for query in queries], dim=1)
    assert torch.allclose(one, other.similarity(queries), atol=1e-6)
    assert energy.price(other.measure(queries), "op-count")["total"].sum() == pytest.approx(4.6 * 12 * 36)


def test_what_is_refused() -> None:
    references, queries = made_views()
    with pytest.raises(DataError, match="knows no places yet"):
        Templates(None, TemplatesConfig()).similarity(queries)
    with pytest.raises(ShapeError, match="of 36 pixels"):
        templates(references).similarity(torch.rand(2, 1, 5, 5))
    with pytest.raises(ShapeError, match="as many traverses"):
        templates(references).add_places(references[:1])
    with pytest.raises(OptionError, match="do not fit"):
        templates(references, distance="hog", cell=9)
    with pytest.raises(ShapeError, match="references are views"):
        linear(references[0])
