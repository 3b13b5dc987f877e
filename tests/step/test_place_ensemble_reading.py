"""How spikes of modules are read: assignments by hand, likelihoods against SciPy, hyperactive neurons, mean field."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from neurons.errors import ShapeError
from step.learners.places.ensemble import hyperactive
from step.learners.places.ensemble.assignment import labels_of, standard, weighted
from step.learners.places.ensemble.calibrated import background, calibrated, rates
from step.learners.places.ensemble.mean_field import Templates
from step.learners.places.ensemble.modules import EMPTY, membership, order_of, sample
from step.learners.places.ensemble.readout import by_place, distribution


def test_standard_assignment_means_over_the_neurons_of_a_place() -> None:
    # neurons 0 and 1 answer place 0 most, neuron 2 place 1, neuron 3 nothing; place 2 is left without any
    responses = torch.tensor([[[5.0, 1.0, 0.0], [2.0, 1.0, 1.0], [0.0, 3.0, 2.0], [0.0, 0.0, 0.0]]])
    assert labels_of(responses).tolist() == [[0, 0, 1, -1]]
    readout = standard(responses)
    scores = readout.score(torch.tensor([[[4, 1, 3, 7]]], dtype=torch.uint8))
    assert scores.tolist() == [[[2.5, 3.0, 0.0]]]
    assert readout.assigned.tolist() == [[True, True, False]]


def test_weighted_assignment_has_its_three_corrections() -> None:
    # training spikes of three neurons on two places: 6 + 2, 0 + 4, 19 + 1 (5 % is too few to be kept for place 1)
    responses = torch.tensor([[[6.0, 2.0], [0.0, 4.0], [19.0, 1.0]]])
    readout = weighted(responses, torch.ones(1, 2, dtype=torch.bool))
    scores = readout.score(torch.tensor([[[4, 1, 0]]], dtype=torch.uint8))[0, 0]
    # gamma x 2 labels = 0.04, so that neuron 0 is divided by its 2 labels and the others by 1. Neurons 0 and 1 fire:
    # they had 6 + 0 of the 25 training spikes of place 0, and 2 + 4 of the 7 of place 1
    right = [(4 / 2) * (6 / 8) * (6 / 25), ((4 / 2) * (2 / 8) + 1 * 1.0) * (6 / 7)]
    np.testing.assert_allclose(scores.numpy(), right, rtol=1e-12)


def test_a_neuron_with_few_labels_is_not_divided() -> None:
    # of 100 places a neuron is ambiguous from 2 labels on
    responses = torch.zeros(1, 2, 100)
    responses[0, 0, 3], responses[0, 1, 3], responses[0, 1, 4] = 5.0, 4.0, 4.0
    weight = weighted(responses, torch.ones(1, 100, dtype=torch.bool)).weight
    assert weight[0, 0, 3] == 1.0
    assert weight[0, 1, 3] == 0.5 / 2


@pytest.mark.parametrize(("dispersion", "strength"), [(0.0, 1.0), (0.0, 0.4), (0.7, 1.0)])
def test_scores_are_log_likelihood_ratios(dispersion: float, strength: float) -> None:
    generator = torch.Generator().manual_seed(1)
    spikes = torch.randint(0, 12, (2, 5, 3), generator=generator).float()
    shown = torch.tensor([[4.0, 4.0, 4.0], [4.0, 4.0, 0.0]])
    b = background(torch.randint(0, 90, (2, 5), generator=generator), torch.tensor([50, 60]))
    counts = torch.randint(0, 8, (7, 2, 5), generator=generator, dtype=torch.uint8)
    own = rates(spikes, shown, b, 1.5)
    np.testing.assert_allclose(own[0], (spikes[0].double() + 1.5 * b[0][:, None]) / 5.5)

    def log_p(count: np.ndarray, rate: np.ndarray) -> np.ndarray:
        if dispersion == 0:
            return stats.poisson.logpmf(count, rate)
        return stats.nbinom.logpmf(count, 1 / dispersion, 1 / (1 + dispersion * rate))

    options = {"smoothing": 1.5, "strength": strength, "dispersion": dispersion}
    scores = calibrated(spikes, shown, b, **options).score(counts)
    own = b.unsqueeze(2) * (own / b.unsqueeze(2)) ** strength
    for query, module, place in itertools.product(range(7), range(2), range(3)):
        seen = counts[query, module].numpy()
        right = log_p(seen, own[module, :, place].numpy()) - log_p(seen, b[module].numpy())
        np.testing.assert_allclose(scores[query, module, place], right.sum(), rtol=1e-9)


def test_weak_strength_is_the_score_test() -> None:
    generator = torch.Generator().manual_seed(3)
    spikes, shown = torch.randint(0, 20, (1, 6, 2), generator=generator).float(), torch.full((1, 2), 4.0)
    b = torch.rand(1, 6, generator=generator, dtype=torch.float64) + 0.1
    counts = torch.randint(0, 8, (5, 1, 6), generator=generator, dtype=torch.uint8)
    scores = calibrated(spikes, shown, b, strength=1e-5).score(counts) / 1e-5
    right = torch.einsum("bmn,mnk->bmk", counts - b, (rates(spikes, shown, b, 4.0) / b.unsqueeze(2)).log())
    np.testing.assert_allclose(scores, right, rtol=1e-3, atol=1e-3)


def test_silence_of_a_neuron_counts_against_its_place() -> None:
    spikes, shown = torch.tensor([[[16.0, 0.0], [0.0, 16.0]]]), torch.full((1, 2), 4.0)
    readout = calibrated(spikes, shown, torch.full((1, 2), 0.1, dtype=torch.float64))
    silent, first = readout.score(torch.tensor([[[0, 0]], [[4, 0]]], dtype=torch.uint8))
    assert bool((silent < 0).all())
    assert first[0, 0] > 0 > first[0, 1]


def planted() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two modules of 2 places and 3 neurons; neuron 2 of the second fires on everything, and most on its place 3."""
    own = torch.tensor([[[4.0, 0.0], [0.0, 4.0], [0.0, 0.0]], [[4.0, 0.0], [0.0, 4.0], [5.0, 6.0]]])
    counts = torch.tensor(
        [
            [[3, 0, 0], [0, 0, 7]],
            [[0, 3, 0], [0, 0, 7]],
            [[0, 0, 0], [3, 0, 7]],
            [[0, 0, 0], [0, 3, 7]],
        ],
        dtype=torch.uint8,
    )
    slots = torch.tensor([[0, 1], [2, 3]])
    fired = torch.tensor([[10, 10, 0], [10, 10, 40]])
    return own, counts, slots, fired


