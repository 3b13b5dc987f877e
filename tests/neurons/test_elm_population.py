"""The population of ELM neurons: its wirings, its C against the loop over steps, its streams, masks and penalties."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import neurons
from neurons import ELMPopulation, conformance, penalties
from neurons.elm.population_kernel import usable
from neurons.elm.wiring import connectome
from neurons.errors import DataError, OptionError, ShapeError
from neurons.plain import plain

SIZES: dict[str, Any] = {"neurons": 7, "memory": 3, "branches": 4, "synapses": 5, "input_scale": 2.0}
FEATURES, T, B = 11, 35, 11  # more steps than the C takes back at once, twice; more samples than a vector holds
FORMS: list[dict[str, Any]] = [
    {},
    {"layers": 0, "high_pass": None},
    {"layers": 2, "activation": "silu", "tau": 3.0, "learn_memory_tau": True, "dt": 2.0},
    {"activation": "relu", "readout": "spike", "threshold": 0.1, "rectifier": "abs"},
    {"readout": "real", "recurrent": 0.0, "tau": 4.0, "layers": 3},
    {"readout": "real", "recurrent": 1.0, "hidden": 5},
]
FORM = pytest.mark.parametrize("form", FORMS, ids=str)


@pytest.fixture(autouse=True)
def usual(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STEP_KERNELS", raising=False)


def population(**options: Any) -> ELMPopulation:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ELMPopulation(FEATURES, **{**SIZES, **options})


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# --- wiring


def test_random_wiring_draws_channels_and_neurons_by_their_shares() -> None:
    sources = connectome("random", 20, 50, 400, recurrent=0.25, seed=3)
    assert sources.shape == (50, 400)
    heard = sources >= 20
    assert float(heard.double().mean()) == pytest.approx(0.25, abs=5 * math.sqrt(0.25 * 0.75 / heard.numel()))
    for counts in (torch.bincount(sources[~heard], minlength=20), torch.bincount(sources[heard] - 20, minlength=50)):
        assert float((counts - counts.double().mean()).abs().max()) < 5 * math.sqrt(float(counts.double().mean()))
    assert torch.equal(sources, connectome("random", 20, 50, 400, recurrent=0.25, seed=3))
    assert not torch.equal(sources, connectome("random", 20, 50, 400, recurrent=0.25, seed=4))


def test_full_wiring_hears_every_channel_once_in_orders_of_their_own() -> None:
    sources = connectome("full", 12, 5, 12)
    assert torch.equal(sources.sort(1).values, torch.arange(12).expand(5, -1))
    assert len({tuple(row) for row in sources.tolist()}) == 5


@pytest.mark.parametrize("kind", ["windowed", "modular", "small-world"])
def test_windows_are_pieces_widened_by_their_overlap(kind: str) -> None:
    # 40 channels in 4 pieces of 10, widened by 2 on both sides, moved inward at the ends
    options: dict[str, Any] = {"modules": 4, "overlap": 0.4, "neighbours": 3, "p_inter": 0.1, "p_rewire": 0.1}
    sources = connectome(kind, 40, 12, 64, **options)
    starts = [0, 8, 18, 26]
    far = []
    for i, row in enumerate(sources):
        channels = row[row < 40].sort().values
        assert torch.equal(channels, torch.arange(starts[i // 3], starts[i // 3] + 14))
        heard = row[row >= 40] - 40
        assert len(heard) == 50
        assert i not in heard
        apart = (heard - i).abs().minimum(12 - (heard - i).abs())
        far.append(heard // 3 != i // 3 if kind == "modular" else apart > 3)
        assert not torch.equal(row[:14].sort().values, channels)  # shuffled
    share = float(torch.stack(far).double().mean())
    right = 6 * 1 / 11 - 1 / 11 if kind == "windowed" else 0.1
    assert share == pytest.approx(right, abs=5 * math.sqrt(right * (1 - right) / 600))
    # the control: the same wiring, but for names of channels
    exchanged = connectome(kind, 40, 12, 64, scrambled=True, **options)
    assert torch.equal(exchanged[sources >= 40], sources[sources >= 40])
    names = {(a, b) for a, b in zip(sources.flatten().tolist(), exchanged.flatten().tolist(), strict=True) if a < 40}
    assert len(names) == len({a for a, _ in names}) == len({b for _, b in names}) == 40
    assert any(a != b for a, b in names)


@pytest.mark.parametrize(
    ("kind", "sizes", "options", "said"),
    [
        ("full", (12, 5, 10), {}, "to 12"),
        ("windowed", (40, 10, 50), {"modules": 4}, "divide"),
        ("windowed", (40, 4, 8), {"modules": 2}, "more than the 8"),
        ("small-world", (40, 4, 50), {"neighbours": 2}, "from 1 to 1"),
        ("modular", (4, 1, 9), {}, "no other one"),
        ("random", (4, 3, 9), {"recurrent": 1.5}, "from 0 to 1"),
        ("tonotopic", (4, 3, 9), {}, "one of"),
    ],
)
def test_wirings_that_do_not_fit_are_refused(
    kind: str, sizes: tuple[int, int, int], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(OptionError, match=said):
        connectome(kind, *sizes, **options)


# --- the neuron


def by_hand(neuron: ELMPopulation, x: Tensor) -> Tensor:
    """Return the activities by the equations, neuron by neuron, without branch filter, one hidden layer."""
    wide = neuron.double()
    tau = torch.logspace(math.log10(wide.tau_min), math.log10(wide.tau_max), wide.memory, dtype=torch.float64)
    tau = tau.clamp(wide.tau_min / 10 + 1e-6, wide.tau_max * math.sqrt(10) - 1e-6)
    m = torch.zeros(x.shape[1], wide.neurons, wide.memory, dtype=torch.float64)
    a, r = torch.zeros(2, x.shape[1], wide.neurons, dtype=torch.float64)
    outputs, leak = [], math.exp(-wide.dt / 5.0)
    for x_t in x.double():
        before, a = torch.cat([x_t, a], 1), a.clone()
        for n in range(wide.neurons):
            heard = before[:, wide.index[n].long()].view(len(a), wide.branches, wide.synapses)
            b = wide.input_scale * (heard * wide.synapse_weight[n]).sum(2)
            k = torch.exp(-wide.dt / tau) * m[:, n]
            h = b @ wide.branch_weight[n].T + k @ wide.memory_weight[n].T + wide.first_bias[n]
            z = torch.relu(h) ** 2 @ wide.weights[0][n].T + wide.biases[0][n]
            m[:, n] = k + (1 - torch.exp(-wide.dt * wide.gain / tau)) * 1.7159 * torch.tanh(2 * z / 3)
            y = m[:, n] @ wide.readout_weight[n]
            r[:, n] = leak * r[:, n] + (1 - leak) * y
            a[:, n] = torch.relu(y - r[:, n] + wide.bias[n])
        outputs.append(a)
    return torch.stack(outputs)


def test_the_equations_hold() -> None:
    neuron, x = population(dt=2.0), numbers(9, 2, FEATURES)
    with torch.no_grad():
        found = neuron(x).double()
        torch.testing.assert_close(found, by_hand(neuron, x), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(neuron(x.double()), by_hand(neuron, x), rtol=1e-6, atol=1e-7)  # tau is float32


def test_it_passes_the_conformance_check() -> None:
    spiking = neurons.factory("elm-population", **SIZES, features=7, readout="spike", tau=3.0)
    assert not [result for result in conformance.check(spiking, timed=False) if result.failed]


def _all(neuron: ELMPopulation, x: Tensor, start: dict[str, Tensor], loop: bool) -> list[Tensor]:
    """Return outputs, states reached, the penalties, and the gradients of all that there are."""
    leaf = x.clone().requires_grad_()
    given = {key: value.clone().requires_grad_() for key, value in start.items()}
    torch.manual_seed(5)  # of the masks
    with penalties.collected() as terms:
        if loop:
            with plain():
                y, reached = neuron.run(leaf, given)
        else:
            y, reached = neuron.run(leaf, given)
    values = [y, *reached.values(), *[value for _, value in terms]]
    incoming = [numbers(*value.shape, seed=i) for i, value in enumerate(values)]
    leaves = [leaf, *given.values(), *neuron.parameters()]
    return [value.detach() for value in values] + list(torch.autograd.grad(values, leaves, incoming))


@pytest.mark.parametrize("threads", [1, 2])
@FORM
def test_the_loop_in_c_equals_the_loop_over_steps_with_all_gradients(form: dict[str, Any], threads: int) -> None:
    dropped = {"input_dropout": 0.3, "recurrent_dropout": 0.3, "memory_dropout": 0.3}
    neuron = population(effort=0.5, activity=0.2, **(dropped if threads == 2 else {}), **form)
    x = numbers(T, B, FEATURES)
    assert usable(x)
    start = {key: 0.2 * numbers(*v.shape, seed=1).abs() for key, v in neuron.resting_state(x).items()}
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found, right = _all(neuron, x, start, loop=False), _all(neuron, x, start, loop=True)
    finally:
        torch.set_num_threads(before)
    assert len(found) == 1 + 2 * len(start) + 2 + 1 + len(list(neuron.parameters()))
    for i, (a, b) in enumerate(zip(found, right, strict=True)):
        close = 1e-5 if i < 3 + len(start) else 1e-4
        assert float((a - b).abs().max()) <= close * max(float(b.abs().max()), 1e-3), i


@FORM
def test_pieces_are_the_whole_and_step_is_the_reference(form: dict[str, Any]) -> None:
    neuron, x = population(**form).eval(), numbers(13, 3, FEATURES)
    with torch.no_grad():
        whole, last = neuron.run(x)
        state, pieces = None, []
        for piece in x.split([1, 5, 7]):
            y, state = neuron.run(piece, state)
            pieces.append(y)
        assert state is not None
        assert torch.equal(torch.cat(pieces), whole)  # in C not even the rounding differs
        assert all(torch.equal(state[key], last[key]) for key in neuron.state)
        wide = neuron.double()
        y, *after = wide.step(x[0].double(), *wide.resting_state(x.double()).values())
        torch.testing.assert_close(y.float(), whole[0], rtol=1e-5, atol=1e-5)
        assert [value.shape for value in after] == [value.shape for value in last.values()]


def test_positions_are_samples_and_the_channels_lie_where_axis_says() -> None:
    tokens, maps = population(), population(axis=-3)
    x = numbers(6, 2, 3, 4, FEATURES)
    with torch.no_grad():
        rows = tokens(x.flatten(1, 3))
        torch.testing.assert_close(tokens(x).flatten(1, 3), rows)
        torch.testing.assert_close(maps(x.movedim(-1, 2)).movedim(2, -1).flatten(1, 3), rows)
        _, state = tokens.run(x)
        assert state["m"].shape == (2, 3, 4, 7, 3)
        assert torch.equal(tokens.run(x, state)[0], tokens(torch.cat([x, x]))[6:])


def test_masks_hold_for_a_whole_sequence_and_keep_the_scale() -> None:
    neuron = population(readout="real", high_pass=None, recurrent=0.0, input_dropout=0.25, layers=0, neurons=400)
    x = torch.ones(6, 40, FEATURES)
    torch.manual_seed(2)
    masks = neuron._masks(x)
    assert masks.inputs is not None
    assert masks.activities is None
    assert masks.updates is None
    assert masks.inputs.shape == (40, FEATURES)
    assert masks.inputs.unique().tolist() == pytest.approx([0, 1 / 0.75])
    torch.manual_seed(2)
    with torch.no_grad():
        dropped = neuron(x)
        torch.testing.assert_close(dropped, neuron.eval()(x * masks.inputs))
    square = population(memory_dropout=0.5)._masks(x).updates
    assert square is not None
    assert square.unique().tolist() == pytest.approx([0, math.sqrt(2)])


def test_penalties_reach_who_collects_them_in_training_only() -> None:
    neuron, x = population(effort=0.002, activity=0.2), numbers(8, 5, FEATURES)
    with penalties.collected() as terms:
        y = neuron(x)
    assert [name for name, _ in terms] == ["effort", "activity"]
    assert float(terms[1][1].detach()) == pytest.approx(0.2 * float(torch.relu(y.detach()).mean()), rel=1e-5)
    assert 0 < float(terms[0][1].detach()) < 1
    with penalties.collected() as terms:
        neuron.eval()(x)
    assert not terms
    assert not penalties.collecting()
    with penalties.collected() as terms, pytest.raises(ShapeError, match="one number"):
        penalties.add("activity", y)


def test_effort_is_the_mean_over_samples_and_neurons_of_the_square_of_the_mean() -> None:
    neuron, x = population(effort=1.0, recurrent=0.0), numbers(8, 5, FEATURES)
    with torch.no_grad():
        for value in (neuron.weights[0], neuron.biases[0]):
            value.zero_()
        neuron.biases[0][:, 0] = torch.arange(7.0)  # the output of neuron n is (n, 0, 0)
        with penalties.collected() as terms:
            neuron(x)
    assert float(terms[0][1].detach()) == pytest.approx(sum((n / 3) ** 2 for n in range(7)) / 7, rel=1e-5)


@pytest.mark.parametrize(
    "options",
    [{"memory_dropout": 1.0}, {"axis": 1}, {"tau_max": 0.5}, {"effort": -1.0}, {"layers": -1}, {"readout": "sigmoid"}],
    ids=str,
)
def test_options_outside_their_domain_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=next(iter(options))):
        population(**options)


def test_inputs_and_states_that_do_not_fit_are_refused() -> None:
    neuron, x = population(), numbers(3, 2, FEATURES)
    with pytest.raises(ShapeError, match="11 channels"):
        neuron(x[..., :4])
    state = neuron.resting_state(x)
    with pytest.raises(ShapeError, match="'m'"):
        neuron.run(x, {**state, "m": state["m"][:1]})
    with pytest.raises(ShapeError, match="has the state"):
        neuron.run(x, {"m": state["m"]})


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("recurrent", [0.0, 0.25])
def test_an_input_that_is_not_finite_is_refused(bad: float, recurrent: float) -> None:
    x = numbers(6, 2, FEATURES)
    x[3, 1, 0] = bad
    with pytest.raises(DataError, match="elm-population holds NaN or infinity, first at time step 3"):
        population(recurrent=recurrent)(x)
