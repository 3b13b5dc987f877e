"""Timings of Hebbian orthogonal projection: what is compared first, what the release computes, what is refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from benchmarks.speed import continual
from benchmarks.speed.continual_contestants import CASES, Lateral, ReleasedConv2d, ReleasedLinear, Tools
from neurons.errors import OptionError, StepError
from step.learners.continual import rules, subspaces
from step.learners.continual.guarded import guarded_gradients
from step.models import create

SMALL = {"mlp": {"hidden": (30, 20)}, "cnn": {"widths": (4, 6, 5), "classes": 20}}


def network(name: str, size: str, **options: Any) -> Any:
    return create(name, size=size, **SMALL[name], **options)


PUBLISHED = dict(CASES)
TOOLS = Tools(network, subspaces.create, rules.create, guarded_gradients)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    few = {"mlp": ((20, 10, 8), (5, 4, 3)), "cnn": ((6, 10, 20), (2, 5, 6))}
    for name, (frozen, new) in few.items():
        monkeypatch.setitem(CASES, name, dataclasses.replace(CASES[name], batch=4, frozen=frozen, new=new))


def test_cases_are_the_fifth_of_ten_published_tasks() -> None:
    mlp, cnn = PUBLISHED["mlp"], PUBLISHED["cnn"]
    # first task, then two tasks of +70 and one of +50 (Xiao et al., ICLR 2024)
    assert mlp.frozen == tuple(first + 70 + 70 + 50 for first in (80, 200, 100))
    assert mlp.new == (50, 50, 50)
    assert cnn.frozen == tuple(first + 3 * more for first, more in ((6, 2), (100, 20), (200, 40)))
    assert cnn.new == (2, 20, 40)


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_all_ways_take_part_and_agree(name: str) -> None:
    result = continual.measure(name, TOOLS, seconds=0.0, rounds=1, memory=False)
    assert [row.name for row in result.rows] == list(continual.NAMES)
    ours, plain = result.rows[0], result.rows[-1]
    assert ours.slower == plain.overhead == 1
    assert all(row.train > 0 for row in result.rows)
    assert 0 < result.difference < 1e-4
    assert 0.01 < result.rate < 0.9  # the networks fire, so gradients and activity say something


def test_no_time_is_shown_for_another_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lateral, "project", lambda self, x: x)
    with pytest.raises(StepError, match="'as released' computes something else than 'step'"):
        continual.measure("mlp", TOOLS, seconds=0.0, memory=False)


def test_layers_of_the_release_are_layers_with_another_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.linalg.qr(torch.randn(18, 7, generator=generator)).Q.T
    layer = torch.nn.Conv2d(2, 3, 3, stride=2, padding=1, bias=False)
    x = torch.randn(5, 2, 8, 8, generator=generator, requires_grad=True)
    y = ReleasedConv2d(layer, Lateral(rows[:4], rows[4:], 0.1))(x)
    torch.testing.assert_close(y, layer(x))
    up = torch.randn(y.shape, generator=generator)
    below, weight = torch.autograd.grad(y, (x, layer.weight), up)
    usual, unprojected = torch.autograd.grad(layer(x), (x, layer.weight), up)
    torch.testing.assert_close(below, usual)
    assert (weight.flatten(1) @ rows[:4].T).abs().max() < 1e-4 * unprojected.abs().max()
    torch.testing.assert_close(weight.flatten(1) @ rows[4:].T, unprojected.flatten(1) @ rows[4:].T)

    linear = torch.nn.Linear(18, 6, bias=False)
    x = torch.randn(4, 3, 18, generator=generator)
    lateral = Lateral(rows[:4], rows[4:], 0.1)
    released = ReleasedLinear(linear, lateral)
    assert torch.allclose(released(x), F.linear(x, linear.weight), atol=1e-6)
    assert torch.equal(lateral.rows[:4], rows[:4])
    assert not torch.equal(lateral.rows[4:], rows[4:])


def test_wrong_words_are_answered_in_one_line() -> None:
    with pytest.raises(OptionError, match="no network 'mpl' to time; did you mean 'mlp'"):
        continual.measure("mpl", TOOLS)
    with pytest.raises(OptionError, match="no way 'as release' to take a step; did you mean 'as released'"):
        continual.measure("mlp", TOOLS, only=["as release"])
