"""Neurons as NIR nodes: parameters both ways, what NIR cannot say, and neurons with a value for each place."""

import os
import subprocess
import sys
from unittest import mock

import nir
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import neurons
from neurons.adapters.nir import NIRError, from_node, names, to_node
from neurons.adapters.nir_neurons import GeneralCubaLIF, GeneralIF, GeneralLI, GeneralLIF

SAID = {
    "if": [{}, {"threshold": 0.7}],
    "lif": [
        {},
        {"tau": 3.3, "threshold": 0.7},
        {"detach_reset": False, "surrogate": {"name": "sigmoid", "alpha": 3.0}},
    ],
    "plif": [{}, {"tau": 3.7}],
    "cuba": [{}, {"alpha": 0.123, "beta": 0.9, "threshold": 2.0}],
    "lapicque": [{}, {"r": 3.0, "c": 1.7, "dt": 0.3}],
    "leaky-integrator": [{}, {"tau": 2.7}],
}
CASES = [(name, options) for name, each in SAID.items() for options in each]


def currents(*shape, seed=0):
    return 2 * torch.rand(12, 3, *shape, generator=torch.Generator().manual_seed(seed))


def fields(node):
    return {k: v for k, v in node.to_dict().items() if k not in ("metadata", "type")}


def same_node(a, b, rtol=0.0):
    assert type(a) is type(b)
    for key, value in fields(a).items():
        np.testing.assert_allclose(value, fields(b)[key], rtol=rtol, err_msg=key)


def test_all_neurons_that_nir_can_say_are_tested():
    assert names() == sorted(SAID)


def test_parameters_are_those_of_continuous_time():
    dt = 1e-3
    node = to_node(neurons.LIF(tau=4.0, threshold=0.5), (2, 3), dt)
    assert isinstance(node, nir.LIF)
    for key, value in {"tau": 4e-3, "r": 1.0, "v_leak": 0.0, "v_threshold": 0.5, "v_reset": 0.0}.items():
        np.testing.assert_array_equal(getattr(node, key), np.full((2, 3), value))
    assert to_node(neurons.IF(), (1,), dt).r == 1000.0  # dv/dt = r x: a step adds r dt x
    cuba = to_node(neurons.CUBA(alpha=0.5, beta=0.75), (1,), dt)
    assert (cuba.tau_syn, cuba.tau_mem, cuba.w_in, cuba.r) == (2e-3, 4e-3, 2.0, 4.0)
    circuit = to_node(neurons.Lapicque(r=5.0, c=2.0, dt=0.5), (1,), dt)
    assert (circuit.tau, circuit.r) == (20 * dt, 5.0)


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("dt", [1e-4, 1e-3, 0.7])
def test_a_neuron_comes_back_as_it_was(name, options, dt):
    neuron = neurons.create(name, **options)
    node = to_node(neuron, (5,), dt)
    back, notes = from_node(node, dt)
    assert notes == []
    assert type(back) is type(neuron)
    assert repr(back) == repr(neuron)
    assert getattr(back, "detach_reset", None) == getattr(neuron, "detach_reset", None)
    assert all(torch.equal(p, q) for p, q in zip(back.parameters(), neuron.parameters(), strict=True))
    same_node(node, to_node(back, (5,), dt))
    assert torch.equal(back(currents(5)), neuron(currents(5)))


@pytest.mark.parametrize(("name", "options"), CASES)
def test_without_metadata_it_spikes_the_same(name, options):
    neuron = neurons.create(name, **options)
    node = to_node(neuron, (5,))
    node.metadata = {}
    back, _ = from_node(node)
    x = currents(5, seed=3)
    assert neuron(x).any()
    torch.testing.assert_close(back(x), neuron(x))  # real outputs to rounding, spikes exactly
    same_node(node, to_node(back, (5,)), rtol=1e-6)


