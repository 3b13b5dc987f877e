"""Arithmetic priced by what is really multiplied and added, and memory by what it holds: operand class, bits, level."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from energy.hardware import Hardware
from energy.models.base import (
    EnergyModel,
    IntegerRule,
    Layer,
    Price,
    check_choice,
    check_convention,
    dense,
    energy_models,
    executed,
)
from energy.record import EVENTS, Convention, Record

Type = Literal["int8", "int16", "int32", "fp16", "fp32"]
_TYPES = ("int8", "int16", "int32", "fp16", "fp32")
# A comparison is a subtraction of which only the sign is kept; rounding adds one half and drops bits.
_LIKE = {"add": "add", "cmp": "add", "abs": "add", "round": "add", "mul": "mul"}
_LEVELS = (8, 32, 1024)


@energy_models.register("typed-horowitz")
@dataclass(frozen=True, kw_only=True)
class TypedHorowitz(EnergyModel):
    """Every operation at the price of its own type (Horowitz 2014): int8 adders for int8 weights, fp32 for reals.

    A product with a real operand is a floating-point multiplication and addition. A spike adds a weight into the
    accumulator. A quantised operand of up to 8 or 16 bits, or a wider one, takes an integer multiplication of 8, 16
    or 32 bits and an addition into the accumulator. Neuron arithmetic has the accumulator's type; comparisons and
    rounding cost an addition.

    Memory has a level for each buffer: weights of a layer, potentials of its neurons, activations of one sample and
    step each lie in the smallest SRAM of 8, 32 or 1024 KB that holds them whole, or else in DRAM. An access is 64
    bits wide and shared by the data that fit in it. A weight is fetched for each operation; activations are read once
    by the layer behind and written once by the neuron (spikes: those that are sent, 1 bit each); states are read and
    written at every step, as wide as the accumulator; sums stay in the accumulator until a neuron, or memory where
    there is none, takes them.

    Parameters
    ----------
    weights : {"int8", "int16", "int32", "fp16", "fp32"}
        Type of the weights that meet spikes and quantised operands.
    accumulator : {"int32", "int16", "int8", "fp16", "fp32"}, optional
        Type that sums are kept in; None for the type of the weights.
    convention : {"exact", "nominal", "fan_out", "kernel"}
    integers : {"unrolled", "ac"}
        A sum of k spikes as k additions, or as one.
    bias : bool
        Count one addition for each output with a bias; False has the accumulator start at the bias.
    memory : bool
        Price memory too; without it, arithmetic alone.
    weight_fetch : {"operation", "layer"}
        A weight is fetched for every operation (no reuse), or once for every time step.
    """

    source: ClassVar[str] = "Horowitz, Computing's energy problem, ISSCC 2014 (45 nm)"
    ignores: ClassVar[tuple[str, ...]] = (
        "addressing", "routing", "static power", "norms folded into the layer before",
        "multiplications by constants (folded into weights or thresholds)", "zeros of real and quantised operands",
        "selections (multiplexers)", "memory outside products and neurons", "partial sums (kept in the accumulator)",
    )  # fmt: skip

    weights: Type = "int8"
    accumulator: Type | None = "int32"
    convention: Convention = "exact"
    integers: IntegerRule = "unrolled"
    bias: bool = False
    memory: bool = True
    weight_fetch: Literal["operation", "layer"] = "operation"

    def __post_init__(self) -> None:
        check_choice("weights", self.weights, _TYPES)
        if self.accumulator is not None:
            check_choice("accumulator", self.accumulator, _TYPES)
        check_convention(self.convention)
        check_choice("integers", self.integers, ("unrolled", "ac"))
        check_choice("weight_fetch", self.weight_fetch, ("operation", "layer"))

    def warnings(self, record: Record, hardware: Hardware) -> list[str]:
        found = super().warnings(record, hardware)
        quantised = record.products["operand"].eq("quantised") & record.products["bits"].gt(8)
        wide = record.products.loc[quantised & record.products["bits"].le(16), "layer"]
        if len(wide):
            found.append(f"16-bit multiplications rest on a weakly supported constant: {', '.join(wide)}")
        return found

    def price_layer(self, layer: Layer, hardware: Hardware) -> Price | None:
        if layer.is_neuron:
            kind = self._real(layer.bits) if _is_real(layer) else self._sum
            price = self._other(layer.operations, hardware, "neuron", kind)
            return self._with_memory(price, self._neuron_memory(layer, hardware))
        if not layer.is_product:
            return None if not layer.operations else self._other(layer.operations, hardware, "compute", None)
        energy, fetches = 0.0, 0.0
        for operation in layer.operations:
            if operation.op == "mac":
                found, count = self._product(operation, hardware)
                energy, fetches = energy + found, fetches + count
            elif operation.op == "add" and self.bias:
                kind = self._real(operation.bits) if layer.operand == "real" else self._sum
                energy += operation.dense * hardware[f"{kind}_add"]
        return self._with_memory(Price({"compute": energy}), self._product_memory(layer, hardware, fetches))

    def _with_memory(self, price: Price, memory: dict[str, float]) -> Price:
        if not self.memory:
            return price
        unknown = [part for part, energy in memory.items() if math.isnan(energy)]
        if unknown and not price.note:
            price.note = f"no price for {', '.join(unknown)}: the record lacks the size of the buffer"
        return Price({**price.parts, **memory}, price.note)

    def _product_memory(self, layer: Layer, hardware: Hardware, fetches: float) -> dict[str, float]:
        policy = "event" if layer.gets_events else "dense"
        moved = self._moved(layer, hardware, "input", "read", policy, layer.inputs / layer.T)
        if layer.neuron_behind is None:
            moved += self._moved(layer, hardware, "output", "write", "dense", layer.outputs / layer.T)
        parts = {"memory_activation": moved}
        if not layer.second_operand:
            bits = _width(self._real(layer.bits) if layer.operand == "real" else self.weights)
            times = fetches if self.weight_fetch == "operation" else layer.weights * layer.T
            parts["memory_weight"] = times * _access(hardware, layer.weights, bits)
            if layer.moved("bias"):
                parts["memory_weight"] += layer.moved("bias") * _access(hardware, layer.bias, bits)
        return parts

    def _neuron_memory(self, layer: Layer, hardware: Hardware) -> dict[str, float]:
        policy = "event" if layer.is_spiking and layer.output != "real" else "dense"
        parts = {"memory_activation": self._moved(layer, hardware, "output", "write", policy, layer.neurons)}
        if layer.states:
            words = layer.moved("state", "read") + layer.moved("state", "write")
            parts["memory_state"] = words * _access(hardware, layer.neurons * layer.states, _width(self._sum))
        return parts

    def _moved(
        self, layer: Layer, hardware: Hardware, role: str, direction: str, policy: str, size: float
    ) -> float:  # fmt: skip
        """Price the activations that a layer moves; ``size`` is that of their buffer where the record has none."""
        rows = [m for m in layer.memory if (m.role, m.direction) == (role, direction)]
        chosen = [m for m in rows if m.policy == policy] or rows
        return sum(
            m.elements * _access(hardware, m.resident if m.resident == m.resident else size, m.bits) for m in chosen
        )

    @property
    def _sum(self) -> str:
        return self.accumulator or self.weights

    def _real(self, bits: float) -> str:
        return "fp16" if bits == 16 else "fp32"

    def _product(self, operation: Any, hardware: Hardware) -> tuple[float, float]:
        """Return the energy of a product, and how often it needs its second operand."""
        sides = [(operation.operand, operation.bits)]
        if operation.second_operand:
            sides.append((operation.second_operand, operation.second_bits))
        real = max((bits for side, bits in sides if side == "real"), default=None)
        work = executed(operation, self.convention, self.integers)
        if work.kind == "ac":
            # Spikes add weights, or integers of the other side, into the accumulator; real values add as such.
            kind = self._real(real) if real is not None else self._sum
            return work.count * hardware[f"{kind}_add"], work.count
        if real is not None:
            kind = self._real(real)
            return work.count * (hardware[f"{kind}_mul"] + hardware[f"{kind}_add"]), work.count
        kind = self._multiplier(max(bits for _, bits in sides))
        count = dense(operation, self.convention)
        return count * (hardware[f"{kind}_mul"] + hardware[f"{self._sum}_add"]), count

    def _multiplier(self, bits: float) -> str:
        if self.weights.startswith("fp"):
            return self.weights
        wanted = max(bits, int(self.weights[3:]))
        return f"int{next((width for width in (8, 16) if wanted <= width), 32)}"

    def _other(self, operations: list[Any], hardware: Hardware, part: str, kind: str | None) -> Price:
        energy, missing = 0.0, []
        for operation in operations:
            if operation.op in ("scale", "mux"):
                continue
            own = kind or (self._sum if operation.operand in (*EVENTS, "quantised") else self._real(operation.bits))
            if operation.op in _LIKE:
                energy += getattr(operation, self.convention) * hardware[f"{own}_{_LIKE[operation.op]}"]
            else:
                missing.append(operation.op)
        if missing:
            known = energy if any(operation.op in _LIKE for operation in operations) else float("nan")
            return Price({part: known}, f"no price for {', '.join(sorted(set(missing)))}")
        return Price({part: energy})


def _is_real(layer: Any) -> bool:
    return bool(layer.conventional) and layer.output == "real"


def _width(kind: str) -> int:
    return int(kind.removeprefix("int").removeprefix("fp"))


def _access(hardware: Hardware, elements: float, bits: float) -> float:
    """Price of one datum in the smallest memory that holds ``elements`` of them; NaN where their number is unknown."""
    if not elements > 0:
        return float("nan")
    size = elements * bits / 8
    level = next((f"sram_{each}kb" for each in _LEVELS if size <= each * 1024), "dram")
    return hardware[level] * bits / 64
