"""ELM neurons: the equations, the wiring, streams, positions, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import neurons
from neurons.elm import ELM, BranchELM, LeakyMemory, ModifiedELM, reference
from neurons.elm.routing import route
from neurons.errors import DataError, OptionError, ShapeError

NEURONIO = {"features": 1278, "outputs": 2, "branches": 45, "synapses": 100, "routing": "neuronio"}


def spikes(T: int, B: int, features: int, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Sparse input, some of it inhibitory and of any size."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(T, B, features, generator=generator, dtype=torch.float64)
    return (x * (torch.rand(x.shape, generator=generator) < 0.3)).to(dtype)


def made(kind: str, seed: int = 0, **options: Any) -> LeakyMemory:
    torch.manual_seed(seed)
    found = neurons.create(kind, **options)
    assert isinstance(found, LeakyMemory)
    with torch.no_grad():  # weights of both signs, so that the rectifier shows
        found.synapse_weight.add_(0.4 * torch.randn(found.synapse_weight.shape))
    return found


@pytest.mark.parametrize(
    ("kind", "options", "parameters"),
    [  # Spieler et al., ICLR 2024: the figures of their table and of the model_stats.json of their checkpoints
        ("branch-elm", {**NEURONIO, "memory": 20}, 8_002),
        ("branch-elm", {**NEURONIO, "memory": 15}, 6_827),
        ("branch-elm", {**NEURONIO, "memory": 100}, 54_002),
        ("elm", {"features": 700, "outputs": 20}, 183_020),
        ("elm", {"features": 1278, "outputs": 2, "memory": 20}, 54_100),
    ],
)
def test_parameter_counts_are_the_published_ones(kind: str, options: Any, parameters: int) -> None:
    assert sum(p.numel() for p in neurons.create(kind, **options).parameters()) == parameters


COMMON: dict[str, Any] = {
    "layers": st.integers(0, 2),
    "activation": st.sampled_from(["relu", "silu", "relu-squared"]),
    "memory": st.sampled_from([1, 5, 12]),
    "outputs": st.sampled_from([1, 3]),
    "learn_memory_tau": st.booleans(),
    "tau_max": st.sampled_from([1.0, 30.0, 1000.0]),
    "gain": st.sampled_from([1.0, 5.0]),
    "dt": st.sampled_from([0.5, 1.0, 10.0]),
    "wiring": st.sampled_from(
        [
            {"routing": "none"},
            {"routing": "none", "synapses": 3},
            {"routing": "random", "branches": 5, "synapses": 4, "routing_seed": 3},
            {"routing": "neuronio", "branches": 5, "synapses": 4},
        ]
    ),
}
CLASSIC = st.fixed_dictionaries(
    {**COMMON, "version": st.sampled_from(["v1", "v2"]), "tau": st.just(4.0), "learn_branch_tau": st.booleans()}
)
MODIFIED = st.fixed_dictionaries(
    {
        **COMMON,
        "rectifier": st.sampled_from(["identity", "relu", "abs", "exp"]),
        "input_scale": st.sampled_from([1.0, 3.0]),
        "tau": st.sampled_from([None, 4.0]),
        "high_pass": st.sampled_from([None, 5.0]),
    }
)


def unwired(options: dict[str, Any]) -> dict[str, Any]:
    return {**{key: value for key, value in options.items() if key != "wiring"}, **options["wiring"]}


def assert_as_the_equations_say(neuron: LeakyMemory, seed: int) -> None:
    """Output, state and gradients in float32 against the equations in float64."""
    x = spikes(14, 3, 12, seed=seed, dtype=torch.float64).requires_grad_()
    exact = reference.trace(neuron.double(), x)
    weight = torch.randn(exact.output.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    leaves = [x, *neuron.parameters()]
    wanted = torch.autograd.grad((exact.output * weight).sum(), leaves, allow_unused=True)
    narrow = x.detach().float().requires_grad_()
    output, state = neuron.float().run(narrow)
    found = torch.autograd.grad((output * weight).sum(), [narrow, *neuron.parameters()], allow_unused=True)
    pairs = [(output, exact.output), (state["m"], exact.memory[-1])]
    pairs += [(state["b"], exact.branches[-1])] if "b" in state else []
    for value, right in pairs:
        torch.testing.assert_close(
            value.double(), right, rtol=1e-5, atol=1e-5 * max(1, float(right.detach().abs().max()))
        )
    for value, right in zip(found, wanted, strict=True):
        assert (value is None) == (right is None)
        if right is not None:
            torch.testing.assert_close(value.double(), right, rtol=1e-4, atol=1e-4 * float(right.abs().max()) + 1e-9)


@given(options=CLASSIC, seed=st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_both_versions_follow_their_equations(options: dict[str, Any], seed: int) -> None:
    assert_as_the_equations_say(made("elm", seed, features=12, readout="real", **unwired(options)), seed)


@given(options=MODIFIED, seed=st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_the_modified_neuron_follows_its_equations(options: dict[str, Any], seed: int) -> None:
    assert_as_the_equations_say(made("modified-elm", seed, features=12, readout="real", **unwired(options)), seed)


def test_a_step_and_the_loop_over_it_are_the_run() -> None:
    neuron = made("modified-elm", features=6, outputs=2, tau=3.0, high_pass=4.0).double()
    x = spikes(5, 2, 6, dtype=torch.float64)
    whole, last = neuron.run(x)
    state = list(neuron.resting_state(x).values())
    for x_t, y_t in zip(x, whole, strict=True):
        y, *state = neuron.step(x_t, *state)
        torch.testing.assert_close(y, y_t)
    for value, right in zip(state, last.values(), strict=True):
        torch.testing.assert_close(value, right)


def test_branches_of_both_versions_are_the_same() -> None:
    x = spikes(40, 3, 12, dtype=torch.float64)
    first, second = (
        reference.trace(made("elm", features=12, synapses=3, version=version).double(), x) for version in ("v1", "v2")
    )
    torch.testing.assert_close(first.branches, second.branches, rtol=1e-12, atol=1e-12)
    assert (first.memory - second.memory).abs().max() > 0.1  # they differ in how they write


def test_memory_keeps_within_the_bounds_of_its_version() -> None:
    """|m| <= 1.7159 g / (1 - exp(-dt / tau)): that of version 2 shrinks where a time constant is below a step."""
    x = 100 * spikes(300, 4, 8)
    for version, first, last in (("v1", 5 * 1.7159, 5 * 1.7159), ("v2", 1.7159, 5 * 1.7159)):
        neuron = ELM(8, version=version, tau_min=0.1, tau_max=1000.0)  # type: ignore[arg-type]
        m = neuron.run(x)[1]["m"].abs()
        bound = 1.7159 * neuron.memory_gain() / (1 - neuron.memory_decay())
        assert (m <= bound * 1.001).all()
        assert bound[0].item() == pytest.approx(first, rel=1e-3)
        assert bound[-1].item() == pytest.approx(last, rel=1e-2)


def test_time_constants_begin_evenly_spaced_in_their_logarithm() -> None:
    wanted = torch.logspace(0, 3, 7)
    torch.testing.assert_close(ELM(4, memory=7).memory_tau(), wanted, rtol=1e-4, atol=1e-4)
    neuron = ModifiedELM(4, memory=7, learn_memory_tau=True)
    torch.testing.assert_close(neuron.memory_tau(), wanted, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        neuron.memory_rho.fill_(-50.0)
        assert neuron.memory_tau().tolist() == pytest.approx([0.1] * 7, rel=1e-4)
        neuron.memory_rho.fill_(50.0)
        assert neuron.memory_tau().tolist() == pytest.approx([1000 * math.sqrt(10)] * 7)
    learned = {name for name, _ in ELM(4, learn_memory_tau=True, learn_branch_tau=True).named_parameters()}
    assert {"memory_rho", "branch_rho"} <= learned
    assert not {"memory_rho", "branch_rho"} & {name for name, _ in ELM(4).named_parameters()}


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("elm", {}),
        ("elm", {"version": "v1", "layers": 0, "learn_branch_tau": True}),
        ("branch-elm", {"branches": 4}),
        ("modified-elm", {"tau": 3.0, "high_pass": 7.0}),
        ("modified-elm", {"high_pass": 7.0, "layers": 2}),
    ],
)
@given(split=st.integers(1, 29), seed=st.integers(0, 9))
@settings(max_examples=8, deadline=None)
def test_pieces_are_the_whole(kind: str, options: Any, split: int, seed: int) -> None:
    neuron, x = made(kind, features=9, memory=6, readout="real", **options), spikes(30, 3, 9, seed=seed)
    whole, last = neuron.run(x)
    first, state = neuron.run(x[:split])
    second, state = neuron.run(x[split:], state)
    torch.testing.assert_close(torch.cat([first, second]), whole, rtol=1e-5, atol=2e-6)
    torch.testing.assert_close(neuron(x), whole, rtol=1e-5, atol=2e-6)
    for name, value in last.items():
        torch.testing.assert_close(state[name], value, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("options", [{}, {"high_pass": 5.0, "tau": 2.0}])
def test_only_the_last_output_of_every_sample(options: Any) -> None:
    neuron, x = made("modified-elm", features=5, outputs=3, readout="real", **options), spikes(12, 4, 5)
    whole = neuron(x)
    torch.testing.assert_close(neuron.last(x), whole[-1])
    lengths = torch.tensor([12, 1, 7, 3])
    gathered = torch.stack([whole[n - 1, i] for i, n in enumerate(lengths.tolist())])
    torch.testing.assert_close(neuron.last(x, lengths), gathered)


def test_the_positions_of_a_map_share_one_neuron() -> None:
    neuron = made("elm", features=5, outputs=3, axis=-3, readout="real")
    maps = spikes(6, 2, 5 * 4 * 3).view(6, 2, 5, 4, 3)
    y, state = neuron.run(maps)
    assert y.shape == (6, 2, 3, 4, 3)
    assert {name: tuple(value.shape) for name, value in state.items()} == {"b": (2, 4, 3, 5), "m": (2, 4, 3, 100)}
    neuron.axis = -1
    alone, its = neuron.run(maps[:, :, :, 2, 1])
    torch.testing.assert_close(y[:, :, :, 2, 1], alone)
    torch.testing.assert_close(state["m"][:, 2, 1], its["m"])
    neuron.axis = -3
    more, _ = neuron.run(maps, state)
    torch.testing.assert_close(more, neuron.run(torch.cat([maps, maps]))[0][6:])
    torch.testing.assert_close(neuron.last(maps, torch.tensor([6, 2])), torch.stack([y[5, 0], y[1, 1]]))


def test_spikes_are_the_real_output_above_the_threshold() -> None:
    x, weight = spikes(20, 3, 6), torch.randn(20, 3, 6)
    real, spiking = (made("elm", features=6, readout=readout, threshold=0.2) for readout in ("real", "spike"))
    y = real(x)
    assert torch.equal(spiking(x), (y >= 0.2).float())
    assert (real.output, spiking.output) == ("real", "binary")
    slope = torch.autograd.grad((spiking(x) * weight).sum(), list(spiking.parameters()))
    right = torch.autograd.grad(y, list(real.parameters()), weight * spiking.surrogate.derivative(y - 0.2).detach())
    for value, other in zip(slope, right, strict=True):
        torch.testing.assert_close(value, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("wiring", [{}, {"routing": "random", "branches": 4, "synapses": 5}])
def test_dropout_is_one_mask_for_each_sample(wiring: Any) -> None:
    rates = {"input_dropout": 0.3, "memory_dropout": 0.4}
    neuron = made("modified-elm", features=8, memory=10, tau=3.0, readout="real", **rates, **wiring).double()
    x = spikes(9, 4, 8, dtype=torch.float64)
    torch.manual_seed(5)
    masks = {
        "synapse_mask": torch.empty(4, len(neuron.synapse_weight), dtype=torch.float64).bernoulli_(0.7),
        "memory_mask": torch.empty(4, 1, 10, dtype=torch.float64).bernoulli_(0.6).squeeze(1),
    }
    torch.manual_seed(5)
    torch.testing.assert_close(neuron(x), reference.trace(neuron, x, **masks).output)
    assert len({tuple(row.tolist()) for row in masks["synapse_mask"]}) > 1
    torch.testing.assert_close(neuron.eval()(x), reference.trace(neuron, x).output)


def test_random_routing_follows_its_seed_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one, same, other = (route("random", 50, 20, 10, seed=seed).index for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert one is not None and same is not None and other is not None  # noqa: PT018
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert (int(one.min()), int(one.max()), len(one.unique()) < len(one)) == (0, 49, True)
    assert torch.equal(BranchELM(50, branches=20, routing_seed=3).index, one)


def test_neuronio_windows_interlace_excitation_and_inhibition() -> None:
    """A restatement in plain Python: 45 windows of 100 with stride 29, and 218 places beyond the end."""
    heard = route("neuronio", 1278, 45, 100)
    places = [29 * branch + i for branch in range(45) for i in range(100)]
    order = [p for pair in zip(range(639), range(639, 1278), strict=True) for p in pair]
    assert heard.index is not None
    assert heard.mask is not None
    assert heard.mask.tolist() == [place < 1278 for place in places]
    assert heard.index.tolist() == [order[min(place, 1277)] for place in places]
    assert int((~heard.mask).sum()) == 218
    assert bool(heard.mask.view(45, 100)[:41].all())
    assert heard.index[heard.mask].unique().numel() == 1278


def test_a_masked_synapse_hears_nothing() -> None:
    neuron = BranchELM(10, branches=3, synapses=6, routing="neuronio", readout="real")  # places 4k to 4k + 5
    assert neuron.mask is not None
    y = neuron(spikes(5, 2, 10))
    with torch.no_grad():
        neuron.synapse_weight[~neuron.mask] = 99.0
    assert torch.equal(neuron(spikes(5, 2, 10)), y)
    assert int((~neuron.mask).sum()) == 4


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("elm", {"features": 0}, "features of elm must be a whole number"),
        ("elm", {"memory": 2.5}, "memory of elm"),
        ("elm", {"layers": -1}, "layers of elm must be a whole number of 0 or more"),
        ("elm", {"activation": "gelu"}, "activation of elm is 'relu', 'silu' or 'relu-squared', not 'gelu'"),
        ("elm", {"version": "v3"}, "version of elm is 'v1' or 'v2'"),
        ("elm", {"readout": "relu"}, "readout of elm is 'spike' or 'real'"),
        ("elm", {"routing": "all"}, "routing of elm is 'none', 'random' or 'neuronio'"),
        ("elm", {"tau_min": 5.0, "tau_max": 4.0}, "tau_max of elm must not be below tau_min 5"),
        ("elm", {"tau": 0.0}, "tau of elm must be positive"),
        ("elm", {"tau": None}, "tau of elm must be positive"),
        ("elm", {"gain": float("nan")}, "gain of elm must be positive"),
        ("elm", {"weight": float("inf")}, "weight of elm must be finite"),
        ("elm", {"axis": 1}, "axis of elm is counted from the last"),
        ("elm", {"checkpoint": -1}, "checkpoint of elm"),
        ("elm", {"features": 7, "synapses": 3}, "7 features, not 2 x 3"),
        ("branch-elm", {"features": 7, "routing": "neuronio"}, "as many excitatory as inhibitory inputs, not 7"),
        ("branch-elm", {"features": 40, "branches": 3, "routing": "neuronio"}, "set synapses to 14 or more"),
        ("modified-elm", {"rectifier": "square"}, "rectifier of modified-elm is"),
        ("modified-elm", {"input_dropout": 1.0}, "input_dropout of modified-elm must be from 0 to below 1"),
        ("modified-elm", {"high_pass": -1.0}, "high_pass of modified-elm must be positive"),
        ("modified-elm", {"learn_branch_tau": True}, "learn_branch_tau of modified-elm needs a tau"),
    ],
)
def test_wrong_options_are_refused_in_one_line(kind: str, options: Any, words: str) -> None:
    with pytest.raises(OptionError) as raised:
        neurons.create(kind, **options)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_wrong_inputs_are_refused_in_one_line() -> None:
    neuron, x = ELM(4, memory=3), torch.ones(3, 2, 4)
    wrong: list[tuple[Any, type[Exception], str]] = [
        (lambda: neuron(torch.ones(3, 2, 5)), ShapeError, "4 channels on axis -1"),
        (lambda: neuron(torch.ones(3, 4)), ShapeError, "4 channels on axis -1"),
        (lambda: neuron(torch.ones(3, 2, 4, dtype=torch.int64)), ShapeError, "floating-point"),
        (lambda: neuron(x.index_put((torch.tensor(1),) * 3, torch.tensor(math.nan))), DataError, "at time step 1"),
        (lambda: neuron.last(x * math.inf), DataError, "NaN or infinity, first at time step 0"),
        (lambda: neuron.run(x, {"m": torch.zeros(2, 3)}), ShapeError, "has the state ['b', 'm']"),
        (lambda: neuron.run(x, {"b": torch.zeros(2, 4), "m": torch.zeros(2, 4)}), ShapeError, "shape [2, 3]"),
        (lambda: neuron.last(x, torch.tensor([3, 4])), ShapeError, "from 1 to 3"),
        (lambda: neuron.last(x, torch.tensor([3])), ShapeError, "2 whole numbers"),
    ]
    for call, kind, words in wrong:
        with pytest.raises(kind) as raised:
            call()
        assert words in str(raised.value)
        assert "\n" not in str(raised.value)


def test_the_cost_is_that_of_the_products_shared_out_among_the_outputs() -> None:
    neuron = ELM(6, outputs=2, memory=4, hidden=5, readout="real")
    products = 6 + (6 + 4) * 5 + 5 * 4 + 4 * 2  # synapses, perceptron, read-out
    assert neurons.update_cost(neuron) == {
        "mul": (products + 6 + 4 * 4) / 2, "add": (products + 6 + 4) / 2, "exp": 4 / 2, "cmp": 5 / 2,
    }  # fmt: skip
    assert neuron.state_words == (6 + 4) / 2


@pytest.mark.parametrize("kind", ["elm", "branch-elm", "modified-elm"])
def test_a_neuron_learns_what_a_sum_of_its_branches_cannot_say(kind: str) -> None:
    """Exclusive or of two channels ten steps apart: memory and a perceptron are needed."""
    torch.manual_seed(0)
    neuron = neurons.create(kind, features=2, outputs=1, memory=10, readout="real", tau_max=50.0)
    first, second = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]]).T
    x = torch.zeros(12, 4, 2)
    x[0, :, 0], x[10, :, 1] = 2.0 * first, 2.0 * second
    right = (first ^ second).float()
    optimiser = torch.optim.Adam(neuron.parameters(), 1e-2)
    for _ in range(150):
        optimiser.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(neuron.last(x)[:, 0], right)
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.1