def test_metadata_are_believed_only_where_the_node_agrees():
    node = to_node(neurons.LIF(tau=2.0), (3,))
    node.tau = node.tau * 2
    assert from_node(node)[0].tau == 4.0
    node = to_node(neurons.PLIF(tau=2.0), (3,))
    node.v_threshold = np.array([1.0, 2.0, 3.0])
    back, _ = from_node(node)
    assert isinstance(back, GeneralLIF)
    assert back.threshold.tolist() == [1.0, 2.0, 3.0]
    node.metadata["options"] = "{not json"
    assert isinstance(from_node(node)[0], GeneralLIF)


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(["lif", "plif", "leaky-integrator"]),
    tau=st.floats(1.01, 1000),
    dt=st.floats(1e-6, 1.0),
    size=st.integers(1, 4),
)
def test_any_time_constant_survives(name, tau, dt, size):
    neuron = neurons.create(name, tau=tau)
    back, _ = from_node(to_node(neuron, (size,), dt), dt)
    with mock.patch.dict(os.environ, STEP_KERNELS="eager"):  # or every time constant would compile a kernel
        assert torch.equal(back(currents(size)), neuron(currents(size)))
    same_node(to_node(neuron, (size,), dt), to_node(back, (size,), dt))


@pytest.mark.parametrize(
    ("neuron", "words"),
    [
        (
            lambda: neurons.create("izhikevich"),
            "no node for the neuron 'izhikevich'; it has one for cuba, if, lapicque",
        ),
        (lambda: neurons.LIF(reset="soft"), "reset: soft.*NIR knows only a reset to a value"),
        (lambda: neurons.LIF(reset="none"), "never reset"),
        (lambda: neurons.CUBA(reset_delay=True), "one time step late"),
        (type("Mine", (neurons.LIF,), {}), "no node"),  # its step may be another
    ],
)
def test_what_nir_cannot_say_is_refused_in_one_line(neuron, words):
    with pytest.raises(NIRError, match=words) as caught:
        to_node(neuron(), (3,))
    assert "\n" not in str(caught.value)


def test_a_soft_reset_travels_as_a_note_when_allowed():
    neuron = neurons.LIF(reset="soft")
    node = to_node(neuron, (3,), soft_reset_in_metadata=True)
    assert node.metadata["reset"] == "subtract"
    back, notes = from_node(node)
    assert notes == ["its metadata ask for a soft reset, which other libraries overlook"]
    assert torch.equal(back(currents(3)), neuron(currents(3)))
    node.metadata = {"reset": "subtract"}  # another writer with the same convention
    assert torch.equal(from_node(node)[0](currents(3)), neuron(currents(3)))


def test_metadata_say_what_the_node_cannot():
    said = to_node(neurons.LIF(), (1,), 1e-3).metadata
    assert said["platform"] == "step"
    assert said["dt"] == 1e-3
    assert said["reset"] == "zero"
    assert said["discretisation"] == "euler"
    assert said["detach"] is True
    assert "arctan" in said["surrogate"]


# Neurons with a value for each place ----------------------------------------------------------------------------------


def spread(*shape, low, high, seed):
    return low + (high - low) * torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def numbers(*shape):
    return {
        "v_leak": spread(*shape, low=-0.3, high=0.3, seed=1),
        "threshold": spread(*shape, low=0.4, high=0.9, seed=2),
        "v_reset": spread(*shape, low=-0.5, high=0.2, seed=3),
    }


def general(kind, *shape):
    tau, r = spread(*shape, low=1.5, high=6, seed=4), spread(*shape, low=0.8, high=3, seed=5)
    own = numbers(*shape)
    if kind is GeneralIF:
        return GeneralIF(r / 4, threshold=own["threshold"], v_reset=own["v_reset"])
    if kind is GeneralLI:
        return GeneralLI(tau, r, own["v_leak"])
    if kind is GeneralLIF:
        return GeneralLIF(tau, r, **own)
    return GeneralCubaLIF(tau, tau.flip(0) + 1, r / 2, r, **own)


def restated(kind, neuron, x):
    """NIR's equations by Euler's method in float64, one neuron at a time, in plain Python."""
    shape = x.shape[2:]
    held = {name: value.double().expand(shape) for name, value in neuron.named_buffers()}
    out = torch.zeros_like(x, dtype=torch.float64)
    for b in range(x.shape[1]):
        for place in np.ndindex(*shape):
            p = {name: value[place].item() for name, value in held.items()}
            v = p["v_reset"] if kind is GeneralIF else p["v_leak"]
            i = 0.0
            for t, value in enumerate(x[:, b][(slice(None), *place)].double().tolist()):
                if kind is GeneralIF:
                    v += p["r"] * value
                elif kind is GeneralCubaLIF:
                    i += (p["w_in"] * value - i) / p["tau_syn"]
                    v += (p["v_leak"] - v + p["r"] * i) / p["tau_mem"]
                else:
                    v += (p["v_leak"] - v + p["r"] * value) / p["tau"]
                fired = kind is not GeneralLI and v >= p["threshold"]
                out[(t, b, *place)] = v if kind is GeneralLI else float(fired)
                v = p["v_reset"] if fired else v
    return out


