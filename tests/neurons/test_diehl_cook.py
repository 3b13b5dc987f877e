"""Modules of Diehl and Cook: the reference's equations, and the fast simulator spike for spike beside it."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor

from neurons.diehl_cook import Constants, Modules, Raster, Reference, key_of, modules, poisson, poisson_rates
from neurons.diehl_cook.constants import steps
from neurons.diehl_cook.kernel import library
from neurons.diehl_cook.raster import keys
from neurons.errors import OptionError, ShapeError

WORD = (1 << 64) - 1
SHORT = Constants(image=150.0, silence=100.0, settle=100.0)
"""A short presentation; all else as published."""
compiled = pytest.mark.skipif(library() is None, reason="there is no C compiler")


def images(count: int, inputs: int = 784, seed: int = 0) -> Tensor:
    """Patch-normalised images are like this: most values in the middle, many at the ends."""
    return torch.randn(count, inputs, generator=torch.Generator().manual_seed(seed)).mul(0.35).add(0.5).clamp(0, 1)


def ready(count: int, neurons: int, **options: object) -> Modules:
    """Modules as they are after some training: the thresholds of fresh ones let everything fire at once."""
    made = Modules(count, 784, neurons, **options)  # type: ignore[arg-type]
    made.theta = torch.full_like(made.theta, 26.0)
    return made


def spread(made: Modules) -> np.ndarray:
    """Delays of all synapses of one module in steps."""
    return np.repeat(made.delays.numpy().astype(np.int64), 16, axis=1)[:, : made.neurons]


@compiled
@pytest.mark.parametrize(
    ("dt", "neurons", "changes"), [(0.1, 40, {}), (0.1, 23, {"presynaptic_sign": -1}), (0.25, 32, {"inhibit": 9.0})]
)
def test_the_fast_simulator_is_the_reference_spike_for_spike(dt: float, neurons: int, changes: dict) -> None:
    constants = dataclasses.replace(SHORT, **changes)
    fast = ready(1, neurons, constants=constants, dt=dt, double=True, seed=3)
    reference = Reference(
        fast.weights[0].numpy(), fast.theta[0].numpy(), constants=constants, dt=dt, delays=spread(fast) * dt
    )
    reference.settle()
    shown, order = images(2), torch.tensor([[0, 1, 0]])
    counts = fast.train(shown, order, seed=5, counts=True)
    assert counts is not None
    for p, which in enumerate(order[0].tolist()):
        raster = poisson(poisson_rates(shown[which]), key_of(5, 2, 0, p), steps=reference.steps.image, dt=dt)
        found = reference.present(raster, learn=True)
        assert found.sum() > 20
        np.testing.assert_array_equal(counts[p, 0].numpy(), found)
    np.testing.assert_allclose(fast.weights[0].numpy(), reference.weights, rtol=0, atol=1e-12)
    np.testing.assert_allclose(fast.theta[0].numpy(), reference.theta, rtol=0, atol=1e-9)
    np.testing.assert_allclose(fast.state_dict()["v"][0].numpy(), reference.v, rtol=0, atol=1e-9)
    reference.rest()
    raster = poisson(poisson_rates(shown[1]), key_of(6, 3, 4), steps=reference.steps.image, dt=dt)
    answer = fast.respond(shown[1:], seed=6, first=4)
    np.testing.assert_array_equal(answer[0, 0].numpy(), reference.present(raster))


@compiled
def test_single_precision_fires_as_double_does() -> None:
    shown = images(24)
    single, double = (ready(1, 50, constants=SHORT, seed=1, double=double) for double in (False, True))
    order = torch.arange(24)[None] % 6
    one, two = (each.train(shown[:6], order, seed=2, counts=True) for each in (single, double))
    assert one is not None
    assert two is not None
    assert int(one.sum()) == pytest.approx(int(two.sum()), rel=0.03)
    assert (single.theta - double.theta).abs().mean() < 0.1
    single.weights, single.theta = double.weights, double.theta
    first, second = (each.respond(shown, seed=2)[:, 0].double() for each in (single, double))
    assert (first - second).abs().sum() < 0.05 * second.sum()


@compiled
def test_a_longer_step_that_is_allowed_fires_alike() -> None:
    fine, coarse = (ready(4, 60, dt=dt) for dt in (0.1, 0.25))
    for each in (fine, coarse):
        each.theta = torch.full_like(each.theta, 32.0)
    shown = images(8)
    one, two = (each.respond(shown, seed=0).double() for each in (fine, coarse))
    assert float(two.sum()) == pytest.approx(float(one.sum()), rel=0.12)
    assert float((two > 0).sum()) == pytest.approx(float((one > 0).sum()), rel=0.15)
    with pytest.raises(OptionError, match=r"dt must be one of 0\.1, 0\.25 ms"):
        Modules(1, 4, dt=0.5)


@compiled
def test_spikes_of_the_input_are_the_same_numbers_in_c() -> None:
    found = library()
    assert found is not None
    rates = poisson_rates(images(1)[0])
    rates[3] = 0.0
    chance = (rates * 1e-4).contiguous()
    for key in (1, key_of(7, 3, 9)):
        expected = poisson(rates, key, steps=3500)
        first, inputs = np.zeros(3501, np.int32), np.zeros(20000, np.uint16)
        total = found.step_draw(chance.data_ptr(), 784, 3500, key, first.ctypes.data, inputs.ctypes.data, 20000)
        np.testing.assert_array_equal(first, expected.first)
        np.testing.assert_array_equal(inputs[:total], expected.inputs)
        assert 3 not in expected.inputs


def test_inputs_spike_at_their_rates_and_independently() -> None:
    rates = torch.tensor([0.0, 10.0, 63.75])
    counts = np.zeros((200, 3))
    for n in range(200):
        counts[n] = np.bincount(poisson(rates, key_of(0, n), steps=3500).inputs, minlength=3)
    mean = rates.numpy() * 0.35
    assert (np.abs(counts.mean(0) - mean) <= 4 * np.sqrt(mean / 200)).all()
    np.testing.assert_allclose(counts.var(0)[1:], mean[1:], rtol=0.35)  # Poisson: about the mean
    assert abs(np.corrcoef(counts[:, 1], counts[:, 2])[0, 1]) < 0.25
    times = np.repeat(np.arange(3500), np.diff(poisson(rates, 5, steps=3500).first))
    assert 0.2 < (times < 1750).mean() < 0.8
    assert keys(5, 1, torch.arange(3)).tolist() == [
        key - (1 << 64) if key >> 63 else key for key in (key_of(5, 1, n) for n in range(3))
    ]


def everywhere(count: int, inputs: int, every: int) -> Raster:
    """All inputs spike at every so many steps."""
    first = np.arange(count + 1) // every * inputs
    return Raster(first.astype(np.int32), np.tile(np.arange(inputs), count // every).astype(np.uint16))


def test_a_neuron_spikes_no_more_often_than_every_fifty_milliseconds() -> None:
    constants = dataclasses.replace(Constants(), inhibit=0.0, silence=60.0)
    one = Reference(np.full((50, 3), 1.0), np.full(3, 20.0), constants=constants)
    one.rest()
    counts = one.present(everywhere(3500, 50, 10))
    assert counts.tolist() == [7, 7, 7]  # as often as can be
    times = np.array([t for t, k in one.spikes if k == 0])
    assert np.diff(times).min() == steps(constants, 0.1).interval
    assert 500 <= steps(constants, 0.1).interval <= 501
    literal = dataclasses.replace(constants, timer_rate=1.0)
    other = Reference(np.full((50, 3), 1.0), np.full(3, 20.0), constants=literal)
    other.rest()
    assert other.present(everywhere(3500, 50, 10))[0] > 30  # what 5 ms alone would allow


def test_one_inhibitory_spike_follows_half_a_millisecond_later_and_silences_the_others() -> None:
    one = Reference(np.array([[40.0, 0.0, 0.0]]), np.full(3, 20.0))
    one.rest()
    one.present(everywhere(3500, 1, 20))
    assert {k for _, k in one.spikes} == {0}
    assert len(one.spikes_inhibitory) == len(one.spikes)
    assert {late - early for (early, _), (late, _) in zip(one.spikes, one.spikes_inhibitory, strict=True)} == {5}
    first, late = one.spikes[0][0], one.spikes_inhibitory[0][0]
    again = Reference(np.array([[40.0, 0.0, 0.0]]), np.full(3, 20.0))
    again.rest()
    for t in range(late + 2):
        again.step(np.zeros(int(t % 20 == 19), np.uint16))
        if t == late:
            assert again.g_i.tolist() == [0.0, 17.0, 17.0]
            assert again.v[1:].tolist() == [-65.0, -65.0]
    assert first < late
    assert again.v[0] == -65.0  # held at reset
    assert (again.v[1:] < -65.0).all()


@compiled
def test_delays_of_groups_do_what_those_of_synapses_do() -> None:
    rng = np.random.default_rng(0)
    shown, totals = images(4), {}
    made = ready(1, 64, constants=SHORT)
    made.train(shown, torch.arange(1600)[None] % 4, seed=0)
    for delay in (0.0, 10.0):
        other = Modules(1, 784, 64, constants=dataclasses.replace(SHORT, delay=delay))
        assert (int(other.delays.min()), int(other.delays.max())) == (0, 100 if delay else 0)
        other.load_state_dict(made.state_dict())
        totals[delay] = float(other.respond(shown.repeat(50, 1), seed=0).sum()) / 200
    one = Reference(
        made.weights[0].numpy(), made.theta[0].numpy(), constants=SHORT, delays=rng.random((784, 64)) * 10.0
    )
    exact = []
    for n in range(5):
        one.rest()
        exact.append(one.present(poisson(poisson_rates(shown[n % 4]), n, steps=1500)).sum())
    # without delays all neurons meet the same fluctuations at once, and several fire before inhibition comes
    assert totals[0.0] > 1.25 * totals[10.0]
    # a group is a quarter of these neurons, and a 25th of 400
    assert totals[10.0] - np.mean(exact) < 0.6 * (totals[0.0] - np.mean(exact))
    with pytest.raises(OptionError, match=r"delay must be at most 25\.5 ms"):
        Modules(1, 9, constants=Constants(delay=30.0))


@compiled
def test_thresholds_rise_with_each_spike_and_weights_are_normalised_before_each_image() -> None:
    made = ready(2, 40, constants=SHORT)
    before = made.theta.clone()
    counts = made.train(images(3), torch.tensor([[0, 1], [2, 2]]), seed=0, counts=True)
    assert counts is not None
    keep = steps(SHORT, 0.1).keep_theta ** (2 * 2500)
    spikes = (made.theta - before * keep) / 0.05
    assert (spikes - spikes.round()).abs().max() < 0.01
    silent = spikes.round() - counts.sum(0)  # spikes of the silence, which count to no image
    assert int(silent.min()) == 0
    assert int(silent.sum()) <= 0.05 * int(counts.sum())
    # what was learned since makes sums larger: nothing but normalisation makes a weight smaller
    assert float(made.weights.sum(1).min()) >= 78.0 - 1e-3
    assert float(made.weights.sum(1).max()) > 78.1
    made.train(torch.zeros(1, 784), torch.zeros(2, 1, dtype=torch.int64), seed=0)
    assert (made.weights.sum(1) - 78.0).abs().max() < 1e-3
    assert float(made.weights.min()) >= 0.0
    assert float(made.weights.max()) <= 1.0


@compiled
def test_the_sign_of_presynaptic_changes_is_a_choice() -> None:
    sums = []
    for sign in (1, -1):
        made = ready(1, 40, constants=dataclasses.replace(SHORT, presynaptic_sign=sign, rate_post=1e-9))
        made.train(images(1), torch.zeros(1, 1, dtype=torch.int64), seed=0)
        sums.append(float(made.weights.sum(1).mean()))
    assert sums[0] > 78.05
    assert sums[1] < 77.95
    with pytest.raises(OptionError, match="presynaptic_sign must be 1"):
        Constants(presynaptic_sign=0)


@compiled
def test_what_a_module_does_depends_on_nothing_but_itself() -> None:
    shown, order = images(5), torch.tensor([[0, 1], [2, 3], [4, 0]])
    whole = ready(3, 24, constants=SHORT, seed=9, threads=1)
    counts = whole.train(shown, order, seed=1, counts=True)
    assert counts is not None
    alone = ready(3, 24, constants=SHORT, seed=9, threads=2).subset(torch.tensor([2]))
    found = alone.train(shown, order[2:], seed=1, counts=True)
    assert found is not None
    assert torch.equal(found[:, 0], counts[:, 2])
    assert torch.equal(alone.weights[0], whole.weights[2])
    answer = whole.respond(shown, seed=4)
    assert torch.equal(alone.respond(shown, seed=4)[:, 0], answer[:, 2])
    pieces = torch.cat([whole.respond(shown[:2], seed=4), whole.respond(shown[2:], seed=4, first=2)])
    assert torch.equal(pieces, answer)
    assert not torch.equal(whole.respond(shown, seed=5), answer)
    only = torch.tensor([[0], [1], [2], [0], [1]])
    gated = whole.respond(shown, seed=4, only=only)
    rows = torch.arange(5)
    assert torch.equal(gated[rows, only[:, 0]], answer[rows, only[:, 0]])
    assert int(gated.sum()) == int(answer[rows, only[:, 0]].sum())
    joined = Modules.cat([alone, whole.subset(torch.tensor([0, 1]))])
    assert torch.equal(joined.respond(shown, seed=4), answer[:, [2, 0, 1]])


@compiled
def test_modules_grow_and_are_kept() -> None:
    made = ready(1, 17, constants=SHORT, seed=2)
    made.train(images(2), torch.tensor([[0, 1]]), seed=0)
    kept = made.weights[0].clone()
    made.grow(2, seed=2)
    assert len(made) == 3
    assert made.numbers.tolist() == [0, 1, 2]
    assert torch.equal(made.weights[0], kept)
    assert torch.equal(made.weights[1:], Modules(3, 784, 17, constants=SHORT, seed=2).weights[1:])
    other = Modules(1, 784, 17, constants=SHORT, seed=5)
    state = made.state_dict()
    assert all(tensor.is_contiguous() for tensor in state.values())
    other.load_state_dict(state)
    order = torch.tensor([[0, 1], [1, 0], [1, 1]])
    for each in (made, other):
        each.train(images(2), order, seed=3)
    assert torch.equal(made.weights, other.weights)
    assert torch.equal(made.theta, other.theta)
    with pytest.raises(ShapeError, match="need the tensors theta"):
        other.load_state_dict({name: tensor for name, tensor in state.items() if name != "theta"})
    with pytest.raises(ShapeError, match="weights of 3 modules must be"):
        Modules(1, 784, 16).load_state_dict(state)


@compiled
def test_without_a_compiler_the_reference_does_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    constants = dataclasses.replace(SHORT, image=80.0, silence=60.0)
    shown, order = images(2), torch.tensor([[0, 1], [1, 0]])
    found = []
    for slow in (False, True):
        made = ready(2, 12, constants=constants, double=True)
        with monkeypatch.context() as patch:
            if slow:
                patch.setattr(modules, "library", lambda double: None)
                patch.setattr(modules, "why_not", lambda: "no C compiler was found")
                with pytest.warns(UserWarning, match="hundreds of times slower: no C compiler was found"):
                    made.train(shown, order, seed=1)
            else:
                made.train(shown, order, seed=1)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found.append((made.respond(shown, seed=1), made.weights, made.cost(shown, seed=1)))
    assert found[0][0].sum() > 0
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1], rtol=0, atol=1e-12)
    assert found[0][2] == found[1][2]


@compiled
def test_the_cost_of_an_image_is_counted() -> None:
    made, shown = ready(2, 30, constants=SHORT), images(3)
    cost = made.cost(shown, seed=8)
    counts = made.respond(shown, seed=8)
    assert cost["excitatory_spikes"] == pytest.approx(float(counts.sum()) / 3)
    assert cost["inhibitory_spikes"] == pytest.approx(cost["excitatory_spikes"], rel=0.1)
    rasters = [poisson(poisson_rates(shown[n]), key_of(8, 3, n), steps=1500) for n in range(3)]
    assert cost["input_spikes"] == pytest.approx(sum(len(r.inputs) for r in rasters) / 3)
    assert cost["synaptic_events"] == pytest.approx(cost["input_spikes"] * 30 * 2)
    assert cost["neuron_updates"] == 1500 * 60 * 2
    half = made.cost(shown, seed=8, only=torch.zeros(3, 1, dtype=torch.int64))
    assert half["modules"] == 1
    assert half["synaptic_events"] == pytest.approx(cost["synaptic_events"] / 2)


def test_wrong_input_is_answered_in_one_line() -> None:
    made = Modules(2, 9, 4)
    order = torch.zeros(2, 1, dtype=torch.int64)
    with pytest.raises(ShapeError, match=r"images must be \[N, 9 inputs\], not \[3, 8\]"):
        made.respond(torch.rand(3, 8), seed=0)
    with pytest.raises(OptionError, match=r"must lie in \[0, 1\]"):
        made.respond(torch.full((1, 9), 1.5), seed=0)
    with pytest.raises(ShapeError, match=r"order must be int64 \[2 modules"):
        made.train(torch.rand(3, 9), order[:1], seed=0)
    with pytest.raises(OptionError, match="order names images from 0 to 2, found 3"):
        made.train(torch.rand(3, 9), order + 3, seed=0)
    with pytest.raises(OptionError, match="only names modules from 0 to 1"):
        made.respond(torch.rand(1, 9), seed=0, only=torch.tensor([[2]]))
    with pytest.raises(OptionError, match="modules must be at least 1, not 0"):
        Modules(0, 9)
    with pytest.raises(OptionError, match="threads must be at least 1"):
        Modules(1, 9, threads=0)
    with pytest.raises(OptionError, match="silence must be at least 60 ms"):
        Constants(silence=10.0)
    with pytest.raises(OptionError, match="tau_e must be above 0"):
        Constants(tau_e=0.0)
    with pytest.raises(OptionError, match="the same size"):
        Modules.cat([made, Modules(1, 9, 5)])
    with pytest.raises(OptionError, match="an image has 3500 steps"):
        Reference(np.ones((1, 1)), 20.0).present(everywhere(10, 1, 1))
