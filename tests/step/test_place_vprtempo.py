"""VPRTempo: the fast rule against the plain one, published rows, thresholds, modules, reads and cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from place_views import lens_views, made_views, row
from pydantic import ValidationError
from torch import Tensor

import energy
from neurons.errors import DataError, OptionError, ShapeError
from step.learners.base import learners
from step.learners.places import tempo
from step.learners.places.tempo import Layer, Rule, drawn, stacked, train, train_plainly
from step.learners.places.vprtempo import VPRTempo, VPRTempoConfig

FEATURES = Rule(0.3, 0.5, threshold_rate=0.05, thresholds=(0.0, 0.2), targets=(0.05, 0.3), rate=0.01, refresh=7)
OUTPUTS = Rule(rate=0.02, refresh=7)

Row = tuple[float, ...]


def mapped(references: Tensor, seed: int = 0, **options: Any) -> VPRTempo:
    learner = VPRTempo(None, VPRTempoConfig(**options), seed=seed)
    learner.map_places(references)
    return learner


def test_registered() -> None:
    assert learners.get("vprtempo") is VPRTempo


@pytest.mark.parametrize(
    "rule",
    [
        FEATURES,
        Rule(0.3, 0.5, threshold_rate=0.05, targets=(0.05, 0.3), separate=True),
        Rule(0.3, 0.5, threshold_rate=0.05, targets=(0.05, 0.3), over_target=True, constant=0.1, lowest=-1.0),
        Rule(0.3, 0.5, threshold_rate=0.05, thresholds=(0.0, 0.2), targets=(0.05, 0.3), defect=True),
        OUTPUTS,
        Rule(rate=0.02, separate=True, over_target=True),
        Rule(rate=0.02, clipped_error=True, over_target=True, ceiling=1.0),
    ],
    ids=[
        "features",
        "features-separate",
        "features-over-target",
        "features-defect",
        "outputs",
        "outputs-separate-over-target",
        "outputs-clipped-over-target",
    ],
)
def test_modules_at_once_learn_what_the_plain_rule_learns(rule: Rule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempo, "BLOCK", 90)  # so that a layer is cut into several blocks
    generator = torch.Generator().manual_seed(0)
    layers = [drawn(rule, 9, 11, generator) for _ in range(3)]
    layers = [Layer(layer.weight.double(), layer.threshold.double()) for layer in layers]
    x = (torch.rand(3, 11, 9, generator=generator, dtype=torch.float64) - 0.2).clamp(min=0.0)
    order = torch.stack([torch.cat([torch.randperm(11, generator=generator) for _ in range(6)]) for _ in range(3)])
    labels = torch.arange(11)
    before = torch.linspace(0.2, 0.9, 9) if rule.over_target and rule.targets is None else None
    fast = train(stacked(layers), rule, x, order, labels, before)
    for module, layer in enumerate(layers):
        plain = train_plainly(layer, rule, x[module], order[module], labels, before)
        assert not torch.allclose(plain.weight, layer.weight, atol=1e-3)
        assert torch.allclose(fast.weight[module], plain.weight, atol=1e-9)
        assert torch.allclose(fast.threshold[module], plain.threshold, atol=1e-9)


def test_drawn_as_published() -> None:
    layer = drawn(Rule(0.1, 0.5, thresholds=(0.0, 0.5)), 400, 300, torch.Generator().manual_seed(0))
    assert float((layer.weight > 0).double().mean()) < 0.1
    # a synapse that is drawn with both signs counts once
    assert float((layer.weight != 0).double().mean()) == pytest.approx(1 - 0.9 * 0.5, abs=0.01)
    # excitation and inhibition of every neuron have length 1 and cancel
    assert torch.allclose(layer.weight.sum(1), torch.zeros(300), atol=1e-5)
    assert 0.0 <= float(layer.threshold.min()) < float(layer.threshold.max()) <= 0.5


def test_signs_and_bounds_are_kept() -> None:
    layer = drawn(FEATURES, 20, 30, torch.Generator().manual_seed(1))
    x = torch.rand(1, 10, 20, generator=torch.Generator().manual_seed(2))
    order = torch.arange(10).repeat(30)[None]
    after = train(stacked([layer]), FEATURES, x, order, torch.arange(10), None).weight[0]
    assert torch.equal(after.sign(), layer.weight.sign())
    assert float(after.abs().max()) <= tempo.LARGEST * (1 + FEATURES.rate * tempo.HOMEOSTASIS)


# Means and standard deviations of 5 seeds in an independent restatement of the rule, 200 features; a mean of few
# seeds here has to lie within two of them.
@pytest.mark.parametrize(
    ("epochs", "seeds", "mean", "deviation"),
    [
        (4, 3, (0.288, 0.476, 0.470, 0.666, 0.589, 0.857), (0.040, 0.045, 0.072, 0.033, 0.080, 0.040)),
        (64, 2, (0.386, 0.566, 0.573, 0.744, 0.674, 0.866), (0.043, 0.045, 0.014, 0.009, 0.039, 0.026)),
    ],
)
def test_rows_of_lens_frames(epochs: int, seeds: int, mean: Row, deviation: Row) -> None:
    references, queries = lens_views()
    rows = [row(mapped(references, seed, epochs=epochs, features=200).similarity(queries)) for seed in range(seeds)]
    off = np.abs(np.mean(rows, axis=0) - mean)
    # both are means of few seeds: at least the s.d. of ours, too
    spread = np.maximum(np.array(deviation), np.std(rows, axis=0, ddof=1))
    assert (off <= 2 * spread).all(), (off, spread)


def test_intrinsic_plasticity_works_and_its_defect_does_not() -> None:
    references, _ = made_views(places=20, side=8)
    options: dict[str, Any] = {"epochs": 12, "targets": (0.02, 0.2), "features": 60, "threshold_rate": 0.2}
    works = mapped(references, **options).details()["features"]
    broken = mapped(references, published_defect=True, **options).details()["features"]
    assert (broken["threshold"] == 0).all()
    assert (works["threshold"] > 0.01).mean() > 0.3
    # a threshold that works brings firing nearer to its target, wherever its bound lets it
    calmed = works["threshold"] > 0.01
    off, alone = ((found["activity"] - found["target"]).abs() for found in (works, broken))
    assert off[calmed].mean() < 0.6 * alone[calmed].mean()
    free = mapped(references, lowest_threshold=-1.0, **options).details()["features"]
    assert (free["activity"] - free["target"]).abs().mean() < 0.6 * alone.mean()


def test_published_thresholds_fall_to_nothing() -> None:
    """With the published constants features fire below their targets, and thresholds are bounded by 0."""
    references, _ = lens_views()
    options: dict[str, Any] = {"epochs": 8, "features": 200}
    assert (mapped(references, published_defect=True, **options).details()["features"]["threshold"] == 0).all()
    found = mapped(references, **options).details()["features"]
    assert found["threshold"].mean() < 0.01
    assert found["activity"].mean() < found["target"].mean()


def test_linear_read_is_one_matrix() -> None:
    references, queries = made_views()
    linear = mapped(references, read="linear", places_per_module=5, epochs=6)
    clamped = VPRTempo(None, VPRTempoConfig(places_per_module=5, epochs=6))
    clamped.restore(linear.tensors())
    rows = [
        clamped._output.weight[module, :size] @ clamped._feature.weight[module]
        for module, size in enumerate(clamped._sizes)
    ]
    expected = torch.cat(rows) @ queries.flatten(1).T
    assert torch.allclose(linear.similarity(queries), expected, atol=1e-5)
    assert not torch.allclose(clamped.similarity(queries), expected, atol=1e-2)
    assert linear.parameter_count == 12 * 36
    record = linear.measure(queries)
    assert record.summary()["dense_macs"] == 12 * 36


@pytest.mark.parametrize("read", ["clamped", "linear", "features"])
def test_finds_places_and_answers_alike_in_any_batch(read: str, tmp_path: Path) -> None:
    references, queries = made_views()
    learner = mapped(references, read=read, places_per_module=5, epochs=100)
    whole = learner.similarity(queries)
    assert whole.shape == (12, 12)
    assert (whole.argmax(0) == torch.arange(12)).double().mean() > 0.7
    one = torch.cat([learner.similarity(query[None], i) for i, query in enumerate(queries)], dim=1)
    assert torch.allclose(whole, one, atol=1e-6)
    learner.save(tmp_path / "map.safetensors")
    other = VPRTempo(None, VPRTempoConfig(read=read, places_per_module=5), seed=9)  # type: ignore[arg-type]
    other.load(tmp_path / "map.safetensors")
    assert torch.equal(other.similarity(queries), whole)
    assert other.parameter_count == learner.parameter_count


@pytest.mark.parametrize("read", ["clamped", "linear", "features"])
def test_counted_network_answers_as_the_learner(read: str) -> None:
    references, queries = made_views()
    learner = mapped(references, read=read, places_per_module=5, epochs=10, constant=0.1)
    with torch.no_grad():
        answers = learner._network()(queries.flatten(1)[None])[0].T
    assert torch.allclose(answers, learner.similarity(queries), atol=1e-5)
    record = learner.measure(queries)
    modules, features = 3, 72
    work = {"clamped": modules * 36 * features + 12 * features, "linear": 12 * 36}
    work["features"] = modules * 36 * features + 2 * 12 * features
    assert record.summary()["dense_macs"] == work[read]
    assert energy.price(record, "op-count")["total"].sum() == pytest.approx(4.6 * work[read])


@pytest.mark.parametrize("read", ["clamped", "linear", "features"])
def test_further_places_are_further_modules(read: str) -> None:
    references, queries = made_views()
    learner = mapped(references[:, :7], read=read, places_per_module=4, epochs=5)
    before, kept = learner.similarity(queries), learner._feature.weight.clone()
    learner.add_places(references[:, 7:])
    assert torch.allclose(learner.similarity(queries)[:7], before, atol=1e-6)
    assert torch.equal(learner._feature.weight[: len(kept)], kept)
    assert learner._sizes == (4, 3, 4, 1)
    assert learner.similarity(queries).shape == (12, 12)


def test_modules_do_not_depend_on_how_many_are_trained_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    references, queries = made_views()
    together = mapped(references, places_per_module=4, epochs=3).similarity(queries)
    monkeypatch.setattr("step.learners.places.vprtempo.BLOCK", 1)
    assert torch.allclose(mapped(references, places_per_module=4, epochs=3).similarity(queries), together, atol=1e-5)


def test_seeds_and_rounding() -> None:
    references, queries = made_views()
    first = mapped(references, 3, epochs=3).similarity(queries)
    assert torch.equal(mapped(references, 3, epochs=3).similarity(queries), first)
    assert not torch.allclose(mapped(references, 4, epochs=3).similarity(queries), first)
    rounded = mapped(references, 3, epochs=3, weight_bits=8)
    assert len(rounded._feature.weight.unique()) <= 255
    assert rounded.memory < 0.3 * mapped(references, 3, epochs=3).memory
    assert torch.allclose(rounded.similarity(queries), first, atol=0.05)


def test_progress_and_history() -> None:
    references, _ = made_views()
    seen: list[dict[str, Any]] = []
    learner = VPRTempo(None, VPRTempoConfig(epochs=20, refresh=10, places_per_module=5), progress=seen.append)
    learner.map_places(references)
    shares = [event["share"] for event in seen]
    assert shares == sorted(shares)
    assert 0.8 < shares[-1] <= 1.0
    assert learner.history[0]["seconds"] > 0


def test_given_weights_and_what_is_refused() -> None:
    _, queries = made_views()
    generator = np.random.default_rng(0)
    feature, output = generator.normal(size=(8, 36)), generator.normal(size=(5, 8))
    learner = VPRTempo.from_weights(feature, output, thresholds=np.full(8, 0.1))
    hidden = np.clip(queries.flatten(1).numpy() @ feature.T - 0.1, 0, 0.9)
    assert np.allclose(learner.similarity(queries), np.clip(hidden @ output.T, 0, 0.9).T, atol=1e-5)
    with pytest.raises(ShapeError, match="the same features"):
        VPRTempo.from_weights(feature, output.T)
    with pytest.raises(OptionError, match="compares with references"):
        VPRTempo.from_weights(feature, output, config=VPRTempoConfig(read="features"))
    with pytest.raises(ValidationError, match="two probabilities"):
        VPRTempoConfig(connections=(0.1, 1.5))
    with pytest.raises(ValidationError, match="go from a lower"):
        VPRTempoConfig(targets=(0.9, 0.2))
    with pytest.raises(DataError, match="vprtempo knows no places yet"):
        VPRTempo(None, VPRTempoConfig()).measure(queries)
    with pytest.raises(ShapeError, match="of 36 pixels"):
        learner.similarity(torch.rand(2, 1, 4, 4))
