"""A network beside its twins: which ones, how they were made, and their prices side by side."""

import pytest
import torch
from torch import nn

import energy
import neurons
from energy import Record
from energy.models import Choice
from energy.models.op_count import OpCount
from energy.twins import twin_bits, twin_name


class TwinNet(nn.Module):
    """The smallest network that can make its twins."""

    def __init__(self, neuron: object = "lif") -> None:
        super().__init__()
        make = neurons.factory(neuron)
        self.body = nn.Sequential(nn.Linear(8, 16), make(), nn.Linear(16, 4), make())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)

    def twin(self, neuron: object) -> "TwinNet":
        return TwinNet(neuron)


@pytest.fixture
def image() -> torch.Tensor:
    """One real image at each of five steps, as direct encoding gives it."""
    torch.manual_seed(0)
    return (3 * torch.rand(1, 3, 8)).expand(5, 3, 8)


def test_the_quantised_twin_has_the_capacity_of_the_spike_count() -> None:
    assert [twin_bits(T) for T in (1, 2, 3, 4, 7, 8, 15)] == [1, 2, 2, 3, 3, 4, 4]
    assert twin_name(3, 4) == "quantised 3-bit (matched)"
    assert twin_name(8, 4) == "quantised 8-bit"
    assert twin_name(None, 4) == "relu"


def test_twins_of_a_network_that_makes_them_are_measured(image: torch.Tensor) -> None:
    records = energy.twin_records(TwinNet(), image, bits=[8, 3])
    assert list(records) == ["network", "relu", "quantised 3-bit (matched)", "quantised 8-bit"]
    for name, record in records.items():
        assert (5 if name == "network" else 1) == record.T
        if name != "network":
            assert record.provenance["made"].startswith("measured")
    operands = records["quantised 8-bit"].products.set_index("layer")
    assert list(operands["operand"]) == ["real", "quantised"]
    assert operands["bits"].iloc[1] == 8


def test_twins_of_any_other_network_are_derived_from_its_record(image: torch.Tensor) -> None:
    network = TwinNet().body
    records = energy.twin_records(network, image)
    assert list(records) == ["network", "relu", "quantised 3-bit (matched)"]
    for twin in list(records.values())[1:]:
        assert twin.provenance["made"].startswith("derived")
        assert twin.T == 1
    assert list(records["relu"].products["dense"]) == [8 * 16, 16 * 4]


def test_twins_under_spiking_input_get_codes_and_not_its_first_step() -> None:
    torch.manual_seed(0)
    spikes = (torch.rand(4, 2, 8) < 0.3).float()
    records = energy.twin_records(TwinNet(), spikes)
    assert records["quantised 3-bit (matched)"].products["operand"].eq("quantised").all()
    assert records["relu"].provenance["made"].startswith("derived")


def test_a_network_that_does_not_spike_stands_alone() -> None:
    assert list(energy.twin_records(nn.Linear(8, 2), torch.rand(2, 3, 8))) == ["network"]


def test_a_record_without_spike_counts_has_a_relu_twin_only_unless_more_is_asked() -> None:
    from neurons.errors import DataError

    record = Record.from_layers(
        [{"layer": "fc", "operand": "binary", "dense": 400.0, "effective": 40.0, "inputs": 40.0, "nonzero": 4.0},
         {"layer": "if", "kind": "neuron", "updates": 40.0, "output": "binary"}],
        T=4,
    )  # fmt: skip
    assert list(energy.derived_twins(record)) == ["relu"]
    with pytest.raises(DataError, match="no spike counts"):
        energy.derived_twins(record, bits=[3])


def test_compare_prices_every_network_under_every_variant(image: torch.Tensor) -> None:
    table = energy.compare(TwinNet(), image)
    assert list(table["network"].unique()) == ["network", "relu", "quantised 3-bit (matched)"]
    assert {name.split()[0] for name in table["model"].unique()} == set(energy.names())
    rows = table.set_index(["network", "model"])
    twin = rows.loc[("relu", "op-count"), "total"]
    assert twin == pytest.approx(4.6 * (8 * 16 + 16 * 4))
    assert rows.loc[("network", "op-count"), "ratio_to_relu"] == pytest.approx(
        rows.loc[("network", "op-count"), "total"] / twin
    )
    own = table.loc[(table["network"] == "relu") & (table["total"] > 0), "ratio_to_relu"]
    assert len(own)
    assert (own == 1).all()
    assert table.attrs["warnings"]


def test_compare_without_twins_and_with_given_ones() -> None:
    x = torch.rand(2, 3, 8)
    plain = [Choice("op-count", OpCount())]
    alone = energy.compare(nn.Linear(8, 2), x, models=plain)
    assert list(alone["network"]) == ["network"]
    given = energy.compare(nn.Linear(8, 2), x, models=plain, twins={"mine": nn.Linear(8, 2)})
    assert list(given["ratio_to_mine"]) == [2.0, 1.0]  # two steps against one


def test_compare_and_judge_say_the_same(image: torch.Tensor) -> None:
    torch.manual_seed(0)
    network = TwinNet()
    table = energy.compare(network, image, models=["step", "op-count"])
    verdict = energy.judge(energy.twin_records(network, image), ["step", "op-count"])
    rows = table[table["network"] == "network"].set_index("model")
    ratios = verdict.table[verdict.table["twin"] == "relu"].set_index("label")["ratio"]
    assert rows["ratio_to_relu"].to_dict() == pytest.approx(ratios.to_dict())
