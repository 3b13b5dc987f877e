"""Surrogates beyond the common ones: formulas in plain floats, the same in SpikingJelly and snnTorch, and training."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

import neurons
from neurons import compiler, surrogates
from neurons.errors import OptionError


def normal(u: float, mean: float, width: float) -> float:
    return math.exp(-((u - mean) ** 2) / (2 * width**2)) / (width * math.sqrt(2 * math.pi))


def logistic(u: float) -> float:
    return 1 / (1 + math.exp(-u))


FORMULAS: dict[str, tuple[dict[str, Any], Callable[[float], float]]] = {
    "piecewise-exponential": ({"alpha": 1.5}, lambda u: 0.75 * math.exp(-1.5 * abs(u))),
    "spike-rate-escape": (
        {"slope": 2.0, "beta": 3.0, "centre": 0.5},
        lambda u: 2 * math.exp(-3 * abs(u - 0.5)),
    ),
    "soft-sign": ({"alpha": 3.0}, lambda u: 1 / (2 * 3 * (1 / 3 + abs(u)) ** 2)),
    "super-spike": ({"alpha": 2.0}, lambda u: 2 / (abs(u) + 1) ** 2),
    "sparse-fast-sigmoid": (
        {"slope": 5.0, "width": 0.7},
        lambda u: 1 / (1 + 5 * abs(u)) ** 2 if abs(u) < 0.7 else 0.0,
    ),
    "q-pseudo-spike": ({"alpha": 1.5}, lambda u: (1 + 4 * abs(u)) ** -1.5),
    "nonzero-sign-log-abs": ({"alpha": 2.0}, lambda u: 1 / (0.5 + abs(u))),
    "fake-numerical-gradient": ({"alpha": 0.8}, lambda u: min(1 / abs(u), 0.8) if u else 0.8),
    "gate": ({"alpha": 0.8}, lambda u: float(abs(u) < 1.25)),
    "piecewise-leaky-relu": ({"width": 0.7, "leak": 0.1}, lambda u: 1 / 1.4 if abs(u) < 0.7 else 0.1),
    "straight-through": ({}, lambda u: 1.0),
    "leaky-k-relu": ({"leak": 0.2, "k": 1.5}, lambda u: 1.5 if u >= 0 else 0.2),
    "log-tailed-relu": ({"alpha": 0.1}, lambda u: 0.1 if u <= 0 else 1.0 if u <= 1 else 1 / u),
    "s2nn": (
        {"alpha": 3.0, "beta": 0.75},
        lambda u: 3 * logistic(3 * u) * (1 - logistic(3 * u)) if u < 0 else 0.75 / (1 + u),
    ),
    "multi-gaussian": (
        {"width": 0.4, "height": 0.2, "spread": 5.0, "scale": 0.7},
        lambda u: 0.7 * (1.2 * normal(u, 0, 0.4) - 0.2 * normal(u, 0.4, 2) - 0.2 * normal(u, -0.4, 2)),
    ),
    "squarewave-fourier": (
        {"period": 5.0, "terms": 3},
        lambda u: 4 / 5 * sum(math.cos(i * 2 * math.pi * u / 5) for i in (1, 3, 5)),
    ),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_derivatives_follow_their_formulas_at_other_options(name: str) -> None:
    options, formula = FORMULAS[name]
    surrogate = surrogates.create(name, **options)
    u = torch.linspace(-3.03, 3.07, 123, dtype=torch.float64)
    expected = torch.tensor([formula(value) for value in u.tolist()], dtype=torch.float64)
    torch.testing.assert_close(surrogate.derivative(u), expected)
    fine = torch.linspace(-3, 3, 60001, dtype=torch.float64)
    integral = torch.cumulative_trapezoid(surrogate.derivative(fine), fine)
    torch.testing.assert_close(integral, (p := surrogate.primitive(fine))[1:] - p[0], rtol=0, atol=2e-4)


@pytest.mark.parametrize("name", FORMULAS)
def test_defaults_make_gradients_of_any_type_and_finite_everywhere(name: str) -> None:
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        slope = surrogates.create(name).derivative(torch.tensor([-1e4, -1.0, -0.0, 0.0, 1.0, 1e4], dtype=dtype))
        assert slope.dtype == dtype
        assert slope.isfinite().all()


@pytest.mark.parametrize(
    ("name", "at_zero"),
    [
        ("piecewise-exponential", 0.5),  # alpha / 2
        ("spike-rate-escape", 25.0),  # slope
        ("soft-sign", 1.0),  # alpha / 2
        ("super-spike", 1.0),  # alpha
        ("sparse-fast-sigmoid", 1.0),
        ("q-pseudo-spike", 1.0),
        ("nonzero-sign-log-abs", 1.0),  # alpha
        ("fake-numerical-gradient", 0.3),  # alpha
        ("gate", 1.0),
        ("piecewise-leaky-relu", 0.5),  # 1 / (2 width)
        ("straight-through", 1.0),
        ("leaky-k-relu", 1.0),  # k
        ("log-tailed-relu", 0.0),  # alpha
        ("s2nn", 1.0),  # beta
        ("squarewave-fourier", 0.5),  # 4 / period
        # 0.5 (1.15 / (0.5 sqrt(2 pi)) - 0.3 exp(-1 / 72) / (3 sqrt(2 pi)))
        ("multi-gaussian", 0.5 * (2.3 - 0.1 * math.exp(-1 / 72)) / math.sqrt(2 * math.pi)),
    ],
)
def test_height_at_the_threshold_with_the_published_defaults(name: str, at_zero: float) -> None:
    slope = surrogates.create(name).derivative(torch.zeros(1, dtype=torch.float64))
    assert slope.item() == pytest.approx(at_zero)


def test_those_that_are_no_bells_say_so() -> None:
    u = torch.linspace(-3, 3, 601, dtype=torch.float64)
    for name in surrogates.names():
        surrogate = surrogates.create(name)
        slope = surrogate.derivative(u)
        even = torch.allclose(slope, slope.flip(0))
        largest = slope[300] >= slope.max() - 1e-12
        assert surrogate.bell == bool(even and largest and (slope >= 0).all()), name


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("q-pseudo-spike", {"alpha": 1.0}, "greater than 1"), ("leaky-k-relu", {"k": 0.0}, "'k' must be positive"),
        ("leaky-k-relu", {"leak": -0.1}, "'leak' must be positive or 0"),
        ("log-tailed-relu", {"alpha": -0.1}, "'alpha' must be positive or 0"),
        ("piecewise-leaky-relu", {"leak": -0.1}, "'leak' must be positive or 0"),
        ("multi-gaussian", {"height": -0.1}, "'height' must be positive or 0"),
        ("squarewave-fourier", {"terms": 0}, "'terms' must be a whole number"),
        ("straight-through", {"alpha": 1.0}, "has no option 'alpha'"),
    ],
)  # fmt: skip
def test_wrong_options_are_refused(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        surrogates.create(name, **options)


@pytest.mark.parametrize("name", FORMULAS)
def test_neurons_with_them_run_fused_and_equal_the_eager_loop(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STEP_KERNELS", raising=False)
    neuron = neurons.LIF(surrogate=name)
    x = torch.randn(6, 3, 17, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 1.5 + 0.5
    if not compiler.why_not(neurons.LIF()):
        assert compiler.why_not(neuron, x) is None
    gradients = []
    for kernels in ("c", "eager"):
        monkeypatch.setenv("STEP_KERNELS", kernels)
        leaf = x.clone().requires_grad_()
        neuron(leaf).square().sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)
    assert gradients[0].abs().sum() > 0


@pytest.mark.parametrize(
    ("ours", "theirs", "options", "their_options"),
    [
        ("piecewise-exponential", "PiecewiseExp", {}, {}),
        ("soft-sign", "SoftSign", {}, {}),
        ("super-spike", "SuperSpike", {"alpha": 3.0}, {"alpha": 3.0}),
        ("nonzero-sign-log-abs", "NonzeroSignLogAbs", {}, {}),
        ("piecewise-leaky-relu", "PiecewiseLeakyReLU", {}, {}),
        ("squarewave-fourier", "SquarewaveFourierSeries", {}, {}),
        ("squarewave-fourier", "SquarewaveFourierSeries", {"terms": 4}, {"n": 5}),  # they sum n - 1 terms
        ("s2nn", "S2NN", {}, {}),
        ("q-pseudo-spike", "QPseudoSpike", {}, {}),
        ("leaky-k-relu", "LeakyKReLU", {"leak": 0.1}, {"leak": 0.1}),
        ("fake-numerical-gradient", "FakeNumericalGradient", {}, {}),
        ("log-tailed-relu", "LogTailedReLU", {"alpha": 0.1}, {"alpha": 0.1}),
        ("straight-through", "DeterministicPass", {}, {}),
        ("rectangular", "Rect", {}, {}),
    ],
)
def test_gradients_equal_those_of_spikingjelly(
    ours: str, theirs: str, options: dict[str, Any], their_options: dict[str, Any]
) -> None:
    module = importlib.import_module("spikingjelly.activation_based.surrogate")
    u = torch.linspace(-2.505, 2.495, 201)
    a, b = u.clone().requires_grad_(), u.clone().requires_grad_()
    surrogates.create(ours, **options)(a).sum().backward()
    getattr(module, theirs)(**their_options)(b).sum().backward()
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("ours", "theirs", "options", "their_options"),
    [
        ("fast-sigmoid", "fast_sigmoid", {}, {}),
        ("arctan", "atan", {}, {}),
        ("sigmoid", "sigmoid", {"alpha": 25.0}, {}),
        ("straight-through", "straight_through_estimator", {}, {}),
        ("leaky-k-relu", "heaviside", {"leak": 0.0, "k": 1.0}, {}),
        ("spike-rate-escape", "spike_rate_escape", {"centre": 1.0}, {}),  # theirs peaks 1 above the threshold
    ],
)
def test_gradients_equal_those_of_snntorch(
    ours: str, theirs: str, options: dict[str, Any], their_options: dict[str, Any]
) -> None:
    module = importlib.import_module("snntorch.surrogate")
    u = torch.linspace(-2.505, 2.495, 201, dtype=torch.float64)
    a, b = u.clone().requires_grad_(), u.clone().requires_grad_()
    surrogates.create(ours, **options)(a).sum().backward()
    getattr(module, theirs)(**their_options)(b).sum().backward()
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6)


def test_sparse_fast_sigmoid_is_active_around_the_threshold_as_in_the_paper() -> None:
    """snnTorch's ``SFS`` is active above B only; where both are, they agree."""
    module = importlib.import_module("snntorch.surrogate")
    u = torch.linspace(0.5, 1.5, 51)
    leaf = u.clone().requires_grad_()
    module.SFS(slope=25, B=0.4)(leaf).sum().backward()
    surrogate = surrogates.create("sparse-fast-sigmoid", slope=25.0, width=2.0)
    torch.testing.assert_close(surrogate.derivative(u), leaf.grad, rtol=1e-5, atol=1e-8)
    assert surrogate.derivative(torch.tensor([-2.5, -1.0, 0.0, 1.0, 2.5])).gt(0).tolist() == [
        False, True, True, True, False,
    ]  # fmt: skip


