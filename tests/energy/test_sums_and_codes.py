"""Sums of spikes outside products, and weights that are codes of a few bits."""

import pytest
import torch
from torch import nn

import energy
import neurons
from energy import Record, hardware
from step.models.transformer.quantised import QuantisedLinear

DENSE = 1000


def spikes(*shape: int) -> torch.Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.4).float()


class Votes(nn.Module):
    """Channel votes of a token, as QK attention sums its queries, then the mean over what they let pass."""

    def __init__(self) -> None:
        super().__init__()
        self.fire = neurons.IF()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        votes = x.sum(-1, keepdim=True)
        return (self.fire(votes) * x + x).mean(2)


def test_sums_of_spikes_are_additions_for_each_event() -> None:
    x = spikes(3, 2, 5, 8)
    record = energy.measure(Votes(), x)
    rows = record.operations.set_index(["layer", "op"])
    layers = record.layers.set_index("layer")
    total = rows.loc[("sum-1", "add")]
    assert layers.loc["sum-1", "kind"] == "pool"
    assert (total["operand"], total["bits"], layers.loc["sum-1", "operand"]) == ("binary", 1, "binary")
    events = sum(int(v) for v in x.flatten().tolist())
    for convention in ("exact", "nominal", "fan_out", "kernel"):
        assert total[convention] * 2 == events  # two samples
    assert total["dense"] * 2 == 3 * 2 * 5 * (8 - 1)
    # The mean reads sums of two spikes: one addition for each value that is not zero, and one scale for each output.
    passed = neurons.IF()(x.sum(-1, keepdim=True)) * x + x
    mean = rows.loc[("mean-1", "add")]
    assert passed.max() == 2
    assert (mean["operand"], mean["bits"]) == ("integer", 2)
    assert mean["exact"] * 2 == int((passed != 0).sum())
    assert rows.loc[("mean-1", "scale"), "exact"] * 2 == 3 * 2 * 8


def test_sums_of_real_values_are_dense() -> None:
    class Total(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.sum(-1)

    add = energy.measure(Total(), torch.randn(3, 2, 8)).operations.iloc[0]
    assert (add["operand"], add["exact"], add["dense"]) == ("real", 3 * 7, 3 * 7)


@pytest.mark.parametrize("bits", [2, 4])
def test_weights_that_are_codes_have_their_own_bits(bits: int) -> None:
    network = nn.Sequential(nn.Linear(8, 6), neurons.create("quantised_relu"), QuantisedLinear(nn.Linear(6, 4), bits))
    record = energy.measure(network, torch.randn(1, 3, 8))
    assert record.layers.set_index("layer")["weight_bits"].reindex(["0", "2"]).tolist() == [32, bits]
    reads = record.memory[record.memory["role"] == "weight"]
    assert set(reads.loc[reads["layer"] == "2", "bits"]) == {bits}
    products = record.products.set_index("layer")
    assert products.loc["2", "operand"] == "quantised"
    assert products.loc["2", "second_operand"] is None  # a weight, not a second activation


def given(weight_bits: float, operand: str) -> Record:
    layer = {
        "operand": operand, "bits": 3, "dense": DENSE, "inputs": 50, "nonzero": 50, "magnitude": 50, "outputs": 20,
        "weights": DENSE, "weight_bits": weight_bits,
    }  # fmt: skip
    return Record.from_layers([layer], T=1)


@pytest.mark.parametrize("operand", ["quantised", "integer"])
@pytest.mark.parametrize(("model", "part"), [("yan", "memory_weight"), ("step", "memory_weight"),
                                             ("dampfhoffer", "memory_weight"), ("bit-budget", "compute")])  # fmt: skip
def test_models_take_the_bits_of_a_layer_where_they_are_fewer(model: str, part: str, operand: str) -> None:
    def price(weight_bits: float) -> float:
        return float(energy.price(given(weight_bits, operand), model)[part].iloc[0])

    assert price(32) > 0
    assert price(float("nan")) == price(32) == price(8)  # what the model states
    assert price(2) == pytest.approx(price(8) / 4)


def test_the_break_even_of_a_layer_sees_its_own_bits() -> None:
    figures = energy.price(given(2, "integer"), "dampfhoffer").attrs["figures"]
    prices = hardware.load("45nm")
    word = prices["sram_8kb"] / 64  # of a bit; an access is 64 bits wide
    rival = prices["int8_mul"] + prices["int32_add"] + word * (2 + 8 / (DENSE / 50) + 2 * 32 / (DENSE / 20))
    event = prices["int32_add"] + word * (2 + 2 * 32)
    assert figures["break_even_spikes_per_synapse"] == pytest.approx(rival / event)
