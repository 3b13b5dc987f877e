"""The record: built by hand, saved and loaded, summed up."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

import energy
import neurons
from energy import Record
from neurons.errors import DataError, OptionError


def test_saved_and_loaded(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(32, 3), neurons.LIF())
    record = energy.measure(network, torch.rand(4, 1, 6, 6), data="random numbers")
    again = Record.load(record.save(tmp_path / "record"))
    for name, frame in record.to_frames().items():
        pd.testing.assert_frame_equal(frame, again.to_frames()[name])
    assert again.provenance == record.provenance
    assert again.provenance["data"] == "random numbers"
    json.dumps(record.provenance)
    pd.testing.assert_frame_equal(energy.price(record, "step"), energy.price(again, "step"))


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no readable operation record"):
        Record.load(tmp_path)


def test_a_record_without_time_steps() -> None:
    frames = Record.from_layers([{"operand": "real", "dense": 10}], T=1).to_frames()
    with pytest.raises(DataError, match="T >= 1"):
        Record(frames, {})


def test_a_table_that_lacks_a_column() -> None:
    frames = Record.from_layers([{"operand": "real", "dense": 10}], T=1).to_frames()
    frames["operations"] = frames["operations"].drop(columns="exact")
    with pytest.raises(DataError, match=r"'operations'.*exact"):
        Record(frames, {"T": 1})


def test_by_hand() -> None:
    record = Record.from_layers(
        [
            {"layer": "fc", "operand": "binary", "dense": 400.0, "effective": 40.0, "weights": 100},
            {"layer": "lif", "kind": "neuron", "updates": 40.0, "nonzero_outputs": 4.0, "ops": {"add": 2}},
        ],
        T=4,
    )
    assert record.T == 4
    assert record.synaptic_events() == 40
    assert record.spikes_per_synapse == pytest.approx(0.4)
    assert record.spikes == 4
    assert record.firing_rates.to_dict() == {"lif": 0.1}
    summary = record.summary()
    assert (summary["dense_macs"], summary["macs"], summary["neuron_updates"]) == (400, 0, 40)
    assert "40 synaptic events" in repr(record)


@pytest.mark.parametrize(
    ("layer", "message"),
    [({"dense": 1.0}, "operand"), ({"operand": "real"}, "dense"), ({"operand": "analogue", "dense": 1.0}, "one of"),
     ({"operand": "real", "dense": 1.0, "wieghts": 3}, "weights"), ({"kind": "neuron"}, "updates")],
)  # fmt: skip
def test_by_hand_with_mistakes(layer: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Record.from_layers([layer], T=1)


def test_rates_and_spikes_of_a_measured_network() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(10, 20), neurons.LIF(), nn.Linear(20, 5), neurons.ReLU())
    x = torch.rand(4, 3, 10) * 8
    record = energy.measure(network, x)
    with torch.no_grad():
        s = network[:2](x)
    assert s.sum() > 0
    assert record.spikes == pytest.approx(s.sum().item() / 3)  # the ReLU sends no spikes
    assert record.firing_rates.to_dict() == {"1": pytest.approx(s.mean().item())}
    assert record.synaptic_events() == pytest.approx(s.sum().item() * 5 / 3)
    assert record.layers.set_index("layer").loc["2", "weight_uses"] == pytest.approx(s.sum().item() * 5 / 3 / 100)


def test_a_leaky_integrator_sends_no_spikes() -> None:
    network = nn.Sequential(nn.Linear(4, 3), neurons.LIF(), nn.Linear(3, 2), neurons.LeakyIntegrator())
    record = energy.measure(network, torch.rand(5, 2, 4) * 3)
    assert len(record.spiking) == 1
    assert record.spiking["neuron"].tolist() == ["lif"]