@pytest.mark.parametrize("kind", [GeneralIF, GeneralLIF, GeneralLI, GeneralCubaLIF])
@pytest.mark.parametrize("shape", [(7,), (3, 1, 1), (3, 2, 2)])
def test_general_neurons_follow_the_equations_of_nir(kind, shape, monkeypatch):
    neuron = general(kind, *shape)
    x = currents(*shape) if len(shape) == 1 else currents(3, 2, 2)
    want = restated(kind, neuron, x)
    assert want.std() > 0.1
    compiled, (half, state) = neuron(x), neuron.run(x[:5])
    rest, _ = neuron.run(x[5:], state)
    torch.testing.assert_close(compiled.double(), want, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.cat([half, rest]), compiled)
    monkeypatch.setenv("STEP_KERNELS", "eager")
    torch.testing.assert_close(neuron(x), compiled)


@pytest.mark.parametrize("kind", [GeneralIF, GeneralLIF, GeneralLI, GeneralCubaLIF])
def test_general_neurons_travel_in_full(kind):
    neuron = general(kind, 3, 1, 1)
    back, notes = from_node(to_node(neuron, (3, 2, 2), 1e-3), 1e-3)
    assert notes == []
    assert type(back) is kind
    assert {k: v.shape for k, v in back.state_dict().items()} == {k: v.shape for k, v in neuron.state_dict().items()}
    for key, value in neuron.state_dict().items():
        torch.testing.assert_close(back.state_dict()[key], value, rtol=2e-7, atol=0)
    same_node(to_node(neuron, (3, 2, 2), 1e-3), to_node(back, (3, 2, 2), 1e-3), rtol=1e-6)
    x = currents(3, 2, 2)
    torch.testing.assert_close(back(x), neuron(x))


@pytest.mark.parametrize(("kind", "usual"), [(GeneralIF, "if"), (GeneralLIF, "lif"), (GeneralLI, "leaky-integrator")])
def test_equal_values_for_all_places_are_the_usual_neuron(kind, usual):
    own = {"threshold": torch.full((4,), 0.8)} if kind is not GeneralLI else {}
    times = () if kind is GeneralIF else (torch.full((4,), 3.0),)
    neuron = neurons.create(usual, **({} if kind is GeneralIF else {"tau": 3.0}), **dict.fromkeys(own, 0.8))
    assert torch.equal(kind(*times, **own)(currents(4)), neuron(currents(4)))
    assert neurons.update_cost(kind(*times, **own)) == neurons.update_cost(neuron)


def test_the_surrogate_gradient_passes_through_general_neurons():
    x = currents(5).requires_grad_()
    general(GeneralLIF, 5)(x).sum().backward()
    assert (x.grad != 0).any()


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (lambda: nir.LIF(*np.full((4, 2), 1e-5), v_reset=np.zeros(2)), "shorter than a time step"),
        (lambda: nir.LI(np.array([np.nan]), np.ones(1), np.zeros(1)), "not finite"),
        (lambda: nir.Threshold(np.ones(3)), "Threshold is no neuron that STEP can read"),
    ],
)
def test_nodes_that_make_no_neuron_are_refused(node, words):
    with pytest.raises(NIRError, match=words):
        from_node(node())


def test_an_if_with_r_of_one_gets_a_note():
    _, notes = from_node(nir.IF(np.ones(2), np.ones(2)))
    assert "some writers mean all" in notes[0]


def test_without_the_package_there_is_one_line():
    code = (
        "import sys; sys.modules['nir'] = None\n"
        "import neurons\nfrom neurons.adapters.nir import NIRError, to_node\n"
        "try: to_node(neurons.LIF(), (1,))\n"
        "except NIRError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "this needs the package nir: pip install 'step-snn[nir]'\n"


def test_nir_is_loaded_when_used():
    code = "import sys, neurons.adapters.nir, step.exchange; print('nir' in sys.modules, 'h5py' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
