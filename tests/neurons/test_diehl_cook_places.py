"""A module learns places: how many neurons answer, how often, and how alike Brian 2 does it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from benchmarks.datasets.roots import search_roots
from benchmarks.speed import places_brian2
from encoders.view import patch_normalised, resized
from neurons.diehl_cook import Constants, Modules, Reference, poisson, poisson_rates
from neurons.diehl_cook.kernel import library

REPOSITORY = Path(__file__).parents[2]
SHORT = Constants(image=100.0, silence=60.0, settle=60.0)
compiled = pytest.mark.skipif(library() is None, reason="there is no C compiler")
brian2 = pytest.mark.skipif(bool(places_brian2.why_not()), reason=places_brian2.why_not() or "brian2 is there")


def frames() -> Tensor:
    """Every fourth reference frame of LENS's example traverse as the network sees it, or none."""
    roots = [*search_roots(), REPOSITORY / "shared" / "data", REPOSITORY.parent / "shared" / "data"]
    folders = [root / "lens" / "dataset" / "example" / "davis128" / "example-reference" for root in roots]
    files = next((found for folder in folders if (found := sorted(folder.glob("*.png")))), [])
    if not files:
        pytest.skip("no lens/dataset/example in a data folder: set STEP_DATA to one with the files of AdamDHines/LENS")
    raw = torch.stack([torch.from_numpy(np.array(Image.open(file).convert("L"))) for file in files[::4]])
    return patch_normalised(resized(raw[:, None].float() / 255.0, 28), 7).flatten(1)


@compiled
def test_few_neurons_answer_to_a_place_they_learned() -> None:
    places = frames()
    assert places.shape == (25, 784)
    made = Modules(1, 784, 100, seed=0)
    g = torch.Generator().manual_seed(0)
    order = torch.cat([torch.randperm(25, generator=g) for _ in range(40)])[None]
    counts = made.train(places, order, seed=0, counts=True)
    assert counts is not None
    first, last = (part[:, 0].double() for part in (counts[:50], counts[-250:]))
    # the published network ends at 17 spikes of 5 neurons, 4 neurons for a place as here
    assert first.sum(1).mean() > 100
    assert 12 < last.sum(1).mean() < 35
    assert 4 < (last > 0).sum(1).double().mean() < 15
    assert int(counts.max()) <= 7
    theta = made.theta
    assert 38 < theta.mean() < 50
    assert theta.max() - theta.min() < 5  # published: 38.8 to 42.2
    favourite = torch.zeros(25, 100, dtype=torch.float64).index_add_(0, order[0, -250:], last)
    place = favourite.argmax(0)
    answers = made.respond(places, seed=123)[:, 0].double()
    score = torch.zeros(25, 25, dtype=torch.float64).index_add_(1, place, answers)
    score /= torch.bincount(place, minlength=25).clamp(min=1)
    assert (score.argmax(1) == torch.arange(25)).double().mean() >= 0.9


@brian2
@pytest.mark.parametrize("delayed", [False, True])
def test_the_reference_is_brian2_spike_for_spike(delayed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places_brian2.brian().prefs, "codegen.target", "numpy", raising=False)
    places_brian2.brian().prefs.codegen.target = "numpy"
    rng = np.random.default_rng(0)
    weights, theta = 0.3 * (rng.random((784, 20)) + 0.01), np.full(20, 22.0)
    delays = rng.random(weights.shape) * 10.0 if delayed else None
    theirs = places_brian2.BrianModule(
        weights, theta, learn=True, constants=SHORT, delays=delays, explicit=True
    )  # fmt: skip
    ours = Reference(weights, theta, constants=SHORT, delays=delays)
    theirs.settle()
    ours.settle(learn=True)
    for n in range(2):
        raster = poisson(poisson_rates(torch.rand(784, generator=torch.Generator().manual_seed(n))), n, steps=1000)
        found = ours.present(raster, learn=True)
        assert found.sum() > 10
        np.testing.assert_array_equal(theirs.present(raster), found)
    np.testing.assert_allclose(theirs.weights, ours.weights, rtol=0, atol=1e-9)
    np.testing.assert_allclose(theirs.theta, ours.theta, rtol=0, atol=1e-6)


@brian2
@compiled
def test_the_fast_simulator_fires_as_brian2_does() -> None:
    places_brian2.brian().prefs.codegen.target = "numpy"
    made = Modules(1, 784, 30, constants=SHORT)
    made.theta = torch.full_like(made.theta, 24.0)
    rng = np.random.default_rng(0)
    theirs = places_brian2.BrianModule(
        made.weights[0].numpy(), made.theta[0].numpy(), constants=SHORT, delays=rng.random((784, 30)) * 10.0
    )
    theirs.settle()
    shown = torch.rand(6, 784, generator=torch.Generator().manual_seed(0))
    brian = np.stack([theirs.present(rates) for rates in poisson_rates(shown)])
    ours = made.respond(shown.repeat(10, 1), seed=0)[:, 0].numpy()
    assert brian.sum(1).mean() == pytest.approx(ours.sum(1).mean(), rel=0.3)
    assert (brian > 0).sum(1).mean() == pytest.approx((ours > 0).sum(1).mean(), rel=0.3)
