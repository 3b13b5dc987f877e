"""NeuroMC: a weight-stationary accelerator of 32 nm, memory by memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from energy.hardware import Hardware
from energy.models.base import NAN, EnergyModel, Layer, Price, check_choice, energy_models
from energy.record import Record

_LANES = 16
"""Input channels that are summed before a partial sum leaves the array."""
_WORD = 16
_ROLES = ("weight", "activation", "partial_sum")


@energy_models.register("neuromc")
@dataclass(frozen=True, kw_only=True)
class NeuroMC(EnergyModel):
    """Operations, registers and memories of the NeuroMC accelerator, forward pass (32 nm, 16-bit values).

    Every multiply-accumulate is executed, also those of silent inputs. On spikes it is an addition and a multiplexer
    (0.582 pJ) and inputs are 1 bit; on anything else a multiplication and an addition (1.36 pJ) and inputs are 16
    bits. An input passes a register for each operation (write and read), a weight is loaded once for an inference and
    stays, a partial sum leaves the array after 16 input channels at one tap. With Q = ceil(C_i / 16) x taps the memory
    reads Q inputs and writes Q sums for each output, and reads Q - 1 sums again. A spiking neuron multiplexes, adds
    and multiplies once and compares three times; reads and writes its sum, potential and spike, and writes a
    surrogate mask. One access moves as many bits as the port is wide, and costs in proportion. As in the totals of
    the paper, DRAM and the network on chip are zero.

    Parameters
    ----------
    stage : {"inference"}
        The accelerator also trains; backward pass and optimiser are not priced here.
    """

    source: ClassVar[str] = (
        "NeuroMC, Nature Communications 2026, s41467-026-70586-x; composition and constants as in SpikingJelly 2.0.0"
    )
    ignores: ClassVar[tuple[str, ...]] = (
        "sparsity of spikes", "DRAM and network on chip (zero in the paper)", "biases", "norms (assumed folded)",
        "products of two activations", "conventional activations", "pooling and residual additions", "static power",
    )  # fmt: skip
    profile: ClassVar[str] = "neuromc-32nm"
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"": {}}
    reuses_weights: ClassVar[bool] = True

    stage: Literal["inference"] = "inference"

    def __post_init__(self) -> None:
        check_choice("stage", self.stage, ("inference",))

    def warnings(self, record: Record, hardware: Hardware) -> list[str]:
        found = super().warnings(record, hardware)
        sums = record.products.loc[record.products["operand"].isin(("integer", "ternary")), "layer"]
        if len(sums):
            found.append(f"sums of spikes and signed spikes are 16-bit values here: {', '.join(dict.fromkeys(sums))}")
        return found

    def skips_silence(self, hardware: Hardware) -> bool:
        return False

    def price_layer(self, layer: Layer, hardware: Hardware) -> Price | None:
        if layer.is_spiking:
            return self._soma(layer, hardware)
        if layer.kind not in ("conv", "linear"):
            return None
        if not (layer.in_channels > 0 and layer.outputs > 0):
            return Price({"compute": NAN}, "no price without the channels and outputs of the layer")
        taps = [int(size) for size in (layer.kernel_size or "1").split("x")]
        if len(taps) > 2 or "Transpose" in layer.module:
            return None
        chunks = math.ceil(layer.in_channels / (layer.groups if layer.groups > 1 else 1) / _LANES) * math.prod(taps)
        total = sum(operation.dense_nominal for operation in layer.macs)
        parts = dict.fromkeys(("compute", *(f"memory_{role}" for role in _ROLES)), 0.0)
        for operation in layer.macs:
            # Calls that met other operands than the rest take their share of outputs and weights.
            share = operation.dense_nominal / total if total else 0.0
            found = self._product(operation, share * layer.outputs, share * layer.weights, chunks, hardware)
            parts = {part: energy + found[part] for part, energy in parts.items()}
        return Price(parts)

    def _product(
        self, operation: Any, outputs: float, weights: float, chunks: int, hardware: Hardware
    ) -> dict[str, float]:
        macs, spikes = operation.dense_nominal, operation.operand == "binary"
        register, sum_sram = hardware["register_16"], hardware["sram_sum_16"]
        if spikes:
            mac, input_register, input_sram = hardware["mux"], hardware["register_1"], hardware["sram_input_1"]
        else:
            mac, input_register, input_sram = hardware["mul"], register, hardware["sram_weight_16"]
        streamed, again = outputs * chunks, outputs * (chunks - 1)
        return {
            "compute": macs * (mac + hardware["add"]),
            "memory_weight": weights * (2 * register + hardware["sram_weight_16"]),
            "memory_activation": 2 * macs * input_register + streamed * input_sram,
            # Each operation reads and writes its sum; the first of an output has nothing to read besides.
            "memory_partial_sum": (2 * macs + (macs - outputs) + again) * register + (streamed + again) * sum_sram,
        }

    def _soma(self, layer: Layer, hardware: Hardware) -> Price:
        updates, states = layer.updates, layer.states
        bit, word = hardware["register_1"], hardware["register_16"]
        spike = hardware["sram_spike_16"] / _WORD
        state = hardware["sram_state_256"] * _WORD / 256
        arithmetic = hardware["mux"] + hardware["add"] + hardware["mul"] + 3 * hardware["cmp"]
        return Price(
            {
                "neuron": updates * arithmetic,
                "memory_partial_sum": 2 * updates * (word + hardware["sram_sum_16"]),
                "memory_state": 2 * updates * states * (word + state),
                # A spike is written and read, its surrogate mask written.
                "memory_activation": 3 * updates * (bit + spike),
            }
        )
