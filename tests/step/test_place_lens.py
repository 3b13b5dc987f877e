"""LENS: spiking answers, what they converge to, ties, given weights, and cost."""

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
from neurons.errors import OptionError
from step.learners.base import learners
from step.learners.places.integrate_and_fire import Deployment, FlooredIF, bernoulli, most_spikes
from step.learners.places.lens import LENS, LENSConfig
from step.learners.places.tempo import Layer


def mapped(references: Tensor, seed: int = 0, **options: Any) -> LENS:
    learner = LENS(None, LENSConfig(**options), seed=seed)
    learner.map_places(references)
    return learner


def sibling(learner: LENS, **options: Any) -> LENS:
    """The same map with another way to answer."""
    other = LENS(None, LENSConfig(**options), seed=learner.seed)
    other.restore(learner.tensors())
    return other


def test_registered() -> None:
    assert learners.get("lens") is LENS


def test_neuron_subtracts_its_threshold_and_stops_at_its_floor() -> None:
    x = torch.tensor([1.5, 0.6, -5.0, 1.0, 1.0, 3.0, 0.0])[:, None]
    spikes, state = FlooredIF(1.0, -1.0).run(x)
    #  v: 1.5->.5, 1.1->.1, floor -1, 0, 1->0, 3->2, 2->1
    assert spikes.flatten().tolist() == [1, 1, 0, 0, 1, 1, 1]
    assert float(state["v"]) == pytest.approx(1.0)
    with pytest.raises(OptionError, match="at most 0"):
        FlooredIF(1.0, 0.5)


@pytest.mark.parametrize("thresholds", [(1.0, 1.0), (10.0, 2.0)])
def test_many_steps_converge_to_the_rate_answer(thresholds: tuple[float, float]) -> None:
    references, queries = made_views(places=8)
    learner = mapped(references, epochs=40, answer="rate")
    rate = learner.similarity(queries)
    off = []
    for steps in (50, 400, 3200):
        spiking = sibling(learner, steps=steps, floor=None, spike_thresholds=thresholds, ties="first")
        off.append(float((spiking.similarity(queries) / steps - rate).abs().mean()))
    assert off[2] < off[1] < off[0]
    assert off[2] < 0.02
    assert float(rate.max()) > 0.2


def test_weights_as_they_are_fire_at_a_share_of_the_threshold() -> None:
    weight = torch.eye(3)
    steps, x = 1000, torch.tensor([[0.9, 0.5, 0.1]]).repeat(1000, 1, 1)
    rates = {}
    for normalised in (True, False):
        deployed = Deployment([Layer(weight, torch.zeros(3))], [weight], (10.0, 2.0), normalised, None)
        rates[normalised] = deployed.answers(x)[0][0] / steps
    assert torch.allclose(rates[True], x[0, 0], atol=0.01)
    assert torch.allclose(rates[False], x[0, 0] / 20, atol=0.01)


def test_thresholds_of_the_rule_are_a_constant_input() -> None:
    deployed = Deployment([Layer(torch.eye(2), torch.tensor([0.3, 0.0]))], [torch.eye(2)], floor=None)
    counts, _ = deployed.answers(torch.full((500, 1, 2), 0.7))
    assert (counts[0] / 500).tolist() == pytest.approx([0.4, 0.7], abs=0.01)


def test_ties_are_broken_by_the_potential_only() -> None:
    counts, potentials = torch.tensor([3.0, 3.0, 4.0, 4.0]), torch.tensor([0.9, 50.0, -60.0, 0.2])
    order = most_spikes(counts, potentials).argsort().tolist()
    assert order == [0, 1, 2, 3]
    assert most_spikes(counts, potentials).floor().tolist() == counts.tolist()


def test_spikes_come_with_the_probability_of_the_value_and_from_the_number_of_the_query() -> None:
    rows = torch.rand(6, 40, generator=torch.Generator().manual_seed(0))
    spikes = bernoulli(rows, 4000, seed=1, first=10)
    assert spikes.shape == (4000, 6, 40)
    assert torch.allclose(spikes.mean(0), rows, atol=0.05)
    assert torch.equal(bernoulli(rows[2:4], 4000, seed=1, first=12), spikes[:, 2:4])
    assert not torch.equal(bernoulli(rows, 4000, seed=2, first=10), spikes)
    assert not torch.equal(bernoulli(rows, 4000, seed=1, first=11), spikes)


