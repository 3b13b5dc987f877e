"""What must hold for every registered neuron, and the equations of each."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import neurons
from neurons.errors import OptionError, ShapeError, UnknownNameError

OWN = [name for name in neurons.names() if neurons.neurons.get(name).__module__.startswith("neurons.")]
BINARY = [name for name in OWN if neurons.neurons.get(name).output == "binary"]
STREAMING = [name for name in OWN if neurons.neurons.get(name).streams]
FAMILY = ["if", "lif", "plif"]


def fitted(name, T=5, N=7):
    """Return a neuron that takes [T, B, N]: some must know T or N beforehand."""
    torch.manual_seed(0)
    sizes = {"T": T, "features": N}
    return neurons.create(name, **{key: sizes[key] for key in neurons.neurons.options(name) if key in sizes})


def current(T=5, B=3, N=7, seed=0, dtype=torch.float32):
    return torch.randn(T, B, N, generator=torch.Generator().manual_seed(seed), dtype=dtype) * 1.5 + 0.5


@pytest.mark.parametrize("name", OWN)
def test_output_has_shape_and_type_of_the_input(name):
    for dtype in (torch.float32, torch.float64):
        x = current(dtype=dtype)
        y = fitted(name).to(dtype)(x)
        assert y.shape == x.shape
        assert y.dtype == dtype


def precision(neuron):
    """Return type and tolerance: a product over more rows may round otherwise, and rounding may decide on a spike."""
    return (torch.float64, 1e-9) if neuron.counted_inside else (torch.float32, 0.0)


@pytest.mark.parametrize("name", STREAMING)
@given(split=st.integers(1, 7), seed=st.integers(0, 100))
@settings(max_examples=10, deadline=None)
def test_streaming_in_two_parts_equals_the_whole(name, split, seed):
    neuron = fitted(name, T=8)
    dtype, near = precision(neuron)
    neuron, x = neuron.to(dtype), current(T=8, seed=seed, dtype=dtype)
    whole, last = neuron.run(x)
    first, state = neuron.run(x[:split])
    second, state = neuron.run(x[split:], state)
    torch.testing.assert_close(torch.cat([first, second]), whole, rtol=near, atol=near)
    for key in last:
        torch.testing.assert_close(state[key], last[key], rtol=near, atol=near)


@pytest.mark.parametrize("name", OWN)
@given(seed=st.integers(0, 100))
@settings(max_examples=10, deadline=None)
def test_a_sample_depends_neither_on_its_batch_mates_nor_on_what_ran_before(name, seed):
    neuron = fitted(name)
    dtype, near = precision(neuron)
    neuron, x = neuron.to(dtype), current(seed=seed, dtype=dtype)
    alone = neuron(x[:, :1])
    neuron(current(seed=seed + 1, dtype=dtype) * 10)
    torch.testing.assert_close(neuron(x)[:, :1], alone, rtol=near, atol=near)


@pytest.mark.parametrize("name", OWN)
def test_gradient_reaches_input_and_every_parameter(name):
    neuron, x = fitted(name), current().requires_grad_()
    neuron(x).square().sum().backward()
    assert x.grad.abs().sum() > 0
    for parameter in neuron.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


@pytest.mark.parametrize("name", BINARY)
def test_spikes_are_zero_or_one(name):
    T = 20 if name in STREAMING else 5  # weights over time start smaller the more steps they mix
    assert set(fitted(name, T)(current(T)).unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("name", OWN)
def test_every_operation_of_an_update_has_a_kind(name):
    cost = neurons.update_cost(neurons.create(name))
    assert bool(cost) == (name != "identity")  # the only one whose update is free
    assert not [kind for kind in cost if kind.startswith("other:")]


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("reset", ["hard", "soft", "none"])
def test_charge_fire_reset_follow_the_equations(name, reset):
    """A restatement of the three neurons in plain Python floats."""
    tau, threshold = 2.5, 0.8
    options = {} if name == "if" else {"tau": tau}
    neuron = neurons.create(name, threshold=threshold, reset=reset, **options).double()
    x = current(T=12, B=1, N=1, dtype=torch.float64)
    v, expected = 0.0, []
    for x_t in x.flatten().tolist():
        v = v + x_t if name == "if" else v + (x_t - v) / tau
        s = float(v >= threshold)
        v = {"hard": v * (1 - s), "soft": v - s * threshold, "none": v}[reset]
        expected.append(s)
    spikes, state = neuron.run(x)
    assert spikes.flatten().tolist() == expected
    assert state["v"].item() == pytest.approx(v, rel=1e-6)  # plif keeps tau in float32 until .double()


def test_reset_is_hidden_from_the_gradient_only_when_asked():
    x = torch.tensor([1.2, 0.3]).view(2, 1, 1)
    gradients = {}
    for detach in (True, False):
        leaf = x.clone().requires_grad_()
        neurons.LIF(threshold=0.5, detach_reset=detach)(leaf)[1].sum().backward()
        gradients[detach] = leaf.grad[0].item()
    assert gradients[True] == 0.0  # the first step fired: a hard, detached reset cuts its influence
    assert gradients[False] != 0.0


def test_plif_starts_at_the_time_constant_asked_for():
    assert torch.sigmoid(neurons.PLIF(tau=3.0).w).item() == pytest.approx(1 / 3)


def test_relu_and_quantised_relu():
    x = torch.tensor([[-1.0, 0.3, 0.9, 50.0]])
    assert neurons.ReLU()(x[None])[0].tolist() == x.clamp(min=0).tolist()
    neuron = neurons.QuantisedReLU(bits=2)
    with torch.no_grad():
        neuron.step_size.fill_(0.5)
    assert neuron(x[None])[0, 0].tolist() == [0.0, 0.5, 1.0, 1.5]  # 0.3/0.5 rounds to 1, 0.9/0.5 to 2, 50 is cut at 3


def test_quantised_relu_gradients_are_those_of_lsq():
    """Esser et al. 2020: dy/dstep is round(x/d) - x/d inside, the top level above, 0 below, times the scale."""
    x = torch.tensor([-0.4, 0.3, 0.9, 5.0], dtype=torch.float64).view(1, 1, 4).requires_grad_()
    neuron = neurons.QuantisedReLU(bits=2).double()
    with torch.no_grad():
        neuron.step_size.fill_(0.5)
    neuron(x).sum().backward()
    assert x.grad.flatten().tolist() == [0, 1, 1, 0]
    expected = (0 + (1 - 0.6) + (2 - 1.8) + 3) / math.sqrt(4 * 3)
    assert neuron.step_size.grad.item() == pytest.approx(expected)


def test_quantised_relu_has_two_to_the_bits_levels():
    values = neurons.QuantisedReLU(bits=3)(torch.linspace(-5, 50, 500).view(1, 1, -1)).unique()
    assert len(values) == 8


def test_quantised_keeps_the_sign():
    """Codes from -2^(bits-1) to 2^(bits-1) - 1; 2 E|x| / sqrt(high) is the first step size, as in LSQ."""
    neuron = neurons.Quantised(bits=3, magnitude=0.6)
    assert neuron.step_size.item() == pytest.approx(2 * 0.6 / math.sqrt(3))
    with torch.no_grad():
        neuron.step_size.fill_(0.5)
    x = torch.tensor([[-9.0, -0.3, 0.1, 0.9, 9.0]])
    assert neuron(x[None])[0, 0].tolist() == [-2.0, -0.5, 0.0, 1.0, 1.5]
    assert len(neuron(torch.linspace(-50, 50, 999).view(1, 1, -1)).unique()) == 8


def test_quantised_gradients_are_those_of_lsq():
    x = torch.tensor([-5.0, -0.3, 0.9, 5.0], dtype=torch.float64).view(1, 1, 4).requires_grad_()
    neuron = neurons.Quantised(bits=3).double()
    with torch.no_grad():
        neuron.step_size.fill_(0.5)
    neuron(x).sum().backward()
    assert x.grad.flatten().tolist() == [0, 1, 1, 0]
    expected = (-4 + (-1 + 0.6) + (2 - 1.8) + 3) / math.sqrt(4 * 3)
    assert neuron.step_size.grad.item() == pytest.approx(expected)


@pytest.mark.parametrize("name", OWN)
def test_the_order_in_memory_does_not_matter(name):
    neuron = fitted(name, 4, 5)
    plain = torch.randn(4, 2, 3, 5, 5, generator=torch.Generator().manual_seed(0)) * 1.5 + 0.5
    last = plain.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, (4, 2))
    results = []
    for x in (plain.clone(), last.clone(memory_format=torch.preserve_format)):
        x.requires_grad_()
        y, state = neuron.run(x)
        assert torch.equal(neuron(x), y)
        y.square().sum().backward()
        results.append([y.detach(), x.grad, *(state[key].detach() for key in sorted(state))])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_channels_last_maps_stay_channels_last():
    x = torch.randn(6, 4, 5, 5).to(memory_format=torch.channels_last).unflatten(0, (3, 2))
    assert neurons.LIF()(x).flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


def test_update_cost_is_read_off_the_step():
    # lif, hard reset: x - v, / tau, v + .. ; h - threshold, compare ; 1 - s, v * ..
    assert neurons.update_cost(neurons.LIF()) == {"add": 4, "mul": 2, "cmp": 1}
    assert neurons.update_cost(neurons.LIF(reset="none")) == {"add": 3, "mul": 1, "cmp": 1}
    assert neurons.update_cost(neurons.IF(reset="none")) == {"add": 2, "cmp": 1}
    assert neurons.update_cost(neurons.ReLU()) == {"cmp": 1}
    # the sigmoid of plif's parameter is done once for a layer, not for each neuron
    assert neurons.update_cost(neurons.PLIF()) == neurons.update_cost(neurons.LIF())


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("lif", {"tau": 1.0}, "tau"),
        ("lif", {"tua": 2.0}, "did you mean 'tau'"),
        ("lif", {"threshold": 0.0}, "threshold must be positive"),
        ("lif", {"reset": "weak"}, "'hard', 'soft' or 'none'"),
        ("lif", {"surrogate": {"alpha": 2.0}}, "a mapping with a name"),
        ("quantised_relu", {"bits": 0}, "bits"),
        ("quantised_relu", {"magnitude": 0.0}, "magnitude of quantised_relu must be positive"),
        ("quantised", {"bits": 1}, "one of them the sign"),
    ],
)
def test_wrong_options_are_refused(name, options, words):
    with pytest.raises(OptionError, match=words):
        neurons.create(name, **options)


def test_unknown_names_are_answered_with_near_ones():
    with pytest.raises(UnknownNameError, match="did you mean 'lif'"):
        neurons.create("liff")


@pytest.mark.parametrize("x", [torch.ones(3), torch.ones(0, 2, 3), torch.ones(2, 3, dtype=torch.long)])
def test_wrong_input_is_refused(x):
    with pytest.raises(ShapeError, match=r"\[T, B, ...\]"):
        neurons.LIF()(x)


def test_wrong_state_is_refused():
    with pytest.raises(ShapeError, match="must have the shape"):
        neurons.LIF().run(torch.ones(2, 3, 4), {"v": torch.zeros(2, 4)})
    with pytest.raises(ShapeError, match="has the state"):
        neurons.LIF().run(torch.ones(2, 3, 4), {"u": torch.zeros(3, 4)})


def test_factory_scales_thresholds_where_there_are_any():
    assert neurons.factory("lif", threshold=2.0)(threshold_scale=0.5).threshold == 1.0
    assert neurons.factory("lif")(threshold_scale=0.5).threshold == 0.5
    assert isinstance(neurons.factory("relu")(threshold_scale=0.5), neurons.ReLU)
    first, second = neurons.factory("plif")(), neurons.factory("plif")()
    assert first.w is not second.w


def test_a_neuron_of_ones_own():
    """Ten lines, options passed on to the base class, and everything else follows."""

    class Mine(neurons.SpikingNeuron):
        """Leak by a constant."""

        state = {"v": 0.0}

        def __init__(self, leak=0.1, **options):
            super().__init__(**options)
            self.leak = leak

        def step(self, x, v):
            h = v + x - self.leak
            s = self.spike(h - self.threshold)
            return s, self.reset(h, s)

    neurons.register("test-constant-leak")(Mine)
    mine = neurons.create("test-constant-leak", leak=0.2, threshold=0.5)
    assert mine(torch.full((2, 1, 1), 0.4)).flatten().tolist() == [0.0, 0.0]
    assert mine(torch.full((3, 1, 1), 0.4)).flatten().tolist() == [0.0, 0.0, 1.0]
    assert neurons.describe("test-constant-leak") == "Leak by a constant."
    with pytest.raises(OptionError, match="already registered"):
        neurons.register("test-constant-leak")(neurons.LIF)


@pytest.mark.parametrize("name", FAMILY)
def test_spikes_and_gradients_equal_spikingjelly(name):
    from spikingjelly.activation_based import functional, neuron, surrogate

    for reset, v_reset in (("hard", 0.0), ("soft", None)):
        kind = {"if": neuron.IFNode, "lif": neuron.LIFNode, "plif": neuron.ParametricLIFNode}[name]
        options = {} if name == "if" else {"tau": 2.0} if name == "lif" else {"init_tau": 2.0}
        theirs = kind(
            v_threshold=1.0, v_reset=v_reset, surrogate_function=surrogate.ATan(2.0), detach_reset=True, step_mode="m",
            **options,
        )  # fmt: skip
        ours = neurons.create(name, reset=reset)
        x = current(T=10, B=4, N=50)
        x_ours, x_theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
        functional.reset_net(theirs)
        y_ours, y_theirs = ours(x_ours), theirs(x_theirs)
        weight = torch.randn_like(x)
        (y_ours * weight).sum().backward()
        (y_theirs * weight).sum().backward()
        assert torch.equal(y_ours, y_theirs)
        torch.testing.assert_close(x_ours.grad, x_theirs.grad, rtol=1e-5, atol=1e-6)
