"""SpikingJelly's simple energy: multiply-accumulates, accumulates, and every byte of weights and states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from energy.hardware import Hardware
from energy.models.base import NAN, EnergyModel, Layer, Price, check_choice, check_positive, energy_models

_SPIKES = "binary"


@energy_models.register("spikingjelly")
@dataclass(frozen=True, kw_only=True)
class SpikingJellySimple(EnergyModel):
    """E = MAC E_MAC + AC E_AC + 24.96 pJ/byte, by the counting rules of SpikingJelly 2.0.0.

    An operand is made of spikes when every value of a call is 0 or 1. A product with one such operand is accumulates:
    each spike meets the weights it really reaches (borders and strides included); two such operands meet where they
    coincide. All other products, of ternary spikes and sums of spikes too, are dense multiply-accumulates, padding
    included. Additions of tensors, sums, means and average pools are accumulates, and so are additions inside
    neurons; a batch norm in eval mode has C + numel accumulates and numel multiply-accumulates. Multiplications that
    are not followed by an accumulation, comparisons, and the additions of biases cost nothing.

    Memory is a weight for each of those operations of linear and convolutional layers, a bias for each of their
    outputs, and one read and one write of every state word at every step. Inputs and spikes count as flow on the
    chip. ``precision`` changes the price of operations only: bytes are those of the tensors.

    What a record does not show, and where this model therefore differs from the estimator: which functions made an
    addition (``neg`` and ``cumsum`` count as one here, ``sigmoid_`` does not; adaptive, one- and three-dimensional
    average pools do); whether weights are binary; spikes of another value than 1 (multiply-accumulates there); norms
    without affine parameters (taken as affine); potentials at rest, whose zeros pass for spikes there, so that adding
    spikes to them costs only those. Not repeated is that the estimator counts the additions of its own bookkeeping:
    one less than the outputs of one channel, for each call of a convolution on spikes.

    Parameters
    ----------
    precision : {"fp32", "fp16", "int8"}
        Preset of the prices of operations.
    weight_bits : int, optional
        Width of weights and biases; that of the record when left out, or 32 where it does not tell.
    norms : {"counted", "folded"}
        Batch norms as the estimator sees them, or folded into the layer before ("fused", in SpikingJelly).
    """

    source: ClassVar[str] = (
        "SpikingJelly 2.0.0, estimate_simple_energy (Fang et al., Science Advances 2023); operations from Horowitz, "
        "ISSCC 2014, memory from STEP, NeurIPS 2025, Table 9; the traffic is SpikingJelly's own"
    )
    ignores: ClassVar[tuple[str, ...]] = (
        "activations (flow on the chip)", "multiplications and comparisons outside products", "additions of biases",
        "norms other than batch norm", "max pooling", "softmax", "memory hierarchy", "addressing", "routing",
        "static power",
    )  # fmt: skip

    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    weight_bits: int | None = None
    norms: Literal["counted", "folded"] = "counted"

    def __post_init__(self) -> None:
        check_choice("precision", self.precision, ("fp32", "fp16", "int8"))
        check_positive(weight_bits=self.weight_bits)
        check_choice("norms", self.norms, ("counted", "folded"))

    def price_layers(self, layers: Sequence[Layer], hardware: Hardware) -> list[Price | None]:
        # Only here does a folded norm have a price: the estimator sees it run.
        return [self.price_layer(layer, hardware) for layer in layers]

    def price_layer(self, layer: Layer, hardware: Hardware) -> Price | None:
        ac = hardware[f"{self.precision}_add"]
        mac = hardware[f"{self.precision}_mul"] + ac
        if layer.is_product:
            return self._product(layer, hardware, mac, ac)
        if layer.is_neuron:
            return self._neurons(layer, hardware, ac)
        if layer.kind == "norm":
            if not layer.module.startswith("BatchNorm") or (layer.folded and self.norms == "folded"):
                return None
            channels = layer.weights / 4 * layer.calls  # scale, shift, mean and variance
            return Price({"compute": layer.outputs * mac + (layer.outputs + channels) * ac})
        additions = _additions(layer)
        return None if additions is None else Price({"compute": additions * ac})

    def _product(self, layer: Layer, hardware: Hardware, mac: float, ac: float) -> Price:
        macs, acs = 0.0, 0.0
        for operation in layer.macs:
            if _SPIKES in (operation.operand, operation.second_operand):
                acs += _accumulates(layer, operation)
            else:
                macs += operation.dense_nominal
        parts = {"compute": macs * mac + acs * ac}
        if layer.second_operand:
            return Price(parts)
        bits = layer.weight_bits if self.weight_bits is None else self.weight_bits
        biases = _outputs(layer) if layer.bias else 0.0
        moved = (macs + acs + biases) * (bits if bits == bits else 32)
        parts["memory_weight"] = moved * hardware["memory_bit"]
        lacking = moved != moved
        return Price(parts, "no price for weights: the record does not say how many outputs have a bias" * lacking)

    def _neurons(self, layer: Layer, hardware: Hardware, ac: float) -> Price | None:
        parts = {}
        additions = layer.count("add")
        if layer.operations and (layer.is_spiking or additions):
            parts["neuron"] = additions * ac
        if layer.states:
            bits = sum(moved.elements * moved.bits for moved in layer.memory if moved.role == "state")
            parts["memory_state"] = bits * hardware["memory_bit"]
        return Price(parts) if parts else None


def _accumulates(layer: Layer, operation: Any) -> float:
    """Spikes times what each of them meets; coincidences when both operands are spikes."""
    first, second = operation.operand, operation.second_operand
    if second is None or first == second:
        return float(operation.exact)
    share = layer.nonzero / layer.inputs if first == _SPIKES else layer.second_nonzero / layer.second_inputs
    return float(share * operation.dense)


def _outputs(layer: Layer) -> float:
    if layer.outputs:
        return float(layer.outputs)
    return float(layer.neuron_behind.updates) if layer.neuron_behind else NAN


def _additions(layer: Layer) -> float | None:
    """Accumulates of additions, sums and average pools; None for layers that have none."""
    kinds = {operation.op for operation in layer.operations}
    if layer.kind == "pool" and "add" in kinds:
        return layer.count("add")
    if layer.kind != "elementwise" or kinds != {"add"}:
        return None
    return float(
        sum(o.exact if (o.operand, o.second_operand) == (_SPIKES, _SPIKES) else o.dense for o in layer.operations)
    )