def test_a_planted_hyperactive_neuron_is_removed_and_calibration_copes_with_it() -> None:
    own, counts, slots, fired = planted()
    truth = torch.eye(4, dtype=torch.bool)

    def recall(readout: object) -> float:
        scores = readout.score(counts)  # type: ignore[attr-defined]
        return hyperactive.recall_at_1(by_place(scores, slots, readout.assigned), truth)  # type: ignore[attr-defined]

    plain = standard(own)
    # it takes part in all that place 3 scores: nothing else is found
    assert recall(plain) < 0.5
    images = hyperactive.activity(fired, 40, 40)
    removed = hyperactive.hyperactive(images, 30)
    assert removed.nonzero().tolist() == [[1, 2]]
    assert recall(plain.without(removed)) == 1.0
    best, table = hyperactive.chosen(images, lambda removed: recall(plain.without(removed)))
    assert best == 40  # the mildest of those that find all
    assert table[0] < table[best] == 1.0
    assert table[5] < 1.0  # a threshold that removes everything is no better

    rate = background(torch.tensor([[20, 20, 0], [20, 20, 220]]), torch.tensor([38, 38]))
    assert recall(calibrated(own * 4, torch.full((2, 2), 4.0), rate)) == 1.0


def test_activity_of_a_sample_stands_for_the_whole_traverse() -> None:
    assert hyperactive.activity(torch.tensor([[3, 0]]), 10, 50).tolist() == [[15.0, 0.0]]
    assert not hyperactive.hyperactive(torch.tensor([[99.0]]), 0).any()


def test_recall_of_equal_scores_is_that_of_a_draw() -> None:
    truth = torch.tensor([[True, False], [False, False], [False, False], [False, False]])
    assert hyperactive.recall_at_1(torch.zeros(4, 2), truth) == 0.25  # the second query shows no place