@pytest.mark.parametrize("answer", ["spiking", "rate"])
def test_answers_alike_in_any_batch_and_after_loading(answer: str, tmp_path: Path) -> None:
    references, queries = made_views()
    learner = mapped(references, epochs=60, places_per_module=5, answer=answer, steps=100)
    whole = learner.similarity(queries)
    assert whole.shape == (12, 12)
    assert (whole.argmax(0) == torch.arange(12)).double().mean() > 0.6
    parts = torch.cat([learner.similarity(queries[i : i + 5], i) for i in range(0, 12, 5)], dim=1)
    assert torch.allclose(parts, whole, atol=1e-6)
    learner.save(tmp_path / "map.safetensors")
    other = LENS(None, LENSConfig(answer=answer, steps=100))  # type: ignore[arg-type]
    other.load(tmp_path / "map.safetensors")
    assert torch.equal(other.similarity(queries), whole)


def test_further_places_leave_the_answers_for_others() -> None:
    references, queries = made_views()
    learner = mapped(references[:, :7], epochs=5, places_per_module=4, steps=50)
    before = learner.similarity(queries)
    learner.add_places(references[:, 7:])
    assert torch.allclose(learner.similarity(queries)[:7], before, atol=1e-6)
    assert learner.similarity(queries).shape == (12, 12)


def test_errors_that_are_clipped_only_raise_weights() -> None:
    references, _ = made_views()
    start = mapped(references, epochs=1, rate=1e-9, separate=False)._output.weight
    learned = mapped(references, epochs=1, separate=False)._output.weight
    # inhibitory weights move by homeostasis, too
    excitatory = start > 0
    assert bool((learned[excitatory] >= start[excitatory] - 1e-6).all())
    unclipped = mapped(references, epochs=20, separate=False, clipped_error=False)._output.weight
    assert bool((unclipped[excitatory] < start[excitatory] - 1e-4).any())


def test_lens_frames_by_rate_and_by_spikes() -> None:
    """Near the row of VPRTempo's rule on the same frames, .386 and .566 with standard deviations .043 and .045."""
    references, queries = lens_views()
    learner = mapped(references, epochs=64, features=200, answer="rate")
    rate = row(learner.similarity(queries))
    spiking = row(sibling(learner, steps=100).similarity(queries))
    assert rate[:2] == pytest.approx([0.386, 0.566], abs=0.09)
    assert spiking == pytest.approx(rate, abs=0.05)


def test_given_weights() -> None:
    """Weights of the published size: 49 inputs, 63 features, 641 places."""
    generator = np.random.default_rng(0)
    feature, output = generator.normal(size=(63, 49)) * 0.1, generator.normal(size=(641, 63)) * 0.1
    queries = torch.rand(2, 1, 7, 7, generator=torch.Generator().manual_seed(0))
    learner = LENS.from_weights(feature, output, config=LENSConfig(steps=20))
    assert learner.similarity(queries).shape == (641, 2)
    assert learner.parameter_count == 43_470 + 63


def test_cost_is_that_of_spikes() -> None:
    references, queries = made_views()
    learner = mapped(references, epochs=20, features=30, steps=40)
    record = learner.measure(queries)
    layers = record.layers.set_index("layer")
    assert record.T == 40
    assert layers.loc["features.0", "operand"] == "binary"
    spikes = bernoulli(queries.flatten(1), 40, learner.seed, 0)
    assert layers.loc["features.0", "nonzero"] == pytest.approx(float(spikes.sum()) / 12)
    hidden = float(layers.loc["feature_neurons.0", "nonzero_outputs"])
    assert record.synaptic_events() == pytest.approx(float(spikes.sum()) / 12 * 30 + hidden * 12)
    assert energy.price(record, "op-count")["total"].sum() == pytest.approx(0.9 * record.synaptic_events())
    dense = sibling(learner, answer="rate").measure(queries)
    assert dense.summary()["dense_macs"] == 36 * 30 + 30 * 12
    assert dense.layers.set_index("layer").loc["outputs.0", "operand"] == "real"


def test_what_is_refused() -> None:
    with pytest.raises(ValidationError, match="needs answer 'rate'"):
        LENSConfig(read="linear")
    with pytest.raises(ValidationError, match="spike_thresholds must be positive"):
        LENSConfig(spike_thresholds=(0.0, 1.0))
    assert LENSConfig(read="linear", answer="rate").rules()[1].clipped_error
