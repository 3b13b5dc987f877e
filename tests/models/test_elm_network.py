"""The ELM network: its published sizes, what its layers are made of, and its read-out."""

from __future__ import annotations

import pytest
import torch

from neurons import penalties
from neurons.errors import OptionError
from step import models

SHD = {"channels": 700, "classes": 19}
SMALL = {"channels": 12, "classes": 4, "neurons": 6, "branches": 4, "synapses": 3, "memory": 2}


def test_it_has_the_published_number_of_parameters() -> None:
    network = models.create("elm-network", seed=0, **SHD)
    assert network.parameter_count == 96 * 721 + 19 * 406 + 380 == 77_310


# Neurons of the networks for SHD-Adding by memory units of each, at equal size (arXiv 2605.12049).
@pytest.mark.parametrize(("memory", "neurons"), [(2, 155), (9, 57), (25, 15)])
def test_the_budget_gives_the_published_numbers_of_neurons(memory: int, neurons: int) -> None:
    network = models.create("elm-network", seed=0, parameters=77_310, memory=memory, **SHD)
    assert network.config.neurons == neurons  # type: ignore[attr-defined]
    assert network.parameter_count <= 77_310


def test_a_budget_that_fits_nothing_is_refused() -> None:
    with pytest.raises(OptionError, match="8815"):
        models.create("elm-network", parameters=8_000, **SHD)


def test_layers_hear_each_other_and_are_read_out_by_simple_neurons() -> None:
    network = models.create(
        "elm-network", seed=0, depth=2, wiring="modular", modules=3, dt=2.0, wiring_seed=7, **SMALL | {"synapses": 4}
    )
    first, second = network.layers  # type: ignore[misc]
    readout = network.readout
    assert (first.wiring, second.wiring, readout.wiring) == ("modular", "random", "random")  # type: ignore[union-attr]
    assert [layer.features for layer in (first, second, readout)] == [12, 6, 6]  # type: ignore[union-attr]
    assert [layer.seed for layer in (first, second, readout)] == [7, 8, 9]  # type: ignore[union-attr]
    assert first.hears_itself
    assert second.hears_itself
    assert not readout.hears_itself  # type: ignore[union-attr]
    assert set(readout.state) == {"m"}  # type: ignore[arg-type]
    assert {layer.dt for layer in (first, second, readout)} == {2.0}  # type: ignore[union-attr]


def test_it_streams_and_reads_out_at_the_last_step() -> None:
    network = models.create("elm-network", seed=0, **SMALL).eval()
    x = torch.randn(10, 3, 12, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole, last = network.run(x)
        assert torch.equal(network(x), whole)
        head, state = network.run(x[:4])
        tail, reached = network.run(x[4:], state)
        torch.testing.assert_close(torch.cat([head, tail]), whole)
        torch.testing.assert_close(reached["layers.0"]["a"], last["layers.0"]["a"])
        lengths = torch.tensor([10, 1, 5])
        torch.testing.assert_close(network.last(x, lengths)[0], whole[lengths - 1, torch.arange(3)])


def test_hidden_layers_are_penalised_and_everything_learns() -> None:
    network = models.create("elm-network", seed=0, **SMALL)
    x = torch.randn(20, 4, 12, generator=torch.Generator().manual_seed(0))
    with penalties.collected() as terms:
        y = network(x)
    assert [name for name, _ in terms] == ["effort", "activity"]
    loss = y[-1].square().sum() + sum(value for _, value in terms)
    loss.backward()  # type: ignore[no-untyped-call, union-attr]
    assert all(p.grad is not None and p.grad.count_nonzero() for p in network.parameters())
    with penalties.collected() as terms:
        models.create("elm-network", seed=0, effort=0.0, activity=0.0, **SMALL)(x)
    assert not terms


def test_the_weights_are_of_the_seed_and_the_wiring_of_its_own() -> None:
    one, other = (models.create("elm-network", seed=seed, **SMALL) for seed in (0, 1))
    assert torch.equal(one.layers[0].index, other.layers[0].index)  # type: ignore[index, union-attr]
    assert not torch.equal(one.layers[0].bias.new_tensor(0) + one.readout.synapse_weight, other.readout.synapse_weight)  # type: ignore[index, union-attr]
    rewired = models.create("elm-network", seed=0, wiring_seed=1, **SMALL)
    assert not torch.equal(one.layers[0].index, rewired.layers[0].index)  # type: ignore[index, union-attr]
