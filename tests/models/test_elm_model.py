"""The network made of one ELM neuron."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from neurons.elm import BranchELM, ModifiedELM
from neurons.errors import OptionError, ShapeError
from step import models

FORMS: list[dict[str, Any]] = [
    {},
    {"form": "branch", "routing": "neuronio", "version": "v1"},
    {"form": "modified", "tau": 3.0, "high_pass": 5.0, "synapse_dropout": 0.2, "memory_dropout": 0.1},
]


@pytest.mark.parametrize("options", FORMS)
def test_it_streams_reads_out_late_and_keeps_its_weights_in_a_twin(options: dict[str, Any]) -> None:
    network = models.create("elm", channels=12, classes=3, memory=8, seed=0, **options).eval()
    x = (torch.rand(20, 4, 12, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    y = network(x)
    assert y.shape == (20, 4, 3)
    lengths = torch.tensor([5, 20, 1, 7])
    torch.testing.assert_close(network.last(x, lengths), y[lengths - 1, torch.arange(4)].unsqueeze(0))
    first, state = network.run(x[:7])
    torch.testing.assert_close(torch.cat([first, network.run(x[7:], state)[0]]), y, rtol=1e-5, atol=1e-6)
    assert torch.equal(network.twin("relu")(x), y)


def test_options_are_those_of_the_neuron() -> None:
    branch = models.create("elm", channels=12, form="branch", branches=5, synapses=6, tau=7.0, dt=2.0).elm
    assert isinstance(branch, BranchELM)
    assert (branch.features, branch.branches, branch.synapses, branch.tau, branch.dt) == (12, 5, 6, 7.0, 2.0)
    modified = models.create("elm", channels=3, image_size=2, form="modified", synapse_dropout=0.2).elm
    assert isinstance(modified, ModifiedELM)
    assert (modified.features, modified.input_dropout, modified.readout, modified.tau) == (12, 0.2, "real", None)


@pytest.mark.parametrize("form", ["elm", "branch", "modified"])
def test_the_memory_can_follow_from_a_number_of_parameters(form: str) -> None:
    network = models.create("elm", channels=12, classes=3, form=form, parameters=5000)
    wider = models.create("elm", channels=12, classes=3, form=form, memory=network.config.memory + 1)
    assert network.parameter_count <= 5000 < wider.parameter_count


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(OptionError, match="neuron 'elm' has no option 'high_pass'"):
        models.create("elm", channels=12, high_pass=3.0)
    with pytest.raises(OptionError, match="give memory or parameters, not both"):
        models.create("elm", channels=12, memory=3, parameters=5000)
    with pytest.raises(ShapeError, match=r"this elm takes \[T, B, 12\]"):
        models.create("elm", channels=12)(torch.ones(3, 2, 11))
