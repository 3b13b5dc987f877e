"""Gated, parallel, integer and recurrent neurons: their equations in plain floats, and the same neurons elsewhere."""

from __future__ import annotations

import importlib
import math
from typing import Any

import pytest
import torch
from torch import Tensor

import neurons
from neurons import compiler
from neurons.errors import DataError, OptionError, ShapeError
from neurons.spike_codes import CODES, expand, firing_rate


def current(T: int = 12, B: int = 1, N: int = 1, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(T, B, N, generator=torch.Generator().manual_seed(seed), dtype=dtype) * 1.5 + 0.5


@pytest.fixture(autouse=True)
def seed() -> None:
    """Weights begin at random."""
    torch.manual_seed(0)


def run(neuron: neurons.Neuron, x: Tensor) -> list[float]:
    return neuron.double()(x).flatten().tolist()


# Equations ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gates", [(0.6, 0.8, 0.6), (0.1, 0.2, 0.9)])
def test_glif_follows_its_equation(gates: tuple[float, float, float]) -> None:
    (a, b, g), d, threshold, leak, c, r = gates, 0.4, 0.6, 0.1, 0.7, 0.3
    neuron = neurons.GLIF(gates=gates, decay=d, threshold=threshold, linear_leak=leak, conductance=c, step_down=r)
    x = current()
    v, s, spikes, potentials = 0.0, 0.0, [], []
    for x_t in x.flatten().tolist():
        kept = (1 - a * (1 - d)) * v * (1 - g * s) - (1 - a) * leak
        v = kept + x_t * (1 - b * (1 - c)) - (1 - g) * r * s
        s = float(v >= threshold)
        spikes.append(s)
        potentials.append(v)
    out, state = neuron.double().run(x)
    assert out.flatten().tolist() == spikes
    assert set(spikes) == {0.0, 1.0}
    assert state["v"].item() == pytest.approx(potentials[-1], rel=1e-5)  # parameters begin as float32


def test_the_gates_of_glif_learn() -> None:
    neuron = neurons.GLIF()
    before = [gate.item() for gate in (neuron.leak_gate, neuron.input_gate, neuron.reset_gate)]
    neuron(current(T=8, B=4, N=9, dtype=torch.float32)).sum().backward()
    torch.optim.SGD(neuron.parameters(), lr=0.1).step()
    after = [gate.item() for gate in (neuron.leak_gate, neuron.input_gate, neuron.reset_gate)]
    assert all(old != new for old, new in zip(before, after, strict=True))


@pytest.mark.parametrize("threshold", [1.0, 0.5])
def test_clif_follows_its_equation_at_any_threshold(threshold: float) -> None:
    tau, v, m, spikes = 2.5, 0.0, 0.0, []
    x = current()
    for x_t in x.flatten().tolist():
        v = v * (1 - 1 / tau) + x_t
        m = m / (1 + math.exp(-v / tau))
        s = float(v >= threshold)
        m += s
        v -= s * (threshold + 1 / (1 + math.exp(-m)))
        spikes.append(s)
    out, state = neurons.CLIF(tau, threshold=threshold).double().run(x)
    assert out.flatten().tolist() == spikes
    assert state["v"].item() == pytest.approx(v)
    assert state["m"].item() == pytest.approx(m)


def mix(weights: list[list[float]], bias: list[float], x: list[float]) -> list[float]:
    rows = zip(weights, bias, strict=True)
    return [float(sum(w * value for w, value in zip(row, x, strict=True)) + b >= 0) for row, b in rows]


def test_psn_and_masked_psn_mix_the_steps() -> None:
    x = current(T=6)
    for masking in (0.0, 0.3, 1.0):
        neuron = neurons.MaskedPSN(T=6, k=3, masking=masking).double()
        weights = [
            [w * (1.0 if t - 3 < j <= t else 1 - masking) for j, w in enumerate(row)]
            for t, row in enumerate((neuron.weight * 9).tolist())
        ]
        with torch.no_grad():
            neuron.weight *= 9
        assert run(neuron, x) == mix(weights, neuron.bias.flatten().tolist(), x.flatten().tolist())
    plain = neurons.PSN(T=6, threshold=0.2).double()
    expected = mix(plain.weight.tolist(), [-0.2] * 6, x.flatten().tolist())
    assert run(plain, x) == expected
    assert neurons.PSN(T=1).weight.abs().item() <= 1


@pytest.mark.parametrize("k", [1, 2, 5])
def test_sliding_psn_is_a_causal_filter(k: int) -> None:
    x = current()
    values = [0.0] * (k - 1) + x.flatten().tolist()
    weights = [0.5 ** (k - 1 - i) for i in range(k)]
    windows = [values[t : t + k] for t in range(len(x))]
    expected = [float(sum(w * u for w, u in zip(weights, window, strict=True)) >= 1.0) for window in windows]
    assert run(neurons.SlidingPSN(k), x) == expected
    assert set(neurons.SlidingPSN(k).double().run(x)[1]) == {f"x{age}" for age in range(1, k)}


def test_psn_refuses_what_it_cannot_do() -> None:
    neuron = neurons.PSN(T=3)
    with pytest.raises(ShapeError, match="made for T = 3 time steps, not 5"):
        neuron(torch.ones(5, 1, 2))
    with pytest.raises(ShapeError, match="cannot go on from a state"):
        neuron.run(torch.ones(3, 1, 2), {"v": torch.zeros(1, 2)})
    with pytest.raises(ShapeError, match="has no single one"):
        neuron.step(torch.ones(1, 2))
    with pytest.raises(ShapeError, match=r"\[T, B, ...\]"):
        neuron(torch.ones(3))


@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize(("name", "scale"), [("integer-lif", 1.0), ("ni-lif", 0.25), ("sfa-lif", 1.0)])
def test_integer_neurons_follow_their_equation(name: str, scale: float, detach: bool) -> None:
    tau, threshold, v, expected = 2.5, 0.6, 0.0, []
    x = current(T=20)
    for x_t in x.flatten().tolist():
        h = v * (1 - 1 / tau) + x_t
        n = round(min(max(h / threshold, 0.0), 4.0))
        v = h - n * threshold
        expected.append(n * scale)
    neuron = neurons.create(name, tau=tau, levels=4, threshold=threshold, detach_reset=detach).double()
    out, state = neuron.run(x)
    assert out.flatten().tolist() == expected
    assert len(set(expected)) >= 4
    assert state["v"].item() == pytest.approx(v)


def test_counts_pass_the_gradient_inside_the_clamp_only() -> None:
    x = torch.tensor([-1.0, 0.3, 3.2, 9.0]).view(1, 1, 4).requires_grad_()
    neurons.IntegerLIF(levels=4, threshold=0.5)(x).sum().backward()
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [0.0, 2.0, 0.0, 0.0]  # 0.3 / 0.5 lies inside; 3.2 / 0.5 above 4


def test_ni_lif_keeps_to_the_grid_of_the_paper() -> None:
    neuron = neurons.NormalisedIntegerLIF(levels=8)
    values = neuron(3 * current(T=40, B=8, N=32)).unique()
    assert torch.equal(values, torch.arange(9, dtype=torch.float64) / 8)  # not {0, 1} alone
    assert neuron.output == "quantised"
    assert neuron.step_size == 1 / neuron.levels


@pytest.mark.parametrize("levels", [1, 4, 8])
def test_spike_firing_approximation_expands_to_spikes_of_equal_sum(levels: int) -> None:
    neuron = neurons.SpikeFiringApproximationLIF(levels=levels)
    counts = neuron(current(T=5, B=2, N=64))
    spikes = neuron.expand(counts)
    assert spikes.shape == (5 * levels, 2, 64)
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(spikes.unflatten(0, (5, levels)).sum(1), counts)
    layer = torch.nn.Linear(64, 3, bias=False).double()
    torch.testing.assert_close(layer(spikes).unflatten(0, (5, levels)).sum(1), layer(counts))
    with pytest.raises(DataError, match="needs"):
        neuron.expand(counts + levels + 1)
    with pytest.raises(DataError, match="fractions"):
        neuron.expand(counts + 0.5)


@pytest.mark.parametrize("reset", ["hard", "soft", "none"])
def test_ternary_lif_follows_its_equation(reset: str) -> None:
    tau, threshold, v, expected = 1.5, 0.7, 0.0, []
    x = current(T=30) - 0.5
    for x_t in x.flatten().tolist():
        v += (x_t - v) / tau
        s = float(v >= threshold) - float(v <= -threshold)
        v = {"hard": 0.0 if s else v, "soft": v - s * threshold, "none": v}[reset]
        expected.append(s)
    assert run(neurons.TernaryLIF(tau, threshold=threshold, reset=reset), x) == expected
    assert set(expected) == {-1.0, 0.0, 1.0}


def test_spikingbrain_counts_k_spikes_for_each_neuron() -> None:
    x = current(T=3, B=4, N=4096)
    counts = neurons.SpikingBrain(k=3.0)(x)
    row = x[1, 2].tolist()
    threshold = sum(map(abs, row)) / len(row) / 3
    assert counts[1, 2].tolist() == [round(value / threshold) for value in row]
    assert counts.abs().mean().item() == pytest.approx(3.0, rel=0.01)
    assert torch.equal(neurons.SpikingBrain()(x * 100), neurons.SpikingBrain()(x))
    neuron = neurons.SpikingBrain(scaled=True)
    assert neuron.output == "real"
    torch.testing.assert_close(neuron(x), counts * neuron.thresholds(x))
    leaf = x.clone().requires_grad_()
    neuron(leaf).sum().backward()
    torch.testing.assert_close(leaf.grad, torch.ones_like(leaf))  # the spiking step is skipped backward
    maps = torch.rand(2, 3, 5, 4, 4)
    torch.testing.assert_close(
        neurons.SpikingBrain(axis=1)(maps), neurons.SpikingBrain()(maps.movedim(2, -1)).movedim(-1, 2)
    )
    with pytest.raises(ShapeError, match="axis 3"):
        neurons.SpikingBrain(axis=3)(x)


def test_statistics_of_spikingbrain_for_gaussian_activations() -> None:
    """The figures of its sparsity analysis at k = 3, 4096 neurons a token: zeros 10.6 %, popcount 1.299."""
    x = torch.randn(1, 64, 4096, generator=torch.Generator().manual_seed(0))
    counts = neurons.SpikingBrain(k=3.0)(x)
    assert (counts == 0).double().mean().item() == pytest.approx(0.106, abs=0.002)
    assert (counts.abs() <= 7).double().mean().item() == pytest.approx(0.954, abs=0.002)
    spikes, _ = expand(counts, "bitwise-signed")
    assert spikes.abs().sum(0).double().mean().item() == pytest.approx(1.299, abs=0.005)


@pytest.mark.parametrize("reset", ["hard", "soft", "none"])
def test_recurrent_lif_hears_its_last_spike(reset: str) -> None:
    tau, threshold, w, v, s, expected = 2.0, 0.8, -0.7, 0.0, 0.0, []
    x = current(T=20)
    for x_t in x.flatten().tolist():
        v += (x_t + w * s - v) / tau
        s = float(v >= threshold)
        v = {"hard": 0.0 if s else v, "soft": v - s * threshold, "none": v}[reset]
        expected.append(s)
    assert run(neurons.RecurrentLIF(tau, weight=w, threshold=threshold, reset=reset), x) == expected
    dense = neurons.DenseRecurrentLIF(1, tau=tau, threshold=threshold, reset=reset)
    torch.nn.init.constant_(dense.weight, w)
    assert run(dense, x) == expected


def test_dense_recurrent_lif_mixes_its_features() -> None:
    neuron, x = neurons.DenseRecurrentLIF(3).double(), current(T=10, B=2, N=3)
    out = neuron(x)
    v, s = [0.0] * 3, [0.0] * 3
    weights = neuron.weight.tolist()
    for t in range(10):
        heard = [sum(w * spike for w, spike in zip(row, s, strict=True)) for row in weights]
        v = [v[i] + (x[t, 1, i].item() + heard[i] - v[i]) / 2.0 for i in range(3)]
        s = [float(value >= 1.0) for value in v]
        v = [value * (1 - spike) for value, spike in zip(v, s, strict=True)]
        assert out[t, 1].tolist() == s
    with pytest.raises(ShapeError, match="made for 3 channels on axis -1"):
        neuron(torch.ones(2, 1, 5))


# Spike codes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
@pytest.mark.parametrize("code", CODES)
def test_every_code_restores_the_counts_exactly(code: str, dtype: torch.dtype) -> None:
    counts = torch.arange(0 if code in ("binary", "bitwise") else -20, 21).to(dtype)
    spikes, weights = expand(counts, code)
    assert torch.equal((weights.view(-1, 1) * spikes).sum(0), counts)
    assert set(spikes.unique().tolist()) == ({-1, 0, 1} if code in ("ternary", "bitwise-signed") else {0, 1})
    longer, weights = expand(counts, code, steps=25)
    assert torch.equal((weights.view(-1, 1) * longer).sum(0), counts)
    matrix = torch.randint(-3, 4, (41, 5), generator=torch.Generator().manual_seed(0))[: len(counts)].to(dtype)
    unfolded = sum(weight * (step @ matrix) for weight, step in zip(weights, longer, strict=True))
    assert torch.equal(unfolded, counts @ matrix)


@pytest.mark.parametrize(
    ("count", "code", "steps", "spikes"),
    [
        (5, "bitwise", 3, [1, 0, 1]), (5, "bitwise-signed", 3, [1, 0, 1]), (-5, "bitwise-signed", 3, [-1, 0, -1]),
        (5, "bitwise-twos-complement", 4, [0, 1, 0, 1]), (-5, "bitwise-twos-complement", 4, [1, 0, 1, 1]),
        (2, "binary", 3, [1, 1, 0]), (-2, "ternary", 3, [-1, -1, 0]), (0, "ternary", None, [0]),
        (0, "bitwise", None, [0]), (0, "bitwise-twos-complement", None, [0, 0]),
    ],
)  # fmt: skip
def test_published_examples_of_the_codes(count: int, code: str, steps: int | None, spikes: list[int]) -> None:
    assert expand(torch.tensor(count), code, steps=steps)[0].tolist() == spikes


@pytest.mark.parametrize(
    ("low", "high", "code", "steps"),
    [(0, 15, "binary", 15), (0, 15, "bitwise", 4), (-8, 7, "ternary", 8), (-8, 7, "bitwise-signed", 4),
     (-8, 7, "bitwise-twos-complement", 5)],
)  # fmt: skip
def test_published_numbers_of_steps(low: int, high: int, code: str, steps: int) -> None:
    assert len(expand(torch.arange(low, high + 1), code)[0]) == steps


def test_codes_refuse_what_they_cannot_hold() -> None:
    with pytest.raises(OptionError, match="a spike code is one of"):
        expand(torch.ones(2), "gray")
    with pytest.raises(DataError, match="has no sign"):
        expand(-torch.ones(2), "binary")
    with pytest.raises(DataError, match="needs 3 steps"):
        expand(torch.tensor([5]), "bitwise", steps=2)
    assert firing_rate(expand(torch.tensor([3, -1]), "ternary")[0]) == pytest.approx(4 / 6)


# Costs, options, kernels ----------------------------------------------------------------------------------------------


def test_costs_are_said_by_neurons_that_mix() -> None:
    assert neurons.update_cost(neurons.PSN(T=8)) == {"mul": 8, "add": 8, "cmp": 1}
    assert neurons.update_cost(neurons.MaskedPSN(T=4, k=2)) == {"mul": 1.75, "add": 1.75, "cmp": 1}  # 1 + 2 + 2 + 2
    assert neurons.update_cost(neurons.MaskedPSN(T=4, k=2, masking=0.5))["mul"] == 4
    assert neurons.update_cost(neurons.SlidingPSN(k=3)) == {"mul": 3, "add": 3, "cmp": 1}
    alone = neurons.update_cost(neurons.LIF())
    assert neurons.update_cost(neurons.DenseRecurrentLIF(10)) == {**alone, "add": alone["add"] + 10}
    assert neurons.update_cost(neurons.SpikingBrain()) == {"abs": 1, "mul": 1, "round": 1, "add": 1}


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("glif", {"gates": (0.5, 0.5)}, "three numbers"), ("glif", {"gates": (0.5, 1.0, 0.5)}, "gates of glif"),
        ("glif", {"decay": 0.0}, "decay of glif"), ("clif", {"tau": 1.0}, "tau of clif"),
        ("clif", {"reset": "hard"}, "no option 'reset'"), ("psn", {"T": 0}, "T of psn"),
        ("psn", {"threshold": 0.0}, "threshold of psn"), ("masked-psn", {"k": 0}, "k of masked-psn"),
        ("masked-psn", {"masking": 1.5}, "masking of masked-psn"), ("sliding-psn", {"k": 0}, "k of sliding-psn"),
        ("integer-lif", {"levels": 0}, "levels of integer-lif"), ("ni-lif", {"tau": 1.0}, "tau of ni-lif"),
        ("sfa-lif", {"threshold": 0.0}, "threshold of sfa-lif"), ("ternary-lif", {"tau": 0.5}, "tau of ternary-lif"),
        ("spikingbrain", {"k": 0.0}, "k of spikingbrain"), ("spikingbrain", {"axis": 0}, "axis of spikingbrain"),
        ("recurrent-lif", {"tau": 1.0}, "tau of recurrent-lif"),
        ("dense-recurrent-lif", {"features": 0}, "features of dense-recurrent-lif"),
    ],
)  # fmt: skip
def test_wrong_options_are_refused_in_one_line(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words) as error:
        neurons.create(name, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name",
    ["glif", "clif", "sliding-psn", "integer-lif", "ni-lif", "sfa-lif", "ternary-lif", "recurrent-lif"],
)
def test_elementwise_neurons_run_fused_and_equal_the_eager_loop(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STEP_KERNELS", raising=False)
    neuron, x = neurons.create(name).double(), current(T=9, B=3, N=17)
    if not compiler.why_not(neurons.LIF()):
        assert compiler.why_not(neuron, x) is None
    results = []
    for kernels in ("c", "eager"):
        monkeypatch.setenv("STEP_KERNELS", kernels)
        leaf = x.clone().requires_grad_()
        out = neuron(leaf)
        results.append((out, *torch.autograd.grad(out.square().sum(), [leaf, *neuron.parameters()])))
    for fused, eager in zip(*results, strict=True):
        torch.testing.assert_close(fused, eager, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "words"),
    [("psn", "run of its own"), ("spikingbrain", "mean"), ("dense-recurrent-lif", "not an elementwise")],
)
def test_neurons_that_mix_say_why_they_run_eager(name: str, words: str) -> None:
    reason = compiler.why_not(neurons.create(name))
    assert reason is not None
    assert words in reason


