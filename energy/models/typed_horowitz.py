"""Arithmetic priced by what is really multiplied and added: operand class, bits, accumulator."""

from __future__ import annotations

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


@energy_models.register("typed-horowitz")
@dataclass(frozen=True, kw_only=True)
class TypedHorowitz(EnergyModel):
    """Every operation at the price of its own type (Horowitz 2014): int8 adders for int8 weights, fp32 for reals.

    A product with a real operand is a floating-point multiplication and addition. A spike adds a weight into the
    accumulator. A quantised operand of up to 8 or 16 bits, or a wider one, takes an integer multiplication of 8, 16
    or 32 bits and an addition into the accumulator. Neuron arithmetic has the accumulator's type; comparisons and
    rounding cost an addition.

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
    """

    source: ClassVar[str] = "Horowitz, Computing's energy problem, ISSCC 2014 (45 nm)"
    ignores: ClassVar[tuple[str, ...]] = (
        "memory", "addressing", "routing", "static power", "norms folded into the layer before",
        "multiplications by constants (folded into weights or thresholds)", "zeros of real and quantised operands",
        "selections (multiplexers)",
    )  # fmt: skip

    weights: Type = "int8"
    accumulator: Type | None = "int32"
    convention: Convention = "exact"
    integers: IntegerRule = "unrolled"
    bias: bool = False

    def __post_init__(self) -> None:
        check_choice("weights", self.weights, _TYPES)
        if self.accumulator is not None:
            check_choice("accumulator", self.accumulator, _TYPES)
        check_convention(self.convention)
        check_choice("integers", self.integers, ("unrolled", "ac"))

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
            return self._other(layer.operations, hardware, "neuron", kind)
        if not layer.is_product:
            return None if not layer.operations else self._other(layer.operations, hardware, "compute", None)
        energy = 0.0
        for operation in layer.operations:
            if operation.op == "mac":
                energy += self._product(operation, hardware)
            elif operation.op == "add" and self.bias:
                kind = self._real(operation.bits) if layer.operand == "real" else self._sum
                energy += operation.dense * hardware[f"{kind}_add"]
        return Price({"compute": energy})

    @property
    def _sum(self) -> str:
        return self.accumulator or self.weights

    def _real(self, bits: float) -> str:
        return "fp16" if bits == 16 else "fp32"

    def _product(self, operation: Any, hardware: Hardware) -> float:
        sides = [(operation.operand, operation.bits)]
        if operation.second_operand:
            sides.append((operation.second_operand, operation.second_bits))
        real = max((bits for side, bits in sides if side == "real"), default=None)
        work = executed(operation, self.convention, self.integers)
        if work.kind == "ac":
            # Spikes add weights, or integers of the other side, into the accumulator; real values add as such.
            kind = self._real(real) if real is not None else self._sum
            return work.count * hardware[f"{kind}_add"]
        if real is not None:
            kind = self._real(real)
            return work.count * (hardware[f"{kind}_mul"] + hardware[f"{kind}_add"])
        kind = self._multiplier(max(bits for _, bits in sides))
        return dense(operation, self.convention) * (hardware[f"{kind}_mul"] + hardware[f"{self._sum}_add"])

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
            return Price({part: float("nan")}, f"no price for {', '.join(sorted(set(missing)))}")
        return Price({part: energy})


def _is_real(layer: Any) -> bool:
    return bool(layer.conventional) and layer.output == "real"
