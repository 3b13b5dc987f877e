"""NeuroMC: prices by hand, and whole networks against SpikingJelly's estimator."""

import importlib

import pytest
import torch
from torch import nn

import energy
import neurons
from energy import Record, hardware
from neurons.errors import OptionError


def fc(operand: str) -> Record:
    """20 inputs to 3 outputs in 2 steps: two chunks of input channels."""
    return Record.from_layers(
        [
            {"layer": "fc", "operand": operand, "dense": 120.0, "effective": 7.0, "in_channels": 20, "out_channels": 3,
             "outputs": 6.0, "weights": 60},
            {"layer": "lif", "kind": "neuron", "updates": 6.0, "neuron": "lif"},
        ],
        T=2,
    )  # fmt: skip


def test_published_prices_of_an_operation() -> None:
    found = {o: energy.price(fc(o), "neuromc").loc[0, "compute"] / 120 for o in ("binary", "real")}
    assert found == pytest.approx({"binary": 0.58225, "real": 1.36})


def test_published_prices_of_a_memory() -> None:
    h = hardware.load("neuromc-32nm")
    found = [h[name] for name in ("register_1", "register_16", "register_32")]
    assert found == pytest.approx([0.00254, 0.0406, 0.0812], rel=2e-3)
    assert h["mux"] == h["add"] / 16


def test_a_layer_by_hand() -> None:
    row = energy.price(fc("binary"), "neuromc").iloc[0]
    r1, r16, weight, sums, spikes = 0.0025380282, 0.0406084507, 5.302477904, 5.792676768, 0.44854798
    assert row["memory_weight"] == pytest.approx(60 * (2 * r16 + weight))
    assert row["memory_activation"] == pytest.approx(2 * 120 * r1 + 12 * spikes)
    assert row["memory_partial_sum"] == pytest.approx((120 + 120 + 114 + 6) * r16 + (12 + 6) * sums)


def test_a_neuron_by_hand() -> None:
    row = energy.price(fc("binary"), "neuromc").iloc[1]
    assert row["neuron"] == pytest.approx(6 * (0.03425 + 0.548 + 0.812 + 3 * 0.056))
    assert row["memory_state"] == pytest.approx(6 * 2 * (0.0406084507 + 92.68282828 / 16))
    assert row["memory_activation"] == pytest.approx(6 * 3 * (0.0025380282 + 7.176767677 / 16))


def test_out_of_scope() -> None:
    class Attention(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ x.transpose(-1, -2)

    network = nn.Sequential(nn.Linear(4, 4), neurons.ReLU(), Attention())
    table = energy.price(energy.measure(network, torch.rand(1, 2, 3, 4)), "neuromc")
    assert list(table["applicable"]) == [True, False, False]


def test_only_inference_is_priced() -> None:
    with pytest.raises(OptionError, match="stage is 'inference'"):
        energy.price(fc("binary"), "neuromc", stage="backward")


def networks() -> dict[str, nn.Module]:
    from spikingjelly.activation_based import layer, neuron

    return {
        "convolutional": nn.Sequential(
            layer.Conv2d(2, 12, 3, padding=1), neuron.IFNode(), layer.Conv2d(12, 20, 5, stride=2, bias=False),
            neuron.LIFNode(tau=2.0), layer.Flatten(), layer.Linear(20 * 4, 40), neuron.LIFNode(tau=2.0),
            layer.Linear(40, 3),
        ),
        "one-dimensional": nn.Sequential(layer.Conv1d(18, 6, 3, padding=1, bias=False), neuron.IFNode()),
    }  # fmt: skip


@pytest.mark.parametrize(("name", "shape"), [("convolutional", (4, 1, 2, 8, 8)), ("one-dimensional", (3, 1, 18, 9))])
@pytest.mark.parametrize("spikes", [True, False], ids=["spikes", "real"])
def test_agrees_with_spikingjelly(name: str, shape: tuple[int, ...], spikes: bool) -> None:
    peer = importlib.import_module("spikingjelly.activation_based.op_counter.neuromc")
    from spikingjelly.activation_based import functional

    torch.manual_seed(0)
    network = networks()[name].eval()
    functional.set_step_mode(network, "m")
    # Modules alone are compared: what their estimator sees below modules it would count a second time.
    x = (torch.rand(shape) > 0.5).float() if spikes else torch.rand(shape)
    ours = energy.price(energy.measure(network, x), "neuromc")
    functional.reset_net(network)
    with torch.no_grad():
        theirs = peer.estimate_neuromc_runtime_energy(network, x)
    assert ours["total"].sum() == pytest.approx(theirs.energy_total_pj, rel=1e-6)
    assert ours["compute"].sum() == pytest.approx(theirs.energy_mac_pj)
    assert ours["neuron"].sum() == pytest.approx(theirs.energy_extra_compute_pj)