# The same neurons in SpikingJelly -------------------------------------------------------------------------------------


def assert_equal(ours: neurons.Neuron, theirs: Any, x: Tensor) -> None:
    """Compare spikes and the gradient of the input."""
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    y_a, y_b = ours(a), theirs(b)
    assert torch.equal(y_a, y_b.view_as(y_a))
    assert len(y_a.unique()) > 1
    weight = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
    (y_a * weight).sum().backward()
    (y_b.view_as(weight) * weight).sum().backward()
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-6)


def test_glif_equals_spikingjelly_with_one_conductance() -> None:
    """Theirs has one conductance for each step and takes maps [T, B, C, H, W]."""
    neuron = importlib.import_module("spikingjelly.activation_based.neuron")
    from spikingjelly.activation_based import surrogate

    ours = neurons.GLIF(surrogate={"name": "sigmoid", "alpha": 4.0}).double()
    theirs = neuron.GatedLIFNode(T=6, init_v_subreset=0.5, surrogate_function=surrogate.Sigmoid(4.0)).double()
    pairs = {
        "alpha": "leak_gate", "beta": "input_gate", "gamma": "reset_gate", "tau": "decay", "v_threshold": "threshold",
        "linear_decay": "linear_leak", "v_subreset": "step_down", "conduct": "conductance",
    }  # fmt: skip
    with torch.no_grad():
        for their_name, our_name in pairs.items():
            getattr(theirs, their_name).copy_(getattr(ours, our_name).expand_as(getattr(theirs, their_name)))
    assert_equal(ours, theirs, current(T=6, B=2, N=36).unflatten(2, (4, 3, 3)))


