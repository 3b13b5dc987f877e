"""What must hold for every energy model on any network: the checks of energy.conformance, and that they can fail."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import energy
import neurons
from energy import EnergyModel, Record, conformance
from energy.models import Choice, Layer, Price, standard

CHOICES = standard()


@st.composite
def networks(draw: st.DrawFn) -> Record:
    """The record of a random spiking network with a convolution, a strided one, and linear layers."""
    T, B = draw(st.integers(1, 6)), draw(st.integers(1, 3))
    channels, width = draw(st.integers(1, 5)), draw(st.integers(1, 9))
    size, kernel, stride = draw(st.integers(3, 7)), draw(st.sampled_from([1, 3])), draw(st.integers(1, 2))
    torch.manual_seed(draw(st.integers(0, 2**16)))
    neuron = draw(st.sampled_from(["if", "lif"]))
    network = nn.Sequential(
        Fold(nn.Conv2d(2, channels, kernel, padding=1)), neurons.create(neuron, threshold=0.2),
        Fold(nn.Conv2d(channels, 4, kernel, stride=stride)), neurons.create(neuron, threshold=0.1), nn.Flatten(2),
        nn.LazyLinear(width), neurons.create(neuron, threshold=0.1), nn.Linear(width, 2),
    )  # fmt: skip
    x = torch.rand(T, B, 2, size, size) * draw(st.floats(0.5, 4))
    with torch.no_grad():
        network(x)
    return energy.measure(network, x, steps=True)


class Fold(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def failures(model: EnergyModel, record: Record | None = None, hardware: Any = None) -> dict[str, str]:
    return {result.name: result.message for result in conformance.check(model, hardware, record) if not result.ok}


@pytest.mark.parametrize("choice", CHOICES, ids=[choice.label for choice in CHOICES])
def test_every_model_passes_on_the_example(choice: Choice) -> None:
    assert not failures(choice.model, hardware=choice.hardware)


@pytest.mark.parametrize("choice", CHOICES, ids=[choice.label for choice in CHOICES])
@given(record=networks())
@settings(max_examples=2, deadline=None)
def test_every_model_passes_on_any_network(choice: Choice, record: Record) -> None:
    assert not failures(choice.model, record, choice.hardware)


def test_the_example_spikes_everywhere() -> None:
    assert (conformance.example().firing_rates > 0.01).all()


class Wrong(EnergyModel):
    """A model with one thing wrong in each subclass."""

    source = "this test"
    ignores = ("everything else",)

    def price_layer(self, layer: Layer, hardware: Any) -> Price | None:
        return Price({"compute": 0.9 * layer.count("mac", "exact")}) if layer.is_product else None


def made(**members: Any) -> EnergyModel:
    members = {"__doc__": "One.", **members}
    return dataclass(frozen=True, kw_only=True)(type("Mine", (Wrong,), members))()  # type: ignore[no-any-return]


def compute(value: Any) -> dict[str, Any]:
    return {"price_layer": lambda self, layer, hardware: Price({"compute": value(layer)}) if layer.is_product else None}


def cheaper(self: EnergyModel, layer: Layer, hardware: Any) -> Price:
    return Price({"compute": 100.0 - hardware["fp32_add"]})


def test_a_right_model_passes() -> None:
    assert not failures(made())


@pytest.mark.parametrize(
    ("check", "members", "says"),
    [
        ("describes itself", {"source": ""}, "no source"),
        ("describes itself", {"ignores": ()}, "ignores is empty"),
        ("describes itself", {"__doc__": None}, "no docstring"),
        ("describes itself", {"confidence": "sure"}, "'sure'"),
        ("total is the sum of parts", compute(lambda layer: -1.0), "negative"),
        ("no silent zero", compute(lambda layer: 0.0), "costs 0"),
        ("no silent zero", {"price_layer": lambda self, layer, hardware: None}, "no layer"),
        ("more spikes cost no less", compute(lambda layer: 1e6 / (1 + layer.count("mac", "exact"))), "cost less"),
        ("silence saves work, not state", compute(lambda layer: layer.count("mac")), "skips_silence"),
        # A rate applied twice, T left out, T applied twice.
        ("linear in time", compute(lambda layer: layer.count("mac", "exact") / layer.T), "2 T"),
        ("linear in time", compute(lambda layer: layer.count("mac", "exact") * layer.T), "2 T"),
        ("more bits cost no less", compute(lambda layer: layer.count("mac", "exact") / layer.bits), "wider"),
        ("prices a network", {"price_layer": lambda self, layer, hardware: 1 / 0}, "ZeroDivisionError"),
        ("prices a network", {"price_layer": lambda self, layer, hardware: Price({"magic": 1.0})}, "magic"),
        ("prices a network", {"price_layer": lambda self, layer, hardware: hardware["fp33_add"]}, "'fp33_add'"),
        ("dearer constants cost no less", {"price_layer": cheaper}, "cheaper"),
    ],
)  # fmt: skip
def test_each_check_can_fail(check: str, members: dict[str, Any], says: str) -> None:
    found = failures(made(**members))
    assert says in found[check]


def test_a_model_that_changes_the_record_is_found_out() -> None:
    def meddle(self: EnergyModel, layer: Layer, hardware: Any) -> Price:
        layer.record.layers.loc[0, "inputs"] += 1
        return Price({"compute": 1.0 + layer.count("mac", "exact")})

    assert "changes the record" in failures(made(price_layer=meddle), Record(*_copy()))["same price again"]


def _copy() -> tuple[dict[str, Any], dict[str, Any]]:
    record = conformance.example()
    return {name: frame.copy() for name, frame in record.to_frames().items()}, record.provenance