def test_a_place_without_neurons_keeps_its_row() -> None:
    slots = torch.tensor([[2, 0], [1, EMPTY]])
    assigned = torch.tensor([[True, False], [True, False]])
    scores = torch.tensor([[[3.0, 9.0], [1.0, 9.0]], [[-2.0, 9.0], [5.0, 9.0]]])
    assert by_place(scores, slots, assigned).tolist() == [[1.0, -2.0], [1.0, 5.0], [3.0, -2.0]]


def test_scores_become_a_distribution() -> None:
    found = distribution(torch.tensor([[1.0, 2.0], [3.0, 2.0], [5.0, 2.0]]))
    np.testing.assert_allclose(found.T, [[0, 1 / 3, 2 / 3], [1 / 3, 1 / 3, 1 / 3]], rtol=1e-6)


def test_counts_of_other_modules_are_refused() -> None:
    with pytest.raises(ShapeError, match="2 modules of 3 neurons"):
        standard(planted()[0]).score(torch.zeros(1, 3, 3))


@pytest.mark.parametrize("how", ["shuffled", "regions"])
def test_every_place_is_in_one_module(how: str) -> None:
    slots = membership(60, 25, how, 3)  # type: ignore[arg-type]
    assert slots.shape == (3, 25)
    assert sorted(slots[slots != EMPTY].tolist()) == list(range(60))
    assert (slots[2] == EMPTY).tolist() == [False] * 10 + [True] * 15
    assert (slots.flatten()[:60].tolist() == list(range(60))) == (how == "regions")


def test_modules_see_each_reference_once_in_an_epoch() -> None:
    slots = membership(8, 5, "shuffled", 0)
    images, shown = order_of(slots, 2, 8, 7, 1)
    assert images.shape == shown.shape == (2, 10)
    expected = sorted([*slots[0].tolist(), *(slots[0] + 8).tolist()])
    assert sorted(images[0].tolist()) == expected
    assert torch.equal(slots[0][shown[0]], images[0] % 8)
    # the module of three places has as many presentations, and all of its places among them for both traverses
    assert set(images[1].tolist()) == {*slots[1][:3].tolist(), *(slots[1][:3] + 8).tolist()}
    alone, _ = order_of(slots[:1], 2, 8, 7, 1)
    assert torch.equal(alone[0], images[0])
    assert not torch.equal(order_of(slots, 2, 8, 7, 2)[0], images)


def test_a_sample_is_spread_evenly() -> None:
    chosen = sample(1000, 50, 4)
    assert len(chosen) == 50
    assert torch.equal(chosen // 20, torch.arange(50))
    assert len(set((chosen % 20).tolist())) > 10
    assert torch.equal(sample(30, 50, 4), torch.arange(30))


def test_templates_are_the_mean_drive_of_the_neurons_of_a_place() -> None:
    generator = torch.Generator().manual_seed(2)
    weights = torch.rand(2, 9, 4, generator=generator)
    weights = weights * (3 / weights.sum(1, keepdim=True))
    votes = standard(torch.rand(2, 4, 2, generator=generator))
    images = torch.rand(5, 9, generator=generator)
    templates = Templates.of(weights, votes.weight, votes.assigned)
    spread = images.std(1, correction=0, keepdim=True)
    drive = torch.einsum("bi,min->bmn", images - images.mean(1, keepdim=True), weights) / spread.unsqueeze(2)
    right = votes.score(drive)
    np.testing.assert_allclose(templates.score(images), right, rtol=1e-4, atol=1e-6)
    foreign = torch.tensor([[True, True], [True, False], [True, True], [False, True], [True, True]])
    scores = templates.calibrated(images, foreign).score(images)
    np.testing.assert_allclose(scores[foreign[:, 1], 1].mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(scores[foreign[:, 1], 1].std(0, correction=0)[votes.assigned[1]], 1, rtol=1e-9)
    best = templates.score(images).masked_fill(~votes.assigned, -torch.inf).amax(2).argmax(1)
    assert torch.equal(templates.modules(images, 1)[:, 0], best)
