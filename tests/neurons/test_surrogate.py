"""Surrogates: spikes forward, and a derivative that is the slope of its primitive."""

import importlib
import math

import pytest
import torch

from neurons import surrogates
from neurons.errors import OptionError

NAMES = surrogates.names()
BELLS = [name for name in NAMES if surrogates.get(name).bell]


@pytest.mark.parametrize("name", NAMES)
def test_forward_is_a_hard_threshold_and_backward_the_derivative(name):
    surrogate = surrogates.create(name)
    u = torch.tensor([-2.0, -0.2, 0.0, 0.1, 3.0], requires_grad=True)
    spikes = surrogate(u)
    assert spikes.tolist() == [0, 0, 1, 1, 1]
    (spikes * torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])).sum().backward()
    expected = surrogate.derivative(u.detach()) * torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    torch.testing.assert_close(u.grad, expected)


@pytest.mark.parametrize("name", NAMES)
def test_derivative_integrates_to_its_primitive(name):
    surrogate = surrogates.create(name)
    u = torch.linspace(-3, 3, 60001, dtype=torch.float64)
    integral = torch.cumulative_trapezoid(surrogate.derivative(u), u)
    primitive = surrogate.primitive(u)
    noise = 5e-3 if surrogate.noisy else 0.0
    torch.testing.assert_close(integral, primitive[1:] - primitive[0], rtol=0, atol=1e-4 + noise)


@pytest.mark.parametrize("name", BELLS)
def test_derivative_is_even_positive_and_largest_at_the_threshold(name):
    surrogate = surrogates.create(name)
    u = torch.linspace(0, 4, 101, dtype=torch.float64)
    slope = surrogate.derivative(u)
    torch.testing.assert_close(slope, surrogate.derivative(-u))
    assert (slope >= 0).all()
    assert slope.argmax() == 0
    assert slope[0] > 0


@pytest.mark.parametrize(
    ("name", "at_zero"),
    [
        ("sigmoid", 1.0),  # alpha / 4
        ("arctan", 1.0),  # alpha / 2
        ("rectangular", 1.0),  # 1 / width
        ("triangular", 0.3),  # damping
        ("fast-sigmoid", 1.0),
        ("gaussian", 2 / math.sqrt(math.pi)),  # alpha / sqrt(pi)
        ("quadratic-gate", 2.0),  # alpha
    ],
)
def test_height_at_the_threshold_with_the_published_defaults(name, at_zero):
    assert surrogates.create(name).derivative(torch.zeros(1)).item() == pytest.approx(at_zero)


@pytest.mark.parametrize("name", [name for name in NAMES if surrogates.options(name)])
def test_options_must_be_positive(name):
    option = next(iter(surrogates.options(name)))
    with pytest.raises(OptionError, match=r"must be (positive|greater than 1)"):
        surrogates.create(name, **{option: -1.0})


@pytest.mark.parametrize(
    ("ours", "theirs", "options"),
    [("sigmoid", "Sigmoid", {"alpha": 4.0}), ("arctan", "ATan", {"alpha": 2.0}), ("gaussian", "Erf", {"alpha": 2.0}),
     ("quadratic-gate", "PiecewiseQuadratic", {"alpha": 2.0})],
)  # fmt: skip
def test_gradients_equal_those_of_spikingjelly(ours, theirs, options):
    module = importlib.import_module("spikingjelly.activation_based.surrogate")
    u = torch.linspace(-2, 2, 201)
    a, b = u.clone().requires_grad_(), u.clone().requires_grad_()
    surrogates.create(ours, **options)(a).sum().backward()
    getattr(module, theirs)(**options)(b).sum().backward()
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-6)
