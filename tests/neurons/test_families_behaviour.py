"""The neurons of the literature against other libraries, and their known behaviour."""

import importlib
import math

import pytest
import torch

import neurons
from neurons import compiler

RESETS = ["hard", "soft", "none"]


def current(T=50, B=1, N=4, seed=0, mean=0.5, scale=1.5, dtype=torch.float64):
    return mean + scale * torch.randn(T, B, N, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def compare(ours, theirs, x, state=None):
    """Equal spikes, gradients equal to 1e-5; ``theirs`` maps [T, B, N] to spikes."""
    x_ours, x_theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    y_ours, y_theirs = ours.run(x_ours, state)[0], theirs(x_theirs)
    weight = current(*x.shape, seed=9, mean=0.0, dtype=x.dtype)
    (y_ours * weight).sum().backward()
    (y_theirs * weight).sum().backward()
    assert 0 < y_ours.mean() < 1
    assert torch.equal(y_ours, y_theirs)
    torch.testing.assert_close(x_ours.grad, x_theirs.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["klif", "eif", "qif", "cuba", "izhikevich"])
def test_spikes_and_gradients_equal_spikingjelly(name):
    importlib.import_module("spikingjelly.activation_based")
    from spikingjelly.activation_based import neuron, surrogate

    x, state = current(T=30, B=2, N=20), None
    common = {"surrogate_function": surrogate.ATan(2.0)}
    trained = {**common, "detach_reset": True, "step_mode": "m"}
    if name == "klif":
        ours, theirs = neurons.KLIF(), neuron.KLIFNode(tau=2.0, **trained)
    elif name in ("eif", "qif"):  # they start at the reset potential, we at rest
        ours, theirs = neurons.create(name), {"eif": neuron.EIFNode, "qif": neuron.QIFNode}[name](**trained)
        state = {"v": torch.full_like(x[0], -0.1)}
    elif name == "cuba":
        ours, theirs = neurons.CUBA(threshold=0.5), neuron.CUBALIFNode(**common)
        theirs.step_mode, theirs.detach_reset = "m", True
    else:
        # Theirs is v + (x + a0 (v - v_rest)(v - v_c) - w) / tau: the same parabola by its roots, and w = u - b v_rest.
        root = math.sqrt(25 - 4 * 0.04 * 140)
        rest, critical = (-5 - root) / 0.08, (-5 + root) / 0.08
        ours = neurons.Izhikevich(
            dt=0.5, steps=1, gain=1.0, v_floor=-math.inf, surrogate={"name": "arctan", "alpha": 2.0}
        )
        theirs = neuron.IzhikevichNode(
            tau=2.0, v_c=critical, a0=0.04, v_threshold=30.0, v_reset=-65.0, v_rest=rest, w_rest=-13.0 - 0.2 * rest,
            tau_w=1 / (0.5 * 0.02), a=0.2, b=8.0, **trained,
        )  # fmt: skip
        x = 20 * current(T=60, B=2, N=20)
        compare(ours, lambda leaf: theirs(leaf - 0.2 * rest), x)
        return
    ours.double(), theirs.double()
    compare(ours, theirs, x, state)


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("name", ["cuba", "cuba at once", "alpha", "lapicque"])
def test_spikes_equal_snntorch(name, reset):
    snntorch = importlib.import_module("snntorch")
    word = {"hard": "zero", "soft": "subtract", "none": "none"}[reset]
    # Currents so small that the potential stays below twice the threshold: above, snnTorch's soft reset at once
    # takes the threshold away a second time in the next step.
    mean, scale = (0.08, 0.15) if name == "cuba at once" else (0.1, 0.3)
    x = current(T=40, B=2, N=20, mean=mean, scale=scale, dtype=torch.float32)
    if name.startswith("cuba"):
        delay = name == "cuba"
        ours = neurons.CUBA(0.6, 0.7, reset=reset, reset_delay=delay)
        theirs = snntorch.Synaptic(0.6, 0.7, reset_mechanism=word, reset_delay=delay)
        state = theirs.reset_mem()
    elif name == "alpha":
        ours, theirs = neurons.Alpha(0.9, 0.8, reset=reset), snntorch.Alpha(0.9, 0.8, reset_mechanism=word)
        state = theirs.reset_mem()
    else:
        ours = neurons.Lapicque(r=5.0, c=1.0, reset=reset, reset_delay=True)
        theirs = snntorch.Lapicque(R=5.0, C=1.0, reset_mechanism=word)
        state = (theirs.reset_mem(),)
    state, spikes = tuple(torch.zeros_like(x[0]) for _ in state), []
    for x_t in x:
        s, *state = theirs(x_t, *state)
        spikes.append(s)
    output, last = ours.run(x)
    assert 0 < output.mean() < 1
    assert torch.equal(output, torch.stack(spikes))
    torch.testing.assert_close(last["v"], state[-1], rtol=1e-4, atol=1e-5)


STEADY = {
    "klif": 2.0, "eif": 2.0, "qif": 2.0, "cuba": 0.5, "alpha": 0.5, "lapicque": 0.5, "tc-lif": 1.0, "alif": 0.5,
    "izhikevich": 2.0, "hodgkin-huxley": 2.0, "conductance-lif": 0.8,
}  # fmt: skip


@pytest.mark.parametrize("name", STEADY)
def test_more_current_never_means_fewer_spikes(name):
    """The f-I curve rises, up to one spike at the edge of the window, and ends above where it began."""
    levels = torch.linspace(0, STEADY[name], 9).view(1, 1, -1).expand(200, 1, 9)
    counts = neurons.create(name)(levels).sum(0).flatten()
    assert (counts.diff() >= -1).all()
    assert counts[-1] > counts[0]


def test_alif_adapts():
    x = torch.full((200, 1, 1), 0.3)
    gaps = neurons.ALIF(tau=5.0, tau_adaptation=50.0, threshold=0.05)(x).flatten().nonzero().flatten().diff()
    assert gaps[-1] >= 2 * gaps[0]
    steady = neurons.ALIF(tau=5.0, beta=0.0, threshold=0.05)(x).flatten().nonzero().flatten().diff()
    assert steady.max() - steady.min() <= 1


@pytest.mark.parametrize("name", ["resonate-and-fire", "harmonic-resonate-and-fire"])
def test_a_resonator_prefers_its_frequency(name):
    """Sine currents of the same size: the largest swing without spikes is at omega."""
    frequencies = torch.tensor([5.0, 10.0, 20.0, 40.0, 60.0])
    t = torch.arange(800).view(-1, 1, 1) * 0.002
    drive = torch.sin(frequencies * t)
    neuron = neurons.create(name, omega=20.0, damping=1.0, dt=0.002, gain=1.0, threshold=100.0)
    swings, state = [], neuron.resting_state(drive)
    for x_t in drive:
        _, state = neuron.run(x_t[None], state)
        swings.append(state["u"])
    assert torch.stack(swings)[400:].abs().amax(0).argmax() == 2
    spikes = neurons.create(name, omega=20.0, damping=1.0, dt=0.002, gain=5.0)(drive).sum(0).flatten()
    assert spikes[2] > 0
    assert spikes.argmax() == 2


def test_a_layer_of_resonators_may_have_a_frequency_for_each_neuron():
    neuron = neurons.ResonateAndFire(omega=[5.0, 10.0, 20.0], damping=[1.0, 2.0, 3.0])
    assert compiler.why_not(neuron, torch.zeros(4, 2, 3)) is None
    x = current(T=30, B=2, N=3, dtype=torch.float32)
    for column, omega in enumerate([5.0, 10.0, 20.0]):
        alone = neurons.ResonateAndFire(omega=omega, damping=column + 1.0)
        assert torch.equal(neuron(x)[..., column], alone(x[..., column : column + 1])[..., 0])


def test_hodgkin_huxley_fires_periodically_above_the_rheobase_only():
    levels = torch.tensor([0.0, 2.0, 10.0, 20.0], dtype=torch.float64)
    neuron = neurons.HodgkinHuxley(gain=1.0, dt=0.1, steps=4)
    spikes = neuron(levels.expand(3000, 1, 4))[:, 0]
    assert spikes[:, :2].sum() == 0
    for column in (2, 3):
        gaps = spikes[:, column].nonzero().flatten().diff()[2:]
        assert len(gaps) > 10
        assert gaps.max() - gaps.min() <= 1
    # about 68 spikes/s at 10 uA/cm^2: a period near 14.6 ms
    assert 13.6 < spikes[:, 2].nonzero().flatten().diff()[2:].double().mean() * 0.1 < 15.6


def test_hodgkin_huxley_rests_without_input_and_survives_the_poles_of_its_rates():
    neuron = neurons.HodgkinHuxley().double()
    _, state = neuron.run(torch.zeros(100, 1, 1, dtype=torch.float64))
    assert state["v"].item() == pytest.approx(-65, abs=0.02)
    for v in (-40.0, -55.0):
        start = neuron.resting_state(torch.zeros(1, 1, 1, dtype=torch.float64))
        leaf = torch.full((1, 1), v, dtype=torch.float64, requires_grad=True)
        last = neuron.run(torch.zeros(1, 1, 1, dtype=torch.float64), {**start, "v": leaf})[1]["v"]
        last.sum().backward()
        near = neuron.run(torch.zeros(1, 1, 1, dtype=torch.float64), {**start, "v": leaf.detach() + 1e-3})[1]["v"]
        assert last.item() == pytest.approx(near.item(), abs=0.02)
        assert torch.isfinite(leaf.grad).all()


def test_a_regular_spiking_cell_adapts_and_a_fast_spiking_one_does_not():
    """Izhikevich 2003: regular spiking is (0.02, 0.2, -65, 8), fast spiking (0.1, 0.2, -65, 2)."""
    x = torch.full((600, 1, 1), 10.0)
    regular = neurons.Izhikevich(gain=1.0)(x).flatten().nonzero().flatten().diff()
    fast = neurons.Izhikevich(a=0.1, d=2.0, gain=1.0)(x).flatten().nonzero().flatten().diff()
    assert regular[-1] > 1.5 * regular[0]
    assert fast.float().mean() < 0.5 * regular.float().mean()
    assert neurons.Izhikevich()(torch.zeros(200, 1, 1)).sum() == 0


def test_conductance_lif_inhibition_refractoriness_and_threshold():
    x = torch.full((400, 1, 1), 4.0)
    spikes, state = neurons.ConductanceLIF(refractory=5.0).run(x)
    gaps = spikes.flatten().nonzero().flatten().diff()
    assert gaps.min() >= 10  # 5 ms of 0.5 ms
    assert state["theta"].item() == pytest.approx(20 + 0.05 * spikes.sum().item(), abs=0.01)
    _, state = neurons.ConductanceLIF().run(-x)
    assert -100 < state["v"].item() < -65
    assert neurons.ConductanceLIF(refractory=50.0)(x).sum() <= 4


def test_gelu_is_torchs():
    x = current(T=3, dtype=torch.float32)
    torch.testing.assert_close(neurons.GELU()(x), torch.nn.functional.gelu(x))
