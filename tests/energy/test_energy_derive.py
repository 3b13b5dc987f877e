"""Records derived from a record: twins without time, and the same network firing at another rate."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import energy
import neurons
from energy.derive import largest_activity, twin, twin_bits, with_activity
from neurons.errors import DataError, OptionError

T, B = 3, 4


def network(neuron: str = "if") -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(20, 40), neurons.create(neuron), nn.Linear(40, 40), neurons.create(neuron), nn.Linear(40, 5)
    )


def inputs() -> torch.Tensor:
    return torch.rand(T, B, 20, generator=torch.Generator().manual_seed(1)) * 3


@pytest.fixture(scope="module")
def record() -> energy.Record:
    found = energy.measure(network(), inputs())
    assert found.spikes > 10
    return found


def test_the_relu_twin_runs_every_layer_once(record: energy.Record) -> None:
    derived = twin(record)
    measured = energy.measure(
        nn.Sequential(nn.Linear(20, 40), neurons.ReLU(), nn.Linear(40, 40), neurons.ReLU(), nn.Linear(40, 5)),
        torch.rand(1, B, 20),
    )
    for column in ("kind", "T", "operand", "inputs", "outputs", "weights", "updates", "states", "conventional"):
        assert list(derived.layers[column]) == list(measured.layers[column]), column
    ours, theirs = (r.operations.groupby(["layer", "op"])["dense"].sum().to_dict() for r in (derived, measured))
    assert ours == theirs
    for model in ("op-count", "typed-horowitz", "step"):
        ours, theirs = (energy.price(r, model)["total"].sum() for r in (derived, measured))
        assert ours == pytest.approx(theirs), model


def test_the_matched_twin_hands_on_the_spike_counts(record: energy.Record) -> None:
    assert twin_bits(T) == 2
    derived = twin(record, twin_bits(T)).layers.set_index("layer")
    counts = record.counts[record.counts["layer"] == "2"]
    assert derived.loc["2", "nonzero"] == counts.loc[counts["spikes"] > 0, "values"].sum()
    assert derived.loc["2", "magnitude"] == pytest.approx(record.layers.set_index("layer").loc["2", "nonzero"])
    ones = {0: 0, 1: 1, 2: 1, 3: 2}
    assert derived.loc["2", "popcount"] == sum(
        ones[k] * n for k, n in zip(counts["spikes"], counts["values"], strict=True)
    )
    assert (derived.loc["2", "operand"], derived.loc["2", "bits"]) == ("quantised", 2)


def test_the_twin_of_rate_coded_integrate_and_fire_is_the_quantised_network() -> None:
    # A soft-reset IF that gets its input in the first step, and nothing later, fires floor(x / threshold) times.
    class First(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.neuron, self.layer = neurons.IF(reset="soft"), nn.Linear(30, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(self.neuron(x))

    x = torch.zeros(T, B, 30)
    x[0] = torch.rand(B, 30, generator=torch.Generator().manual_seed(2)) * (T + 0.999)
    codes = x[0].floor()
    layer = twin(energy.measure(First(), x), 2).layers.set_index("layer").loc["layer"]
    assert layer["magnitude"] * B == codes.sum()
    assert layer["nonzero"] * B == codes.count_nonzero()


def test_more_bits_spread_the_codes(record: energy.Record) -> None:
    products = twin(record, 8).products.set_index("layer")
    assert products.loc["2", "operand"] == "quantised"
    # Full activity is the largest code, 255.
    full = record.counts[(record.counts["layer"] == "2") & (record.counts["spikes"] == T)]["values"].sum()
    layer = twin(record, 8).layers.set_index("layer").loc["2"]
    assert layer["magnitude"] >= 255 * full
    assert products.loc["2", "planes_exact"] == pytest.approx(layer["popcount"] * 40)


def test_a_twin_says_what_it_is(record: energy.Record) -> None:
    assert record.provenance["made"] == "measured"
    assert twin(record).provenance["made"].startswith("derived")
    assert "4-bit" in twin(record, 4).provenance["made"]


def test_a_twin_has_no_twin(record: energy.Record) -> None:
    with pytest.raises(DataError, match="own twin"):
        twin(twin(record))


def test_no_codes_without_counts() -> None:
    given = energy.Record.from_layers([{"layer": "a", "operand": "binary", "dense": 10.0}], T=4)
    with pytest.raises(DataError, match="no spike counts"):
        twin(given, 3)
    assert twin(given).products.loc[0, "dense"] == 2.5


@pytest.mark.parametrize("bits", [0, 33])
def test_bits_of_a_twin_are_checked(record: energy.Record, bits: int) -> None:
    with pytest.raises(OptionError, match="1 to 32"):
        twin(record, bits)


@given(st.floats(0, 1))
@settings(max_examples=20, deadline=None)
def test_activity_scales_events_and_nothing_else(record: energy.Record, share: float) -> None:
    factor = share * largest_activity(record)
    scaled = with_activity(record, factor)
    assert scaled.spikes == pytest.approx(factor * record.spikes)
    assert scaled.synaptic_events() == pytest.approx(factor * record.synaptic_events())
    assert scaled.spikes_per_synapse == pytest.approx(factor * record.spikes_per_synapse)
    for summary in ("dense_macs", "macs", "neuron_updates", "weights"):
        assert scaled.summary()[summary] == record.summary()[summary]
    first, later = (scaled.products.set_index("layer").loc[name, "exact"] for name in ("0", "2"))
    assert first == record.products.set_index("layer").loc["0", "exact"]
    assert later == pytest.approx(factor * record.products.set_index("layer").loc["2", "exact"])


def test_activity_of_one_changes_no_price(record: energy.Record) -> None:
    for model in energy.names():
        before, after = (energy.price(r, model)["total"] for r in (record, with_activity(record, 1.0)))
        assert after.to_numpy() == pytest.approx(before.to_numpy(), nan_ok=True), model


def test_coincidences_grow_with_the_square() -> None:
    class Product(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ x.transpose(-1, -2)

    spikes = (torch.rand(2, B, 6, 8, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    record = energy.measure(Product(), spikes)
    before, after = (r.products.loc[0, "exact"] for r in (record, with_activity(record, 0.5)))
    assert after == pytest.approx(before / 4)


def test_nobody_fires_more_than_once_a_step(record: energy.Record) -> None:
    with pytest.raises(OptionError, match="busiest layer"):
        with_activity(record, 1.01 * largest_activity(record))
    with pytest.raises(OptionError, match="0 to"):
        with_activity(record, -0.1)
