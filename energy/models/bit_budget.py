"""Bit budget: arithmetic complexity in bit-operations, in which time steps, weight bits and spike bits trade alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from energy.hardware import Hardware
from energy.models.base import EnergyModel, Layer, Price, check_choice, check_convention, dense, energy_models
from energy.record import EVENTS, Convention
from neurons.errors import OptionError


def bit_budget(T: int, weight_bits: int, spike_bits: int) -> int:
    """Return BB = T b_w b_s: what one connection may spend on an inference (Shen et al., CVPR 2024)."""
    return T * weight_bits * spike_bits


@energy_models.register("bit-budget")
@dataclass(frozen=True, kw_only=True)
class BitBudget(EnergyModel):
    """S-ACE and NS-ACE (Shen et al., CVPR 2024): connections x T x weight bits x spike bits, without joules.

    S-ACE = sum of n BB over the layers, with n the multiply-accumulates of one pass and BB = T b_w b_s; NS-ACE
    weighs each layer by its firing rate. T and b_s are those of the record: a binary spike has one bit in each of T
    steps, a b-bit activation is b bits in a single step. With b_w = b_s = 1, NS-ACE is the number of synaptic
    operations; at T = 1 and without rates it is the ACE of PokeBNN.

    Parameters
    ----------
    sparse : bool
        NS-ACE (firing rates count), or S-ACE, to which a silent network is as complex as a busy one.
    weight_bits : int
        Weights of a layer that are narrower themselves keep their own bits.
    real_bits : int, optional
        Bits of an operand that is real, such as the pixels of a static image; those of its type when left out.
    convention : {"nominal", "exact", "fan_out", "kernel"}
        How effective operations of convolutions are counted; all but ``exact`` take taps on padding into n.
    integers : {"bits", "unrolled"}
        A sum of k spikes as one word of its width, or in NS-ACE as k events of one bit.
    """

    source: ClassVar[str] = "Shen et al., Are Conventional SNNs Really Efficient? (Bit Budget), CVPR 2024"
    ignores: ClassVar[tuple[str, ...]] = (
        "joules", "memory", "neuron updates", "biases", "norms", "residual additions and pooling", "addressing",
        "routing", "static power",
    )  # fmt: skip
    unit: ClassVar[str] = "bit-operations"
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"S-ACE": {"sparse": False}, "NS-ACE": {"sparse": True}}

    sparse: bool = True
    weight_bits: int = 8
    real_bits: int | None = None
    convention: Convention = "nominal"
    integers: str = "bits"

    def __post_init__(self) -> None:
        for name, bits in (("weight_bits", self.weight_bits), ("real_bits", self.real_bits)):
            if bits is not None and not 1 <= bits <= 64:
                raise OptionError(f"{name} must be 1 to 64, and is {bits}")
        check_convention(self.convention)
        check_choice("integers", self.integers, ("bits", "unrolled"))

    def skips_silence(self, hardware: Hardware) -> bool:
        return self.sparse

    def price_layer(self, layer: Layer, hardware: Hardware) -> Price | None:
        if not layer.is_product:
            return None
        return Price({"compute": sum(self._bit_operations(layer, operation) for operation in layer.macs)})

    def figures(self, layers: Sequence[Layer], hardware: Hardware) -> dict[str, float | str]:
        """Return S-ACE and NS-ACE of the network."""
        products = [layer for layer in layers if layer.is_product]
        found: dict[str, float | str] = {}
        for name, sparse in (("S-ACE", False), ("NS-ACE", True)):
            model = BitBudget(
                sparse=sparse, weight_bits=self.weight_bits, real_bits=self.real_bits, convention=self.convention,
                integers=self.integers,
            )  # fmt: skip
            found[name] = sum(model._bit_operations(layer, operation) for layer in products for operation in layer.macs)
        return found

    def _bit_operations(self, layer: Layer, operation: Any) -> float:
        bits = self._bits(operation.operand, operation.bits)
        second = operation.second_operand
        other = layer.weight_width(self.weight_bits) if not second else self._bits(second, operation.second_bits)
        if not self.sparse:
            return dense(operation, self.convention) * bits * other
        if self.integers == "unrolled" and operation.operand == "integer" and not second:
            # The steps of one bit that a sum of spikes stands for.
            column = "events_exact" if self.convention == "exact" else "events_nominal"
            return float(getattr(operation, column)) * other
        # A real operand has no firing rate: its zeros are not skipped.
        spikes = operation.operand in (*EVENTS, "quantised") or second in (*EVENTS, "quantised")
        count = float(getattr(operation, self.convention)) if spikes else dense(operation, self.convention)
        return count * bits * other

    def _bits(self, operand: str, bits: float) -> float:
        return float(self.real_bits) if operand == "real" and self.real_bits is not None else float(bits)