def test_stochastic_noise_is_spread_as_in_snntorch_and_the_same_every_time() -> None:
    module = importlib.import_module("snntorch.surrogate")
    # not seed 0: where torch itself was seeded with the same, their noise would follow the potentials
    u = torch.randn(200_000, generator=torch.Generator().manual_seed(20_240))
    surrogate = surrogates.create("stochastic", mean=0.1, variance=0.4)
    ours, leaf = surrogate.derivative(u), u.clone().requires_grad_()
    module.SSO(mean=0.1, variance=0.4)(leaf).sum().backward()
    assert torch.equal(surrogate.derivative(u), ours)
    assert (ours[u >= 0] == 1).all()
    below, theirs = ours[u < 0], leaf.grad[u < 0]
    for found in (below, theirs):  # uniform in 0.4 (r - 0.4)
        assert found.min() == pytest.approx(-0.16, abs=1e-3)
        assert found.max() == pytest.approx(0.24, abs=1e-3)
        quantiles = torch.quantile(found, torch.tensor([0.1, 0.5, 0.9]))
        torch.testing.assert_close(quantiles, torch.tensor([-0.12, 0.04, 0.20]), rtol=0, atol=3e-3)
    near, shifted = below[:-1] - below.mean(), below[1:] - below.mean()
    assert abs(float((near * shifted).mean() / below.var())) < 0.02  # no sample tells the next