def test_clif_equals_spikingjelly() -> None:
    neuron = importlib.import_module("spikingjelly.activation_based.neuron")
    theirs = neuron.ComplementaryLIFNode(tau=2.0, v_threshold=0.8, step_mode="m")
    assert_equal(neurons.CLIF(tau=2.0, threshold=0.8).double(), theirs, current(T=8, B=3, N=50))


def test_parallel_neurons_equal_spikingjelly() -> None:
    neuron = importlib.import_module("spikingjelly.activation_based.neuron")
    x = current(T=6, B=3, N=50)
    for ours, theirs in (
        (neurons.PSN(T=6), neuron.PSN(T=6)),
        (neurons.MaskedPSN(T=6, k=3), neuron.MaskedPSN(k=3, T=6, lambda_init=1.0, step_mode="m")),
        (neurons.MaskedPSN(T=6, k=3, masking=0.4), neuron.MaskedPSN(k=3, T=6, lambda_init=0.4, step_mode="m")),
    ):
        with torch.no_grad():
            ours.weight.copy_(theirs.weight)
            ours.weight[0, 0] = theirs.weight[0, 0] = 1.5
        assert_equal(ours.double(), theirs.double(), x)
    assert_equal(neurons.SlidingPSN(k=3).double(), neuron.SlidingPSN(k=3, step_mode="m").double(), x)


