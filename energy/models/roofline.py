"""Processors that compute densely: time from the roofline, energy from power."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

from energy.hardware import Hardware
from energy.models.base import EnergyModel, Layer, Price, check_choice, check_positive, energy_models
from energy.record import Record
from neurons.errors import OptionError

_BYTES = {"fp32": 4, "bf16": 2, "int8": 1}


class _Work(NamedTuple):
    """What one layer does for one inference: operations, and bytes by part of the price."""

    flops: float
    moved: dict[str, float]

    @property
    def bytes(self) -> float:
        return sum(self.moved.values())


@energy_models.register("roofline")
@dataclass(frozen=True, kw_only=True)
class Roofline(EnergyModel):
    """A CPU, GPU or TPU: as long as arithmetic or memory takes, at full power (roofline of Williams et al. 2009).

    Layer by layer, time = max(FLOPs / (peak x utilisation), bytes / bandwidth) and energy = power x time; a
    multiply-accumulate is two FLOPs. The arithmetic time is charged to compute or neuron, what memory takes beyond it
    to memory by bytes. Spiking networks run dense, all T steps: silence saves nothing here. Weights are read once for
    a batch and all steps, activations are written and read once, states stay in registers unless ``fused`` is off.
    Power over peak rate is what the data sheet allows at best; inference of one sample reaches a few percent of it.

    Parameters
    ----------
    precision : {"bf16", "fp32", "int8"}
        Type of weights and activations, and whose peak rate is taken.
    batch : int
        Samples that share a read of the weights.
    utilisation : float
        Share of the peak rate that arithmetic reaches, above 0 and up to 1.
    flop, byte : float, optional
        Prices in pJ. Both given, energy = flop x FLOPs + byte x bytes replaces power x time.
    fused : bool
        Whether a neuron's state stays in registers over time; otherwise it is read and written at every step.
    """

    source: ClassVar[str] = "Williams, Waterman & Patterson, Roofline, CACM 2009; power and peaks from data sheets"
    ignores: ClassVar[tuple[str, ...]] = (
        "skipping of zeros (dense by design)", "caches", "launch overheads", "norms (assumed folded)",
        "residual additions, pooling and softmax (assumed fused)", "host, cooling and power supply",
    )  # fmt: skip
    profile: ClassVar[str] = "a100"
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "a100": {}, "h100": {"hardware": "h100"}, "tpuv4": {"hardware": "tpuv4"},
        "cpu": {"hardware": "cpu", "precision": "fp32"},
    }  # fmt: skip
    reuses_weights: ClassVar[bool] = True

    precision: Literal["bf16", "fp32", "int8"] = "bf16"
    batch: int = 1
    utilisation: float = 1.0
    flop: float | None = None
    byte: float | None = None
    fused: bool = True

    def __post_init__(self) -> None:
        check_choice("precision", self.precision, tuple(_BYTES))
        check_positive(flop=self.flop, byte=self.byte)
        if not self.batch >= 1:
            raise OptionError(f"batch must be at least 1, not {self.batch}")
        if not 0 < self.utilisation <= 1:
            raise OptionError(f"utilisation is above 0 and up to 1, not {self.utilisation}")
        if (self.flop is None) != (self.byte is None):
            raise OptionError("flop and byte are given together, or neither")

    def warnings(self, record: Record, hardware: Hardware) -> list[str]:
        found = super().warnings(record, hardware)
        if self.flop is None and self.utilisation == 1:
            found.append(f"{hardware.name} at its peak rate: a lower bound; state a utilisation below 1")
        if len(record.spiking):
            found.append("spikes save nothing on dense hardware: all products of all time steps are executed")
        return found

    def figures(self, layers: Sequence[Layer], hardware: Hardware) -> dict[str, float | str]:
        if self.flop is not None:
            return {}
        work = [found for layer in layers if not layer.folded and (found := self._work(layer)) is not None]
        arithmetic = sum(each.flops for each in work) / self._rate(hardware)
        memory = sum(each.bytes for each in work) / self._bandwidth(hardware)
        return {
            "seconds": sum(
                max(each.flops / self._rate(hardware), each.bytes / self._bandwidth(hardware)) for each in work
            ),
            "bound": "arithmetic" if arithmetic >= memory else "memory",
            "pJ_per_flop": hardware["power"] / self._rate(hardware) * 1e12,
        }

    def skips_silence(self, hardware: Hardware) -> bool:
        return False

    def price_layer(self, layer: Layer, hardware: Hardware) -> Price | None:
        work = self._work(layer)
        if work is None:
            return None
        if self.flop is not None and self.byte is not None:
            arithmetic, memory = self.flop * work.flops, self.byte * work.bytes
        else:
            power = hardware["power"] * 1e12
            arithmetic = power * work.flops / self._rate(hardware)
            memory = max(0.0, power * work.bytes / self._bandwidth(hardware) - arithmetic)
        parts = {"neuron" if layer.is_neuron else "compute": arithmetic}
        for part, moved in work.moved.items():
            parts[part] = memory * moved / work.bytes if work.bytes else 0.0
        return Price(parts)

    def _work(self, layer: Layer) -> _Work | None:
        size = _BYTES[self.precision]
        values = (layer.inputs + layer.outputs) * size
        if layer.is_neuron:
            moved = {"memory_activation": values}
            if not self.fused:
                moved["memory_state"] = 2 * layer.updates * layer.states * size
            return _Work(sum(operation.dense for operation in layer.operations), moved)
        if not layer.is_product:
            return None
        flops = 2 * sum(operation.dense_nominal for operation in layer.macs) + layer.count("add")
        moved = {"memory_activation": values + layer.second_inputs * size}
        if not layer.second_operand:
            moved["memory_weight"] = (layer.weights + layer.bias) * size / self.batch
        return _Work(flops, moved)

    def _rate(self, hardware: Hardware) -> float:
        """FLOPs a second."""
        return hardware[f"peak_{self.precision}"] * 1e12 * self.utilisation

    def _bandwidth(self, hardware: Hardware) -> float:
        """Bytes a second."""
        return hardware["bandwidth"] * 1e9
