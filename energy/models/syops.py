"""syops-counter: accumulates and multiply-accumulates module by module, by the mean of each input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from energy.hardware import Hardware
from energy.models.base import EnergyModel, Layer, Price, check_positive, energy_models


@dataclass(frozen=True)
class Count:
    """Operations of one layer: all of them, those of spikes, the dense ones."""

    every: float
    ac: float
    mac: float


@energy_models.register("syops")
@dataclass(frozen=True, kw_only=True)
class Syops(EnergyModel):
    """The counting rule of syops-counter 0.0.5 (Chen et al. 2023), priced 4.6 and 0.9 pJ as its documentation does.

    A layer whose input is made of spikes counts its operations times the rate of the input as accumulates, any other
    layer counts them all as multiply-accumulates. Convolution and linear: taps on padding included, and a bias
    (which a linear layer counts once for each call, whatever the batch); norms: each value once, twice with an affine
    map, though they could be folded; pooling: each input; conventional activations: each output; spiking neurons: one
    accumulate for each step and neuron, spikes or not. Sums of spikes are no spikes to it.

    What the tool itself counts otherwise, a record cannot say: two-valued tensors below one are spikes to it, by
    their mean; modules of other classes, such as SpikingJelly's own layers, are invisible to it; inputs with time
    first are divided by T instead of by samples. An affine map is assumed of every norm with weights.

    Parameters
    ----------
    mac, ac : float, optional
        Price of one operation in pJ; from the hardware (fp32) when left out.
    """

    source: ClassVar[str] = "syops-counter 0.0.5, of Chen et al., Training Full Spike Neural Networks, TNNLS 2023"
    ignores: ClassVar[tuple[str, ...]] = (
        "products of two activations", "functional calls", "residual additions", "softmax", "memory", "addressing",
        "routing", "static power",
    )  # fmt: skip

    mac: float | None = None
    ac: float | None = None

    def __post_init__(self) -> None:
        check_positive(mac=self.mac, ac=self.ac)

    def price_layers(self, layers: Sequence[Layer], hardware: Hardware) -> list[Price | None]:
        # Norms are counted although they fold into the layer before.
        return [self.price_layer(layer, hardware) for layer in layers]

    def price_layer(self, layer: Layer, hardware: Hardware) -> Price | None:
        found = count(layer)
        if found is None:
            return None
        add = hardware["fp32_add"]
        mac = hardware["fp32_mul"] + add if self.mac is None else self.mac
        energy = found.mac * mac + found.ac * (add if self.ac is None else self.ac)
        return Price({"neuron" if layer.is_neuron else "compute": energy})

    def figures(self, layers: Sequence[Layer], hardware: Hardware) -> dict[str, float | str]:
        """Return the totals of the tool: all operations, accumulates, multiply-accumulates."""
        found = [each for each in map(count, layers) if each is not None]
        return {
            "all_operations": sum(each.every for each in found), "acs": sum(each.ac for each in found),
            "macs": sum(each.mac for each in found),
        }  # fmt: skip


def count(layer: Layer) -> Count | None:
    """Return the operations of a layer by the rule of syops-counter; None for what it does not see."""
    if layer.module and not layer.is_neuron and layer.module not in _MODULES and layer.inside is None:
        return None
    if layer.kind in ("conv", "linear") and not layer.second_operand:
        return _product(layer)
    if layer.is_spiking:
        return Count(layer.inputs, layer.inputs, 0.0)
    if layer.is_neuron:
        return Count(layer.outputs, 0.0, layer.outputs)
    if layer.kind == "elementwise" and layer.module in _ACTIVATIONS:
        return Count(layer.outputs, 0.0, layer.outputs)
    if layer.kind == "norm":
        every = layer.inputs * (2 if layer.weights else 1)
        return Count(every, 0.0, every)
    if layer.kind == "pool":
        return _of_spikes(layer.inputs, _rate_before(layer))
    return None


_ACTIVATIONS = frozenset(("ReLU", "PReLU", "ELU", "LeakyReLU", "ReLU6", "GELU"))
_MODULES = frozenset((
    "Linear", *_ACTIVATIONS, "GroupNorm",
    *(f"{name}{n}d" for n in (1, 2, 3) for name in ("Conv", "ConvTranspose", "MaxPool", "AvgPool", "AdaptiveMaxPool",
                                                    "AdaptiveAvgPool", "BatchNorm", "InstanceNorm")),
))  # fmt: skip
"""Modules that it has a rule for; in records of given counts, layers have no module and are taken for such."""


def _product(layer: Layer) -> Count:
    dense = layer.count("mac", "dense_nominal")
    bias = layer.count("add")
    if bias and layer.kind == "linear":
        samples = layer.record.provenance.get("samples") or 1
        batches = layer.record.provenance.get("batches") or 1
        bias = layer.bias * layer.calls * batches / samples
    ac = mac = 0.0
    for operation in layer.macs:
        # The bias follows the class of each call, and is scaled by its rate like the rest.
        every = operation.dense_nominal * (1 + bias / dense if dense else 1)
        if operation.operand == "binary":
            ac += every * (operation.nominal / operation.dense_nominal if operation.dense_nominal else 0.0)
        else:
            mac += every
    return Count(dense + bias, ac, mac)


def _rate_before(layer: Layer) -> float | None:
    """Rate of spikes that reach a pooling layer straight from one neuron; None for any other input."""
    if len(layer.sources) != 1 or not layer.sources[0].is_spiking or layer.sources[0].output == "real":
        return None
    neuron = layer.sources[0]
    return float(neuron.nonzero_outputs / neuron.outputs) if neuron.outputs else 0.0


def _of_spikes(every: float, rate: float | None) -> Count:
    return Count(every, 0.0, every) if rate is None else Count(every, every * rate, 0.0)