@pytest.mark.parametrize("detach", [True, False])
def test_integer_and_ternary_lif_equal_spikingjelly(detach: bool) -> None:
    neuron = importlib.import_module("spikingjelly.activation_based.neuron")
    from spikingjelly.activation_based import surrogate

    x = current(T=8, B=3, N=50)
    theirs = neuron.ILIFNode(tau=1.5, v_threshold=0.7, detach_reset=detach, step_mode="m")
    assert_equal(neurons.IntegerLIF(1.5, threshold=0.7, detach_reset=detach), theirs, x)
    for reset, v_reset in (("hard", 0.0), ("soft", None)):
        theirs = neuron.TernaryLIFNode(
            tau=2.0, v_threshold=0.7, v_reset=v_reset, detach_reset=detach, step_mode="m",
            surrogate_function=surrogate.ATan(2.0),
        )  # fmt: skip
        assert_equal(neurons.TernaryLIF(2.0, threshold=0.7, reset=reset, detach_reset=detach), theirs, x - 0.5)


def test_recurrent_lif_equals_spikingjelly_in_a_container() -> None:
    neuron = importlib.import_module("spikingjelly.activation_based.neuron")
    from spikingjelly.activation_based import layer, surrogate

    inner = neuron.LIFNode(tau=2.0, surrogate_function=surrogate.ATan(2.0), detach_reset=True)
    theirs = layer.ElementWiseRecurrentContainer(inner, lambda s, x: x - 0.7 * s, step_mode="m")
    assert_equal(neurons.RecurrentLIF(2.0, weight=-0.7).double(), theirs, current(T=8, B=3, N=50))
