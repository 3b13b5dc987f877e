"""Activity that is multiplied without being laid out, and gradients guarded by way of activity or as a whole."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from step import models
from step.learners.continual import guarded, operations, rules, subspaces
from step.learners.continual.guarded import guarded_gradients
from step.learners.continual.rules.activity import Patches, Rows, activity_of, together
from step.learners.continual.rules.taps import rows_of

LABELS = torch.arange(12) % 10


def maps(kind, dtype):
    x = torch.rand(6, 20, 9, 8, generator=torch.Generator().manual_seed(0))
    return {"dense": x, "spikes": (x < 0.05).float(), "pooled": (x < 0.1) * x}[kind].to(dtype)


@pytest.mark.parametrize("kind", ["dense", "spikes", "pooled"])
@pytest.mark.parametrize(
    "options",
    [
        {"padding": 1},
        {"stride": 2, "padding": (0, 1)},
        {"dilation": 2, "padding": "same"},
        {"padding": 1, "padding_mode": "circular", "stride": (1, 2)},
    ],
    ids=str,
)
def test_activity_of_a_convolution_is_that_of_its_patches(options, kind):
    layer = nn.Conv2d(20, 3, (3, 2), bias=False, **options)
    for dtype, near in ((torch.float64, 1e-12), (torch.float32, 1e-4)):
        x = maps(kind, dtype)
        found, right = activity_of(layer, [x]), rows_of(layer, x)
        assert isinstance(found, Patches)
        assert (len(found), found.n) == right.shape
        generator = torch.Generator().manual_seed(1)
        h = torch.randn(5, found.n, dtype=dtype, generator=generator)
        y = torch.randn(len(found), 5, dtype=dtype, generator=generator)
        for one, other in (
            (found.times(h), right @ h.T),
            (found.back(y), y.T @ right),
            (found.energy(), right.square().sum()),
        ):
            torch.testing.assert_close(one, other, rtol=near, atol=near * float(other.abs().max()))
        chosen = torch.randperm(len(found))[:7]
        assert torch.equal(found.rows(chosen), right[chosen])
        twice = together([found, activity_of(layer, [x + 1])])
        other = rows_of(layer, x + 1) @ h.T
        torch.testing.assert_close(
            twice.times(h)[-len(right) :], other, rtol=near, atol=near * float(other.abs().max())
        )
    still = activity_of(layer, [x[:1].expand(4, *x.shape[1:])])
    assert len(still) == len(right) // len(x)


@pytest.mark.parametrize("name", ["hebbian", "sanger", "ccipca", "svd", "frequent-directions"])
def test_learners_find_the_same_in_a_map_as_in_its_patches(name):
    layer, learned = nn.Conv2d(20, 4, 3, padding=1), []
    for as_rows in (True, False):
        found = subspaces.create(name, 180, generator=torch.Generator().manual_seed(1), importance=5.0)
        for rows, kind in ((8, "spikes"), (None, "pooled")):
            found.grow(rows)
            for shift in (0.0, 0.5):
                x = activity_of(layer, [maps(kind, torch.float32) + shift])
                found.update(x.rows() if as_rows else x)
            found.merge()
        learned.append(found)
    first, second = learned
    assert first.partition == second.partition
    eye = torch.eye(180)
    assert (first.project(eye) - second.project(eye)).abs().max() < 1e-3


def protected(held, **options):
    network = models.create("mlp", image_size=8, hidden=[48, 40], neuron={"name": "lif", "threshold": 0.3}, seed=0)
    rule = rules.create("bptt", network, rules.protected_layers(network, True), **options)
    found = {}
    for path, layer in rule.layers.items():
        found[path] = subspaces.create("hebbian", layer.in_features, generator=torch.Generator().manual_seed(2), **held)
        found[path].grow(layer.in_features // 3)
        found[path].merge()
        found[path].grow(5)
    return network, rule, found


@pytest.mark.parametrize("held", [{}, {"alpha": 0.6}, {"importance": 3.0}, {"rows_per_update": 9}], ids=str)
@pytest.mark.parametrize("options", [{}, {"rows": 8}], ids=str)
def test_projecting_activity_or_the_gradient_is_the_same(monkeypatch, held, options):
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(12, 1, 8, 8, generator=generator).expand(3, 12, 1, 8, 8)
    found, took = [], []
    for pays in (False, True):
        network, rule, spaces = protected(held, **options)
        monkeypatch.setattr(guarded, "_SMALL", 0)
        monkeypatch.setattr(guarded, "inside_pays", lambda *_, pays=pays: took.append(pays) or pays)
        guarded_gradients(rule, spaces, x, lambda y: F.cross_entropy(y.mean(0), LABELS))
        for path, space in spaces.items():
            gradient = network.get_parameter(f"{path}.weight").grad
            found.append((gradient, space.fresh))
            assert float(gradient.abs().max()) > 0
            if not held:
                assert (gradient @ space.frozen.T).abs().max() < 1e-5 * gradient.abs().max()
    assert took == [False] * 3 + [True] * 3
    for (g, rows), (other, others) in zip(found[:3], found[3:], strict=True):
        torch.testing.assert_close(g, other, rtol=1e-4, atol=1e-5 * float(g.abs().max()))
        torch.testing.assert_close(rows, others, rtol=1e-4, atol=1e-5)


def test_the_cheaper_side_is_taken_and_counted(monkeypatch):
    network, rule, spaces = protected({})
    space = spaces["layers.1.linear"]
    few, many = Rows(torch.ones(4, 64)), Rows(torch.ones(400, 64))
    assert guarded.inside_pays(space, few, outputs=48)
    assert not guarded.inside_pays(space, many, outputs=48)
    assert not guarded.may_pay(space, rule.layers["layers.1.linear"])  # too small for the difference to matter
    monkeypatch.setattr(guarded, "_SMALL", 0)
    for each in spaces.values():
        each.merge()
    step = operations.count_step(network, rule, torch.randn(12, 1, 8, 8).expand(3, 12, 1, 8, 8))
    table = operations.training_operations(step, rule.layers, spaces, tasks=2).set_index(["task", "layer"])
    row = table.loc[(2, "layers.1.linear")]
    assert row["projection_macs"] == 12 * 64 * 2 * 21  # of 12 rows, where the gradient would have 48
    five = 5 * (2 * 12 * 64 * 5 + min(12 * 64 * 5, 5 * 5 * (12 + 64)))
    assert row["subspace_macs"] == five  # what is left of the activity is known by then
    assert table.loc[(1, "layers.1.linear")]["projection_macs"] == 0


def test_a_layer_that_is_called_twice_is_projected_as_a_whole(monkeypatch):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(30, 30, bias=False)

        def forward(self, x):
            return self.layer(self.layer(x))

    monkeypatch.setattr(guarded, "_SMALL", 0)
    network = models.create("mlp", image_size=8, hidden=[30], neuron={"name": "lif", "threshold": 0.3}, seed=0)
    network.layers.insert(3, Twice())
    x = torch.randn(3, 4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    gradients = []
    for pays in (False, True):
        own = copy.deepcopy(network)
        rule = rules.create("bptt", own, {"layers.3.layer": own.layers[3].layer})
        space = subspaces.create("hebbian", 30, generator=torch.Generator().manual_seed(2))
        space.grow(9)
        space.merge()
        space.grow(3)
        monkeypatch.setattr(guarded, "inside_pays", lambda *_, pays=pays: pays)
        guarded_gradients(rule, {"layers.3.layer": space}, x, lambda y: F.cross_entropy(y.mean(0), LABELS[:4]))
        gradients.append((own.layers[3].layer.weight.grad, space.fresh))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
