"""The convention of most papers: 4.6 pJ for a multiply-accumulate, 0.9 pJ for an accumulate."""

from __future__ import annotations

from collections.abc import Mapping
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
    check_positive,
    energy_models,
    executed,
)
from energy.record import Convention

Precision = Literal["fp32", "fp16", "int8", "int32"]


@energy_models.register("op-count")
@dataclass(frozen=True, kw_only=True)
class OpCount(EnergyModel):
    """Multiply-accumulates of real layers and accumulates of spiking ones, 4.6 and 0.9 pJ: what most papers print.

    E = E_MAC (MACs of layers with real or quantised input) + E_AC (synaptic operations of the rest); a layer's
    synaptic operations are rate x T x dense MACs in the nominal convention. The first layer on a static image is
    dense MACs.

    Parameters
    ----------
    mac, ac : float, optional
        Price of one operation in pJ; from the hardware when left out.
    precision : {"fp32", "fp16", "int8", "int32"}
        Type whose multiplier and adder set those prices.
    convention : {"nominal", "exact", "fan_out", "kernel"}
        How effective operations of convolutions are counted.
    integers : {"unrolled", "mac", "ac"}
        What a sum of k spikes costs, as spike residuals feed to linear layers: k accumulates, since event-driven
        hardware receives k events; a multiply-accumulate; or one accumulate, as published totals tacitly have it.
    first_layer : {"dense", "nonzero"}
        Real inputs of the first layer as dense MACs (static images), or only their non-zero values (event frames).
    """

    source: ClassVar[str] = "Horowitz, ISSCC 2014, as used since Rathi & Roy 2021; e.g. Zhou et al., ICLR 2023"
    ignores: ClassVar[tuple[str, ...]] = (
        "memory", "neuron updates", "biases", "norms (assumed folded)", "residual additions and pooling", "softmax",
        "addressing", "routing", "static power",
    )  # fmt: skip

    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"": {}, "int8": {"precision": "int8"}}

    mac: float | None = None
    ac: float | None = None
    precision: Precision = "fp32"
    convention: Convention = "nominal"
    integers: IntegerRule = "unrolled"
    first_layer: Literal["dense", "nonzero"] = "dense"

    def __post_init__(self) -> None:
        check_positive(mac=self.mac, ac=self.ac)
        check_choice("precision", self.precision, ("fp32", "fp16", "int8", "int32"))
        check_convention(self.convention)
        check_choice("integers", self.integers, ("unrolled", "mac", "ac"))
        check_choice("first_layer", self.first_layer, ("dense", "nonzero"))

    def price_layer(self, layer: Layer, hardware: Hardware) -> Price | None:
        if not layer.is_product:
            return None
        add = hardware[f"{self.precision}_add"]
        mac = hardware[f"{self.precision}_mul"] + add if self.mac is None else self.mac
        ac = add if self.ac is None else self.ac
        energy = 0.0
        for operation in layer.macs:
            work = executed(operation, self.convention, self.integers)
            count = work.count
            if layer.first and operation.operand == "real" and self.first_layer == "nonzero":
                count = float(getattr(operation, self.convention))
            energy += count * (ac if work.kind == "ac" else mac)
        return Price({"compute": energy})
