"""HD-LIF against a restatement in plain numbers, and neurons that must know the sizes of their layer."""

from __future__ import annotations

import math

import pytest
import torch

import energy
import neurons
import step
from neurons.errors import ShapeError
from step.spec import Spec, SpecError

TAU, THRESHOLD, LEVEL = 2.5, 0.5, 0.2


def restated(neuron: neurons.HDLIF, x: torch.Tensor, training: bool) -> torch.Tensor:
    """One token at a time, in Python floats."""
    T, batch, channels = x.shape
    out = torch.zeros_like(x)
    weight, bias = neuron.weight.tolist(), neuron.bias.tolist()
    for b in range(batch):
        flat = [x[t, b, c].item() for t in range(T) for c in range(channels)]
        scores = [sum(w * v for w, v in zip(row, flat, strict=True)) + o for row, o in zip(weight, bias, strict=True)]
        gates = [math.exp(score) / sum(math.exp(other) for other in scores) for score in scores]
        if not training:
            kept = sorted(gates)[-2:]
            gates = [g / sum(kept) if g in kept else 0.0 for g in gates]
        for c in range(channels):
            v = [0.0] * 4
            for t in range(T):
                i, vote = x[t, b, c].item(), 0.0
                charged = [
                    v[0] + i,
                    v[1] + (i - v[1]) / TAU,
                    v[2] + (i - v[2]) / TAU,  # a plif starts as a lif
                    v[3] + (i - v[3] + math.exp(v[3] - 0.8)) / TAU,
                ]
                for e, h in enumerate(charged):
                    fired = h >= THRESHOLD
                    v[e] = (-0.1 if e == 3 else 0.0) if fired else h
                    vote += gates[e] * (THRESHOLD if fired else v[e])
                out[t, b, c] = float(vote >= LEVEL)
    return out


@pytest.mark.parametrize("training", [True, False])
def test_hd_lif_is_the_vote_of_its_experts(training: bool) -> None:
    torch.manual_seed(0)
    neuron = neurons.HDLIF(features=3, T=5, tau=TAU).double().train(training)
    x = torch.randn(5, 4, 3, dtype=torch.float64) * 0.6 + 0.2
    spikes = neuron(x)
    assert torch.equal(spikes, restated(neuron, x, training))
    assert 0.1 < spikes.mean() < 0.9


def test_hd_lif_is_silent_where_the_input_is_and_no_expert_fires_by_itself() -> None:
    neuron = neurons.HDLIF(features=3)
    with torch.no_grad():
        neuron.bias[3] = -100.0  # an EIF creeps up to its threshold without input
    assert not neuron(torch.zeros(4, 2, 3)).any()


@pytest.mark.parametrize("name", ["hd-lif", "dense-recurrent-lif"])
def test_channels_may_lie_on_any_axis(name: str) -> None:
    torch.manual_seed(0)
    last, maps = neurons.create(name, features=3), neurons.create(name, features=3, axis=-3)
    maps.load_state_dict(last.state_dict())
    x = torch.randn(4, 2, 5, 6, 3) + 0.5
    assert torch.equal(last(x), maps(x.movedim(-1, -3)).movedim(-3, -1))
    with pytest.raises(ShapeError, match="features"):
        maps(x)


def test_networks_tell_neurons_their_width() -> None:
    for name in ("hd-lif", "dense-recurrent-lif"):
        for model, options in {"mlp": {"hidden": (12, 7)}, "cnn": {"widths": (4, 6)}}.items():
            network = step.models.create(model, image_size=8, neuron=name, **options)
            network(torch.rand(4, 2, 1, 8, 8)).sum().backward()
            found = [m for m in network.modules() if isinstance(m, neurons.neurons.get(name))]  # type: ignore[arg-type]
            assert [m.features for m in found] == list(*options.values())
            assert all(m.weight.grad is not None for m in found)


def test_every_neuron_can_stand_behind_a_convolution() -> None:
    x = torch.rand(4, 2, 1, 8, 8)
    for name in neurons.names():
        network = step.models.create("cnn", image_size=8, widths=(4,), neuron=name)
        given = x[:1] if network.neuron.conventional else x
        record = energy.measure(network, given)
        assert record.layers["neurons"].sum() == 4 * 8 * 8, name


def test_a_spec_gives_neurons_the_steps_of_the_encoder() -> None:
    given = {"dataset": "digits", "model": "mlp", "encoder": {"name": "direct", "T": 6}}
    assert Spec.parse({**given, "neuron": "psn"}).neuron["T"] == 6
    assert Spec.parse({**given, "neuron": {"name": "hd-lif", "T": 6}}).neuron["T"] == 6
    with pytest.raises(SpecError, match=r"neuron.T: 5 time steps, where the encoder has 6"):
        Spec.parse({**given, "neuron": {"name": "psn", "T": 5}})
