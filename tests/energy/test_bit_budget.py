"""S-ACE and NS-ACE: golden rows, and what the bit budget says about itself."""

import pytest
import torch
from torch import nn

import energy
import neurons
from energy import Record
from energy.models.bit_budget import bit_budget
from neurons.errors import OptionError

DENSE, T, RATE = 100_352, 4, 0.1


def spiking(rate: float = RATE, steps: int = T) -> Record:
    dense = DENSE * steps
    return Record.from_layers([{"operand": "binary", "dense": dense, "effective": rate * dense}], T=steps)


def quantised(bits: int, share: float = 1.0) -> Record:
    return Record.from_layers([{"operand": "quantised", "bits": bits, "dense": DENSE, "effective": share * DENSE}], T=1)


def ace(record: Record, name: str = "S-ACE", **options: object) -> float:
    table = energy.price(record, "bit-budget", sparse=name == "NS-ACE", **options)
    assert table.attrs["figures"][name] == table["total"].sum()
    return float(table["total"].sum())


def test_golden_rows_of_one_layer_784_to_128() -> None:
    assert ace(quantised(8)) == pytest.approx(6.42e6, rel=1e-3)
    assert ace(quantised(3)) == pytest.approx(2.41e6, rel=2e-3)
    assert ace(spiking()) == pytest.approx(3.21e6, rel=1e-3)
    assert ace(spiking(), "NS-ACE") == pytest.approx(3.21e5, rel=1e-3)


def test_unit_is_not_joules() -> None:
    table = energy.price(spiking(), "bit-budget")
    assert table.attrs["unit"] == "bit-operations"
    assert "joules" in table.attrs["ignores"]


def test_budgets_of_equal_product_are_equal() -> None:
    # The two configurations run at the same rate on an FPGA: 8-bit weights with four steps of one bit, or one step
    # of four bits.
    assert bit_budget(1, 8, 4) == bit_budget(4, 8, 1) == 32
    assert ace(quantised(4)) == ace(spiking()) == DENSE * 32


@pytest.mark.parametrize("record", [spiking(1.0), quantised(4)], ids=["spiking", "quantised"])
def test_both_are_equal_when_every_neuron_fires(record: Record) -> None:
    assert ace(record, "NS-ACE") == ace(record, "S-ACE")


def test_with_one_bit_weights_the_sparse_figure_is_the_number_of_synaptic_operations() -> None:
    record = spiking()
    assert ace(record, "NS-ACE", weight_bits=1) == pytest.approx(record.synaptic_events("nominal"))


def test_without_rates_one_step_is_the_ace_of_the_quantised_network() -> None:
    # ACE (PokeBNN): MACs x weight bits x activation bits.
    assert ace(quantised(3), weight_bits=4) == DENSE * 4 * 3


@pytest.mark.parametrize(("T", "bits"), [(1, 4), (2, 2), (4, 1)])
def test_trading_steps_for_bits_keeps_the_complexity(T: int, bits: int) -> None:
    # The 1/4/1, 1/2/2 and 1/1/4 configurations (weight bits / spike bits / T) are published at 3.08 to 3.69 G: equal
    # but for the layers that are not quantised.
    record = Record.from_layers([{"operand": "integer", "bits": bits, "dense": DENSE * T}], T=T)
    assert ace(record, weight_bits=1) == DENSE * 4


def test_monotone_in_steps_bits_and_rate() -> None:
    assert ace(spiking(steps=8)) == 2 * ace(spiking())
    assert ace(spiking(), weight_bits=4) == ace(spiking()) / 2
    assert ace(spiking(rate=0.2), "NS-ACE") == pytest.approx(2 * ace(spiking(), "NS-ACE"))
    assert ace(spiking(rate=0.0), "NS-ACE") == 0
    assert ace(spiking(rate=0.0), "S-ACE") == ace(spiking(), "S-ACE")


def test_a_real_operand_has_its_width_and_no_firing_rate() -> None:
    record = Record.from_layers([{"operand": "real", "dense": DENSE, "effective": DENSE / 2}], T=1)
    assert ace(record) == DENSE * 8 * 32
    assert ace(record, "NS-ACE") == ace(record)
    assert ace(record, real_bits=8) == DENSE * 8 * 8


def test_a_sum_of_spikes_is_one_word_or_its_events() -> None:
    row = {"operand": "integer", "bits": 2, "dense": 100.0, "effective": 10.0, "events_nominal": 15.0}
    record = Record.from_layers([row], T=1)
    assert ace(record, "NS-ACE") == 10 * 8 * 2
    assert ace(record, "NS-ACE", integers="unrolled") == 15 * 8


def test_products_of_two_activations_take_the_bits_of_both() -> None:
    class Product(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ x.transpose(-1, -2)

    spikes = (torch.rand(T, 2, 5, 6, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    record = energy.measure(Product(), spikes)
    assert ace(record) == T * 5 * 5 * 6
    assert ace(record, "NS-ACE", convention="exact") == record.synaptic_events() > 0


def test_a_measured_network_prices_only_its_products() -> None:
    record = energy.measure(nn.Sequential(nn.Linear(8, 4), neurons.IF()), torch.ones(T, 2, 8))
    table = energy.price(record, "bit-budget")
    assert list(table["applicable"]) == [True, False]
    assert table["total"].sum() == T * 32 * 8


def test_variants_stand_side_by_side() -> None:
    assert [choice.label for choice in energy.models.standard(["bit-budget"])] == [
        "bit-budget S-ACE", "bit-budget NS-ACE",
    ]  # fmt: skip


@pytest.mark.parametrize("options", [{"weight_bits": 0}, {"real_bits": 65}, {"integers": "mac"}, {"convention": "all"}])
def test_wrong_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        energy.create("bit-budget", **options)
