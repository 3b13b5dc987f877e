"""SpikeSim: the energy of a cycle, and whole networks against SpikingJelly's estimator."""

import importlib

import pytest
import torch
from torch import nn

import energy
from energy import Record
from energy.models.base import PARTS
from neurons.errors import OptionError


def conv(ci: int = 64, co: int = 64, kernel: str = "3x3", positions: int = 1, **columns: object) -> Record:
    return Record.from_layers(
        [
            {"layer": "conv", "kind": "conv", "operand": "binary", "dense": 1.0, "in_channels": ci, "out_channels": co,
             "kernel_size": kernel, "outputs": co * positions, **columns},
        ],
        T=1,
    )  # fmt: skip


def test_a_cycle_of_a_3x3_kernel_on_rram() -> None:
    row = energy.price(conv(), "spikesim").iloc[0]
    assert row["total"] == pytest.approx(828.4861, abs=5e-5)
    # What remains without arrays and neuron is the control of a patch.
    arrays = 8 * 9 * 1.76423
    assert row["total"] - row["neuron"] - arrays == pytest.approx(696.3656, abs=5e-5)


def test_sram_differs_by_its_arrays() -> None:
    rram, sram = (energy.price(conv(), "spikesim", device=d)["total"].sum() for d in ("rram", "sram"))
    assert sram - rram == pytest.approx(8 * 9 * (671.089 - 1.76423))


def test_crossbars_positions_and_steps() -> None:
    one = energy.price(conv(), "spikesim")["total"].sum()
    assert energy.price(conv(65, 200, positions=49), "spikesim")["total"].sum() == pytest.approx(one * 2 * 4 * 49)


def test_silence_saves_nothing() -> None:
    busy, silent = (energy.price(conv(effective=e), "spikesim")["total"].sum() for e in (1.0, 0.0))
    assert busy == silent > 0


@pytest.mark.parametrize(
    "columns", [{"kind": "linear"}, {"kernel": "3"}, {"kernel": "3x3x3"}, {"groups": 2}, {"module": "ConvTranspose2d"}]
)
def test_only_plain_two_dimensional_convolutions(columns: dict) -> None:
    row = energy.price(conv(**columns), "spikesim").iloc[0]
    assert not row["applicable"]
    assert row[list(PARTS)].isna().all()


@pytest.mark.parametrize("options", [{"device": "pcm"}, {"crossbar_size": 60}, {"crossbar_size": 0}])
def test_wrong_options(options: dict) -> None:
    with pytest.raises(OptionError):
        energy.price(conv(), "spikesim", **options)


@pytest.mark.parametrize("device", ["rram", "sram"])
@pytest.mark.parametrize("size", [64, 8])
def test_agrees_with_spikingjelly(device: str, size: int) -> None:
    peer = importlib.import_module("spikingjelly.activation_based.op_counter.spikesim")
    from spikingjelly.activation_based import functional, layer, neuron

    torch.manual_seed(0)
    network = nn.Sequential(
        layer.Conv2d(2, 12, 3, padding=1), neuron.IFNode(), layer.Conv2d(12, 20, 5, stride=2), neuron.LIFNode(),
        layer.Flatten(), layer.Linear(20 * 4, 3),
    ).eval()  # fmt: skip
    functional.set_step_mode(network, "m")
    x = torch.rand(4, 1, 2, 8, 8)
    ours = energy.price(energy.measure(network, x), "spikesim", device=device, crossbar_size=size).set_index("layer")
    functional.reset_net(network)
    config = peer.SpikeSimEnergyConfig(device=device, xbar_size=size)
    theirs = peer.estimate_spikesim_energy(network, x, config=config)
    assert theirs.energy_total_pj > 0
    assert ours["total"].sum() == pytest.approx(theirs.energy_total_pj)
    assert sorted(ours["total"].dropna()) == pytest.approx(sorted(theirs.energy_by_stage.values()))
