"""Every published threshold on one axis, and the number that it bounds."""

import pandas as pd
import pytest
import torch
from torch import nn

import energy
import neurons
from energy import Record
from energy.models.dampfhoffer import BAND
from energy.thresholds import network_spikes_per_synapse, spikes_per_synapse, thresholds
from neurons.errors import OptionError


def limits(T: int, **options: object) -> pd.Series:
    return thresholds(T, **options).set_index("name")["limit"]


@pytest.mark.parametrize(
    ("name", "limit"),
    [("fp32 MAC, fp32 AC", 5.11), ("int8 MAC, int8 AC", 7.67), ("int8 MAC, fp32 AC", 0.256),
     ("Davidson & Furber", 1.72), ("Dampfhoffer et al.", 1.38), ("quantised twin, T = 5", 0.285)],
)  # fmt: skip
def test_published_axis(name: str, limit: float) -> None:
    assert limits(5)[name] == pytest.approx(limit, abs=0.005)


def test_ratios_of_operations_follow_the_hardware() -> None:
    from energy.hardware import load

    dearer = load("45nm").scaled("fp32_mul", 2)
    assert limits(4, hardware=dearer)["fp32 MAC, fp32 AC"] == pytest.approx((2 * 3.7 + 0.9) / 0.9)


def test_bounds_of_a_step_grow_with_the_steps() -> None:
    for T in (5, 10):
        assert limits(T)["quantised twin, T = 5 to 10"] == pytest.approx(0.064 * T)
        assert limits(T)["dense dataflow pays above"] == pytest.approx(0.17 * T)
    assert "quantised twin, T = 5" not in limits(4).index  # published for five steps only


def test_compute_only_bound_needs_the_sparsity_of_the_twin() -> None:
    assert "compute only" not in limits(4).index
    assert limits(4, gamma=0.6)["compute only"] == pytest.approx(4.6 / 0.9 * 0.4)
    assert limits(4, gamma=0.6, k=2.5)["compute only"] == pytest.approx(1.0)
    with pytest.raises(OptionError, match="gamma"):
        thresholds(4, gamma=1.5)


def test_numbers_from_second_hand_are_marked() -> None:
    confirmed = thresholds(5, gamma=0.5).set_index("name")["confirmed"]
    assert confirmed[["fp32 MAC, fp32 AC", "Dampfhoffer et al.", "quantised twin, T = 5"]].all()
    assert not confirmed["Davidson & Furber"]
    assert not confirmed["dense dataflow pays above"]
    assert thresholds(5)["source"].str.len().min() > 10


def test_the_band_is_that_of_the_verdict() -> None:
    row = thresholds(4).set_index("name").loc["Dampfhoffer et al."]
    assert (row["lower"], row["limit"]) == BAND


def uneven() -> Record:
    """A large layer with few spikes and a small one with many."""
    return Record.from_layers(
        [
            {"layer": "large", "operand": "binary", "dense": 4 * 1e6, "effective": 0.1e6},
            {"layer": "small", "operand": "binary", "dense": 4 * 1e3, "effective": 3e3},
        ],
        T=4,
    )


def test_network_is_weighted_by_connections_not_the_mean_of_layers() -> None:
    record = uneven()
    table = spikes_per_synapse(record)
    assert list(table["spikes_per_synapse"]) == pytest.approx([0.1, 3.0])
    network = table.attrs["network"]
    assert network == pytest.approx(record.spikes_per_synapse)
    assert network == pytest.approx(0.1029, abs=1e-4)
    # The mean of the layers, 1.55, would be on the other side of three thresholds.
    mean = table["spikes_per_synapse"].mean()
    crossed = limits(4).between(network, mean)
    assert crossed.sum() >= 3
    assert crossed["Dampfhoffer et al."]


def test_rates_without_connections_are_refused() -> None:
    table = spikes_per_synapse(uneven())
    with pytest.raises(OptionError, match="the mean of rates"):
        network_spikes_per_synapse(table[["layer", "spikes_per_synapse"]])


def test_fully_connected_layer_has_rate_times_steps() -> None:
    T = 4
    spikes = (torch.rand(T, 5, 20, generator=torch.Generator().manual_seed(0)) > 0.7).float()
    record = energy.measure(nn.Sequential(nn.Linear(20, 8), neurons.IF(), nn.Linear(8, 3)), spikes)
    table = spikes_per_synapse(record).set_index("layer")
    assert table.loc["0", "spikes_per_synapse"] == pytest.approx(spikes.mean().item() * T)
    assert table.loc["2", "spikes_per_synapse"] == pytest.approx(record.firing_rates["1"] * T)


def test_real_layers_have_no_synapses_on_this_axis() -> None:
    record = Record.from_layers([{"operand": "real", "dense": 100.0}], T=4)
    table = spikes_per_synapse(record)
    assert len(table) == 0
    assert table.attrs["network"] != table.attrs["network"]
