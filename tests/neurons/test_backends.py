"""STEP neurons run by SpikingJelly and snnTorch: equal to the native ones, for every entry of the table."""

import itertools

import pytest
import torch
from torch import nn

import neurons
import step
from neurons.adapters.equivalents import EQUIVALENTS
from neurons.errors import OptionError
from neurons.surrogate import surrogates
from step.spec import SpecError, normalise

SMALL = {
    "depth": 1, "dim": 16, "heads": 2, "mlp_ratio": 1.0, "image_size": 8, "channels": 1, "classes": 10,
    "pools": [True, True, False, False],
}  # fmt: skip
PAIRS = [(backend, name) for backend, table in EQUIVALENTS.items() for name in table]
# Off the defaults, so that a parameter that is lost in translation shows.
SETTINGS = {
    "tau": 2.5, "threshold": 0.8, "alpha": 0.85, "beta": 0.7, "k": 3, "T": 20, "r": 4.0, "c": 1.5, "dt": 0.8,
    "delta_t": 0.7, "theta_rh": 0.6, "v_c": 0.6, "a0": 0.7, "v_reset": -0.2, "masking": 0.9, "levels": 3, "weight": 0.4,
    "features": 50,
}  # fmt: skip
CHOICES = {"reset": ["hard", "soft", "none"], "detach_reset": [True, False], "reset_delay": [False, True]}


def current(T=20, B=4, N=50, dtype=torch.float64, seed=0):
    return 0.5 + 1.5 * torch.randn(T, B, N, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def settings(name):
    options = neurons.neurons.options(name)
    chosen = {key: value for key, value in SETTINGS.items() if key in options}
    if name == "klif":
        chosen["k"] = 1.3
    choices = {key: values for key, values in CHOICES.items() if key in options}
    for values in itertools.product(*choices.values()):
        yield {**chosen, **dict(zip(choices, values, strict=True))}


def gradients(neuron, x, weight):
    leaf = x.clone().requires_grad_()
    y = neuron(leaf)
    (y * weight).sum().backward()
    return y.detach(), leaf.grad


def close(ours, theirs):
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max().clamp(min=1e-12)


def grad_of(parameter):
    return torch.stack([p.grad for p in parameter]) if isinstance(parameter, nn.ParameterList) else parameter.grad


def assert_equal(name, backend, options, dtype=torch.float64):
    torch.manual_seed(0)
    native = neurons.create(name, **options).to(dtype)
    torch.manual_seed(0)
    other = neurons.create(name, backend=backend, **options).to(dtype)
    x = current(dtype=dtype)
    weight = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=dtype)
    (y, gradient), (expected, expected_gradient) = gradients(other, x, weight), gradients(native, x, weight)
    if native.output == "real":
        close(y, expected)
    else:
        assert torch.equal(y, expected)
        assert len(expected.unique()) > 1
    close(gradient, expected_gradient)
    assert expected_gradient.abs().sum() > 0
    for ours, theirs in EQUIVALENTS[backend][name](native).parameters.items():
        close(other.cell.get_parameter(theirs).grad, grad_of(getattr(native, ours)))
    assert sum(p.numel() for p in other.parameters()) == sum(p.numel() for p in native.parameters())
    assert (other.registered_name, other.output, other.streams) == (name, native.output, native.streams)
    assert neurons.update_cost(other) == neurons.update_cost(native)
    assert set(other.state) == set(native.state)


@pytest.mark.parametrize(("backend", "name"), PAIRS)
def test_spikes_and_gradients_equal_the_native_neuron(backend, name):
    """Every mapping, every reset that both sides can do; the others are refused in one line that says what can."""
    done = 0
    for options in settings(name):
        if works(name, backend, options):
            assert_equal(name, backend, options)
            done += 1
        else:
            with pytest.raises(OptionError, match=f"^{name} on {backend} [^\n]*$"):
                neurons.create(name, backend=backend, **options)
    assert done


@pytest.mark.parametrize("surrogate", surrogates.names())
@pytest.mark.parametrize("backend", list(EQUIVALENTS))
def test_every_surrogate_is_the_same_on_every_backend(backend, surrogate):
    for name in ("lif", "leaky-integrator"):
        if "surrogate" in neurons.neurons.options(name):
            assert_equal(name, backend, {"surrogate": surrogate, "detach_reset": False})


@pytest.mark.parametrize(("backend", "name"), PAIRS)
def test_single_precision_and_defaults(backend, name):
    """At the defaults, as far as the other side can do them, in float32, where SpikingJelly takes its own operators."""
    sizes = {key: SETTINGS[key] for key in ("T", "features") if key in neurons.neurons.options(name)}
    tried = [sizes, {**sizes, "detach_reset": False}, {**sizes, "reset_delay": True}]
    assert_equal(name, backend, next(options for options in tried if works(name, backend, options)), torch.float32)


@pytest.mark.parametrize(("backend", "name"), [pair for pair in PAIRS if neurons.neurons.get(pair[1]).streams])
def test_a_ported_neuron_streams(backend, name):
    options = next(chosen for chosen in settings(name) if works(name, backend, chosen))
    assert_streams(neurons.create(name, backend=backend, **options).double(), current(T=8))


def works(name, backend, options):
    try:
        neurons.create(name, backend=backend, **options)
    except OptionError:
        return False
    return True


def assert_streams(neuron, x):
    whole, last = neuron.run(x)
    first, state = neuron.run(x[:3])
    assert {name: value.shape for name, value in state.items()} == dict.fromkeys(neuron.state, x[0].shape)
    second, state = neuron.run(x[3:], state)
    assert torch.equal(torch.cat([first, second]), whole)
    assert all(torch.equal(state[key], last[key]) for key in last)


def test_a_network_starts_from_the_same_weights_on_every_backend():
    made = {}
    for backend in ("native", "spikingjelly"):
        neuron = {"name": "psn", "T": 2, "backend": backend}
        network = step.models.create("spikformer", **SMALL, neuron=neuron, seed=3)
        made[backend] = {key: value for key, value in network.state_dict().items() if key.startswith("head")}
    assert made["native"]
    for key, value in made["native"].items():
        assert torch.equal(made["spikingjelly"][key], value)


def test_backend_is_an_option_where_there_is_one():
    backend = neurons.neurons.options("lif")["backend"]
    assert backend.default == "native"
    assert normalise("neuron", {"name": "lif", "backend": "snntorch"})["backend"] == "snntorch"
    assert "backend" not in neurons.neurons.options("alif")
    assert isinstance(neurons.create("lif", backend="native"), neurons.LIF)
    for options, words in (
        ({"name": "alif", "backend": "snntorch"}, "'alif' has no backend 'snntorch'; it runs on: native"),
        ({"name": "lif", "backend": "norse"}, "it runs on: native, spikingjelly, snntorch"),
        ({"name": "lif", "backend": "snntorch", "reset": "soft"}, "lif on snntorch has reset 'hard' and 'none'"),
        ({"name": "lif", "backend": "spikingjelly", "tau": 0.5}, "tau of lif"),
    ):
        name, *_ = options.values()
        with pytest.raises(OptionError, match=words):
            neurons.create(name, **{key: value for key, value in options.items() if key != "name"})
    with pytest.raises(SpecError, match="'alif' has no backend; it runs on: native"):
        normalise("neuron", {"name": "alif", "backend": "snntorch"})
