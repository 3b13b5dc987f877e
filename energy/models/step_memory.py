"""STEP's model: spikes against a bit-serial quantised network, with the memory that both move."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from energy.hardware import Hardware
from energy.models.base import (
    NAN,
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
from neurons.errors import OptionError


@energy_models.register("step")
@dataclass(frozen=True, kw_only=True)
class StepMemory(EnergyModel):
    """STEP (NeurIPS 2025): accumulates for spikes, bit planes for quantised layers, and 3.12 pJ for every bit moved.

    Compute: E_AC x events; real layers E_MAC x dense MACs; a quantised layer runs bit by bit and skips zero bits,
    E_AC x B x R_b x MACs with B bits and R_b the measured share of one-bits. Memory: weights, a read and a write of
    every state word at every step, and activations read once (spikes 1 bit). Its three prices (4.6, 0.9 and 3.12 pJ)
    and the quantities above are stated in summaries of the paper; its equations were not read, and what a bit of
    memory traffic is counted for is put together here. The authors publish no code for it.

    A weight that is fetched once serves several operations where a dense layer works on many positions or samples at
    a time. That divides the traffic of conventional layers, while each spike still fetches the weights that it meets:
    state the reuse when the two are compared.

    Parameters
    ----------
    mac, ac, memory_bit : float, optional
        Prices in pJ; from the hardware (fp32, and the bit of memory) when left out.
    weight_bits, state_bits : int
        Weights of a layer that are narrower themselves keep their own bits.
    weight_fetch : {"operation", "layer"}
        A weight is fetched for every operation (events only, dense for conventional layers; see ``weight_reuse``),
        or once for every time step.
    weight_reuse : float
        Operations of a conventional layer that one fetch of a weight serves, as over the positions of a convolution or
        the samples of a batch; of spikes, each fetches for itself.
    convention : {"nominal", "exact", "fan_out", "kernel"}
    integers : {"unrolled", "mac", "ac"}
        What a sum of k spikes costs: k accumulates, a multiply-accumulate, or one accumulate.
    """

    source: ClassVar[str] = "STEP: A Unified Spiking Transformer Evaluation Platform, NeurIPS 2025, arXiv 2505.11151"
    confidence: ClassVar[Literal["published", "reconstruction"]] = "reconstruction"
    ignores: ClassVar[tuple[str, ...]] = (
        "neuron arithmetic", "biases", "norms (assumed folded)", "residual additions and pooling", "softmax",
        "memory hierarchy", "writes of activations", "addressing", "routing", "static power",
    )  # fmt: skip

    mac: float | None = None
    ac: float | None = None
    memory_bit: float | None = None
    weight_bits: int = 8
    state_bits: int = 32
    weight_fetch: Literal["operation", "layer"] = "operation"
    weight_reuse: float = 1.0
    convention: Convention = "nominal"
    integers: IntegerRule = "unrolled"

    def __post_init__(self) -> None:
        check_positive(
            mac=self.mac, ac=self.ac, memory_bit=self.memory_bit, weight_bits=self.weight_bits,
            state_bits=self.state_bits,
        )  # fmt: skip
        check_choice("weight_fetch", self.weight_fetch, ("operation", "layer"))
        if not self.weight_reuse >= 1:
            raise OptionError(f"weight_reuse is at least 1 operation for each fetch, not {self.weight_reuse!r}")
        if self.weight_reuse != 1 and self.weight_fetch == "layer":
            raise OptionError("weight_reuse is for weights fetched by the operation; a fetch by the layer is reused")
        check_convention(self.convention)
        check_choice("integers", self.integers, ("unrolled", "mac", "ac"))

    def price_layer(self, layer: Layer, hardware: Hardware) -> Price | None:
        bit = hardware["memory_bit"] if self.memory_bit is None else self.memory_bit
        if layer.is_neuron:
            return Price({"memory_state": 2 * layer.updates * layer.states * self.state_bits * bit})
        if not layer.is_product:
            return None
        ac = hardware["fp32_add"] if self.ac is None else self.ac
        mac = hardware["fp32_mul"] + hardware["fp32_add"] if self.mac is None else self.mac
        compute, fetches = 0.0, 0.0
        for operation in layer.macs:
            work = executed(operation, self.convention, self.integers)
            fetches += work.count / (1 if work.kind == "ac" else self.weight_reuse)
            if work.kind == "bits":
                planes = operation.planes_exact if self.convention == "exact" else operation.planes_nominal
                compute += ac * planes
            else:
                compute += work.count * (ac if work.kind == "ac" else mac)
        if self.weight_fetch == "layer":
            fetches = layer.weights * layer.T
        activations = layer.inputs * layer.bits
        if layer.second_operand:
            activations += layer.second_inputs * layer.second_bits
        parts = {"compute": compute, "memory_activation": activations * bit if activations else NAN}
        if not layer.second_operand:
            parts["memory_weight"] = fetches * layer.weight_width(self.weight_bits) * bit
        return Price(parts, "" if activations else "no price for activations: the record does not state its inputs")
