"""Dampfhoffer et al.: spikes per synapse decide, since memory dominates and a conventional network reuses its data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from energy.hardware import Hardware
from energy.models.base import NAN, EnergyModel, Layer, Price, check_choice, check_positive, energy_models
from energy.record import EVENTS
from neurons.errors import OptionError

BAND = (0.15, 1.38)
"""Spikes per synapse and inference below which IF networks compete, by implementation of the rival (the abstract)."""
_BUS = 64


def verdict(spikes_per_synapse: float) -> str:
    """Return what the published band says of a number of spikes per synapse and inference."""
    if not spikes_per_synapse >= 0:
        return "unknown: no spikes as operands"
    if spikes_per_synapse < BAND[0]:
        return f"plausible: below {BAND[0]} spikes per synapse, competitive with any of the studied dataflows"
    if spikes_per_synapse <= BAND[1]:
        return f"depends on the dataflow of the rival: {BAND[0]} to {BAND[1]} spikes per synapse"
    return f"lost: above {BAND[1]} spikes per synapse, no studied dataflow was worse"


@energy_models.register("dampfhoffer")
@dataclass(frozen=True, kw_only=True)
class Dampfhoffer(EnergyModel):
    """Dampfhoffer, Mesquida, Valentian & Anghel (IEEE TETCI 2023): event-based IF against ANNs that reuse data.

    Every spike on a connection reads the weight, reads and writes the potential, and adds; every neuron reads and
    writes its state and compares once a step (a leak is a product more); spikes are read and written once each. A
    conventional connection multiplies and adds, and its share of reading a weight, reading an activation, and
    reading and writing a partial sum is divided by how often each is reused.

    The band of 0.15 to 1.38 spikes per synapse is the paper's (its abstract); the equations are put together from
    descriptions of it, and memory prices are Horowitz's, not the paper's. Without stated reuse the rival is the best
    there can be, each value fetched once, which is the upper bound that the paper computes; reuse 1 is the worst.

    Parameters
    ----------
    memory : {"sram_8kb", "sram_32kb", "sram_1024kb"}
        Memory of weights, states and activations; a word takes its share of a 64-bit access.
    weight_bits, activation_bits, state_bits : int
        Weights of a layer that are narrower themselves keep their own bits.
    weight_reuse, activation_reuse, psum_reuse : float, optional
        Products that one fetch serves in a conventional layer; all that there are when left out.
    precision : {"int8", "int16", "int32", "fp16", "fp32"}
        Type of the multiplier.
    accumulator : {"int32", "int16", "int8", "fp16", "fp32"}
        Type of the adder.
    """

    source: ClassVar[str] = "Dampfhoffer et al., Are SNNs Really More Energy-Efficient Than ANNs?, IEEE TETCI 7(3) 2023"
    confidence: ClassVar[Literal["published", "reconstruction"]] = "reconstruction"
    ignores: ClassVar[tuple[str, ...]] = (
        "products of two activations", "biases", "norms", "residual additions and pooling", "softmax", "zeros that a "
        "conventional network could skip", "addressing", "routing", "off-chip memory", "static power",
    )  # fmt: skip
    reuses_weights: ClassVar[bool] = True
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "": {}, "no reuse": {"weight_reuse": 1, "activation_reuse": 1, "psum_reuse": 1},
    }  # fmt: skip

    memory: Literal["sram_8kb", "sram_32kb", "sram_1024kb"] = "sram_8kb"
    weight_bits: int = 8
    activation_bits: int = 8
    state_bits: int = 32
    weight_reuse: float | None = None
    activation_reuse: float | None = None
    psum_reuse: float | None = None
    precision: Literal["int8", "int16", "int32", "fp16", "fp32"] = "int8"
    accumulator: Literal["int32", "int16", "int8", "fp16", "fp32"] = "int32"

    def __post_init__(self) -> None:
        check_choice("memory", self.memory, ("sram_8kb", "sram_32kb", "sram_1024kb"))
        types = ("int8", "int16", "int32", "fp16", "fp32")
        check_choice("precision", self.precision, types)
        check_choice("accumulator", self.accumulator, types)
        check_positive(weight_bits=self.weight_bits, activation_bits=self.activation_bits, state_bits=self.state_bits)
        for name in ("weight_reuse", "activation_reuse", "psum_reuse"):
            value = getattr(self, name)
            if value is not None and not value >= 1:
                raise OptionError(f"{name} must be at least 1 (no reuse), and is {value}")

    def price_layer(self, layer: Layer, hardware: Hardware) -> Price | None:
        if layer.is_neuron:
            return self._neuron(layer, hardware)
        if not layer.is_product or layer.second_operand:
            return None
        events = [operation for operation in layer.macs if operation.operand in EVENTS]
        dense = [operation for operation in layer.macs if operation.operand not in EVENTS]
        price = self._spiking(layer, _unrolled(events), hardware) if events else {}
        for part, energy in (self._conventional(layer, _dense(dense), hardware) if dense else {}).items():
            price[part] = price.get(part, 0.0) + energy
        activation = price.get("memory_activation", NAN)
        note = "" if activation == activation else "no price for reading spikes: their number is not in the record"
        return Price(price, note)

    def _neuron(self, layer: Layer, hardware: Hardware) -> Price | None:
        add = hardware[f"{self.accumulator}_add"]
        if not layer.is_spiking:
            # A rectifier compares once; its output is written once.
            written = layer.outputs * self._word(self.activation_bits, hardware)
            parts = {"neuron": layer.updates * add, "memory_activation": written}
            if layer.states:  # a recurrent cell
                parts["memory_state"] = 2 * layer.updates * layer.states * self._word(self.state_bits, hardware)
            return Price(parts)
        known = isinstance(layer.leaky, (bool, np.bool_))
        leak = hardware[f"{self.accumulator}_mul"] if known and layer.leaky else 0.0
        parts = {
            "neuron": layer.updates * (add + leak),
            "memory_state": 2 * layer.updates * layer.states * self._word(self.state_bits, hardware),
            "memory_activation": layer.nonzero_outputs * self._word(1, hardware),
        }
        note = "" if known else "whether the neuron leaks is not in the record; priced without a leak"
        if layer.nonzero_outputs != layer.nonzero_outputs:
            note = "no price for writing spikes: their number is not in the record"
        return Price(parts, note)

    def _spiking(self, layer: Layer, events: float, hardware: Hardware) -> dict[str, float]:
        state = self._word(self.state_bits, hardware)
        return {
            "compute": events * hardware[f"{self.accumulator}_add"],
            "memory_weight": events * self._weight(layer, hardware),
            "memory_state": 2 * events * state,
            "memory_activation": (layer.nonzero if layer.magnitude != layer.magnitude else layer.magnitude)
            * self._word(1, hardware),
        }

    def _conventional(self, layer: Layer, dense: float, hardware: Hardware) -> dict[str, float]:
        found = self._connection(layer, hardware)
        return {part: dense * energy for part, energy in found.items()}

    def _connection(self, layer: Layer, hardware: Hardware) -> dict[str, float]:
        """Return the price of one multiply-accumulate by part."""
        reuse = self._reuse(layer)
        return {
            "compute": hardware[f"{self.precision}_mul"] + hardware[f"{self.accumulator}_add"],
            "memory_weight": self._weight(layer, hardware) / reuse["weight"],
            "memory_activation": self._word(self.activation_bits, hardware) / reuse["activation"],
            "memory_partial_sum": 2 * self._word(self.state_bits, hardware) / reuse["psum"],
        }

    def _reuse(self, layer: Layer) -> dict[str, float]:
        products = layer.count("mac") / layer.T
        most = {
            "weight": _ratio(products, layer.weights),
            "activation": _ratio(products, layer.inputs / layer.T),
            "psum": _ratio(products, layer.outputs / layer.T),
        }
        stated = {"weight": self.weight_reuse, "activation": self.activation_reuse, "psum": self.psum_reuse}
        return {name: most[name] if value is None else value for name, value in stated.items()}

    def _weight(self, layer: Layer, hardware: Hardware) -> float:
        return self._word(layer.weight_width(self.weight_bits), hardware)

    def _word(self, bits: float, hardware: Hardware) -> float:
        return hardware[self.memory] * bits / _BUS

    def figures(self, layers: Sequence[Layer], hardware: Hardware) -> dict[str, float | str]:
        """Return spikes per synapse, the verdict of the published band, and the break-even under this model's inputs.

        The break-even compares the layers that meet spikes, with their neurons' state, to the same layers run once
        as a conventional network.
        """
        if not layers:
            return {}
        sps = layers[0].record.spikes_per_synapse
        found: dict[str, float | str] = {"spikes_per_synapse": sps, "verdict": verdict(sps)}
        limit = self._break_even(layers, hardware)
        if limit == limit:
            found["break_even_spikes_per_synapse"] = limit
        return found

    def _break_even(self, layers: Sequence[Layer], hardware: Hardware) -> float:
        met = [layer for layer in layers if layer.is_product and not layer.second_operand and layer.operand in EVENTS]
        connections = [layer.count("mac") / layer.T for layer in met]
        if not sum(connections):
            return NAN
        each = list(zip(met, connections, strict=True))
        rival = sum(count * sum(self._connection(layer, hardware).values()) for layer, count in each)
        behind = {neuron.layer: neuron for layer in met for neuron in [layer.neuron_behind] if neuron is not None}
        state = 0.0
        for neuron in behind.values():
            if neuron.is_spiking:
                priced = self._neuron(neuron, hardware)
                parts = priced.parts if priced is not None else {}
                state += parts.get("neuron", 0.0) + parts.get("memory_state", 0.0)
        event = hardware[f"{self.accumulator}_add"] + 2 * self._word(self.state_bits, hardware)
        return max(0.0, rival - state) / sum(count * (event + self._weight(layer, hardware)) for layer, count in each)


def _unrolled(operations: Sequence[Any]) -> float:
    """Spikes on connections, a sum of k spikes as k."""
    return float(sum(op.exact if op.events_exact != op.events_exact else op.events_exact for op in operations))


def _dense(operations: Sequence[Any]) -> float:
    return float(sum(operation.dense for operation in operations))


def _ratio(products: float, values: float) -> float:
    """Products for each value; 1 (no reuse) where the record does not know the values."""
    return max(1.0, products / values) if values and values == values else 1.0
