"""Orthogonal projection in spiking transformers: which layers it protects, and that they answer as before."""

import copy

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

from step import models
from step.learners.continual import rules, subspaces

# Layers of weights that are not protected, by model, as the end of their paths: a channel of a grouped convolution
# hears its own group only, so that one subspace of the whole input says nothing about it, and SGLFormer's read-out
# multiplies its weight slice by slice, in no call of a layer.
UNPROTECTED = {
    "spikformer": (),
    "sdt": (),
    "resnet": (),
    "maxformer": ("attention.conv.conv",),
    "sglformer": ("local.layer.conv", "inner.layer.conv", "head.pool"),
}
SMALL = {"resnet": {"image_size": 8, "channels": 1, "width": 4, "depths": (1, 1)}}


def network(name):
    return models.create(name, seed=0, **SMALL.get(name, {"size": "digits"}))


def digits(which, T=4, B=8):
    data = load_digits()
    chosen = [i for i, label in enumerate(data.target) if label in which][:B]
    images = torch.tensor(data.images[chosen] / 16, dtype=torch.float32).unsqueeze(1)
    return images.expand(T, *images.shape), torch.tensor(data.target[chosen])


@pytest.mark.parametrize("name", UNPROTECTED)
def test_protected_are_all_weights_but_those_of_groups(name):
    made = network(name)
    layers = rules.protected_layers(made, shared_readout=True)
    weights = {path.rpartition(".")[0] for path, p in made.named_parameters() if p.dim() > 1}
    left = weights - set(layers)
    assert layers.keys() <= weights
    assert all(path.endswith(UNPROTECTED[name]) for path in left), left
    assert len({end for end in UNPROTECTED[name] for path in left if path.endswith(end)}) == len(UNPROTECTED[name])


@pytest.mark.parametrize("name", ["spikformer", "maxformer", "resnet"])
def test_protected_layers_answer_as_before_inside_the_span_of_an_earlier_task(name):
    made = network(name).train()
    x, labels = digits({0, 1, 2, 3, 4})
    with torch.no_grad():
        for norm in (m for m in made.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)):
            norm.momentum = None  # plain means
            norm.weight.fill_(2.0)
            norm.bias.fill_(0.5)
        for _ in range(5):  # statistics that let neurons fire
            made(x)
    made.eval()
    layers = rules.protected_layers(made, shared_readout=True)
    rule = rules.create("bptt", made, layers)
    rule.check()

    found = rule.gradients(x, lambda y: F.cross_entropy(y.mean(0), labels), taps=True)
    generator = torch.Generator().manual_seed(0)
    spaces = {}
    for path, layer in layers.items():
        n = layer.weight[0].numel()
        spaces[path] = subspaces.create("hebbian", n, generator=generator)
        spaces[path].grow(max(1, n // 2))
        for _ in range(5):
            spaces[path].update(found.activity[path])
        spaces[path].merge()
        assert spaces[path].rank > 0

    old = copy.deepcopy(made)
    for p in made.parameters():
        p.requires_grad_(p.dim() > 1)
    optimiser = torch.optim.SGD([p for p in made.parameters() if p.requires_grad], lr=0.05, momentum=0.9)
    x, labels = digits({5, 6, 7, 8, 9})
    for _ in range(3):
        optimiser.zero_grad()
        rule.gradients(x, lambda y: F.cross_entropy(y.mean(0), labels))
        for path, layer in layers.items():
            gradient = layer.weight.grad
            # as large as the weight, lest a vanishing gradient be what keeps the answers
            gradient.mul_(layer.weight.norm() / gradient.norm())
            gradient.copy_(spaces[path].project(gradient.flatten(1)).view_as(gradient))
        optimiser.step()

    for path, layer in layers.items():
        before = old.get_submodule(path)
        inside = torch.randn(8, spaces[path].rank, generator=generator) @ spaces[path].frozen
        outside = torch.randn(8, inside.shape[1], generator=generator)
        kept, changed = (_answers(layer, rows) - _answers(before, rows) for rows in (inside, outside))
        size = _answers(before, inside).abs().max()
        assert kept.abs().max() <= 1e-5 * size, path
        assert changed.abs().max() > 100 * kept.abs().max(), path


def _answers(layer, rows):
    """Answers of a layer to presynaptic rows; to a convolution each row is an image of the size of its kernel."""
    with torch.no_grad():
        if isinstance(layer, nn.Linear):
            return F.linear(rows, layer.weight)
        return F.conv2d(rows.view(len(rows), *layer.weight.shape[1:]), layer.weight).flatten(1)
