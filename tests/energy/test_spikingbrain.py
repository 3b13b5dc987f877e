"""SpikingBrain: one int8 addition for each spike of an input."""

import math

import pytest
import torch
from torch import nn

import energy
import neurons
from energy import Record
from neurons.errors import OptionError


def spikes(mean: float, macs: float = 1e6, **columns: object) -> Record:
    """A layer of integers whose one-bits have the given mean."""
    return Record.from_layers(
        [{"layer": "fc", "operand": "integer", "dense": macs, "planes_nominal": mean * macs, **columns}], T=1
    )


def test_the_published_price_of_a_product() -> None:
    table = energy.price(spikes(1.13), "spikingbrain")
    assert table.loc[0, "compute"] / 1e6 == pytest.approx(0.0339)
    assert round(table.attrs["figures"]["pJ_per_mac"], 3) == 0.034
    assert table.attrs["constants"]["int8_add"]["value"] == 0.03


def test_the_published_savings_follow_from_the_rounded_price() -> None:
    figures = energy.price(spikes(0.034 / 0.03), "spikingbrain").attrs["figures"]
    assert figures["saving_over_fp16"] == pytest.approx(0.977, abs=0.0005)
    assert figures["saving_over_int8"] == pytest.approx(0.852, abs=0.0005)


def test_the_published_factors_are_inverses_of_rounded_percentages() -> None:
    figures = energy.price(spikes(1.13), "spikingbrain").attrs["figures"]
    exact = [1 / (1 - figures[f"saving_over_{kind}"]) for kind in ("fp16", "int8")]
    assert exact == pytest.approx([44.25, 6.78], abs=0.005)
    # As printed: 1 / (1 - 0.977) and 1 / (1 - 0.852).
    printed = [1 / (1 - rounded) for rounded in (0.977, 0.852)]
    assert printed == pytest.approx([43.48, 6.76], abs=0.005)
    assert exact[0] > printed[0] + 0.5


def test_silent_channels_are_reported_and_not_priced() -> None:
    table = energy.price(spikes(1.13, silent_channels=0.184, in_channels=100), "spikingbrain")
    assert table.attrs["figures"]["silent_channels"] == pytest.approx(0.184)
    assert table.loc[0, "total"] == table.loc[0, "compute"]
    assert any("silent channels" in gap for gap in table.attrs["ignores"])


def test_codes_of_sums_of_spikes() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 10, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x)

    record = energy.measure(Sum(), torch.tensor([0.0, 1.0, 3.0, 5.0]).expand(1, 1, 4))
    for code, spikes_of_5_3_1 in (("bits", 2 + 2 + 1), ("unary", 9)):
        table = energy.price(record, "spikingbrain", code=code)
        assert table.loc[0, "compute"] == pytest.approx(0.03 * 10 * spikes_of_5_3_1)


def test_real_and_quantised_operands_are_multiplied() -> None:
    x = torch.rand(1, 2, 8) + 0.1
    network = nn.Sequential(nn.Linear(8, 4), neurons.QuantisedReLU(4), nn.Linear(4, 2))
    record = energy.measure(network, x)
    table = energy.price(record, "spikingbrain").set_index("layer")
    assert table.loc["0", "compute"] == pytest.approx(1.5 * 32)
    assert table.loc["2", "compute"] == pytest.approx(0.23 * 8)
    assert not table.loc["1", "applicable"]
    expanded = energy.price(record, "spikingbrain", quantised="spikes", code="unary").set_index("layer")
    magnitude = record.layers.set_index("layer").loc["2", "magnitude"]
    assert expanded.loc["2", "compute"] == pytest.approx(0.03 * magnitude * 2)


class Attention(nn.Module):
    def __init__(self, real: bool) -> None:
        super().__init__()
        self.real = real

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ (x.transpose(-1, -2) + (0.3 if self.real else 0.0))


def test_of_two_activations_the_spikes_of_one_add_the_values_of_the_other() -> None:
    x = torch.tensor([[1.0, 0, 1], [0, 1, 0]]).expand(1, 1, 2, 3)
    found = energy.price(energy.measure(Attention(False), x), "spikingbrain").dropna(subset="total")
    assert found["compute"].sum() == pytest.approx(3 * 2 * 0.03)
    real = energy.price(energy.measure(Attention(True), x), "spikingbrain").dropna(subset="total")
    assert real["compute"].sum() == pytest.approx(2 * 3 * 2 * 1.5)


def test_without_spike_counts_there_is_no_price() -> None:
    record = Record.from_layers([{"layer": "fc", "operand": "quantised", "dense": 10.0}], T=1)
    row = energy.price(record, "spikingbrain", quantised="spikes").iloc[0]
    assert math.isnan(row["total"])
    assert row["note"].startswith("no price")


@pytest.mark.parametrize("options", [{"code": "gray"}, {"quantised": "no"}, {"add": -1.0}])
def test_wrong_options(options: dict) -> None:
    with pytest.raises(OptionError):
        energy.price(spikes(1.0), "spikingbrain", **options)
