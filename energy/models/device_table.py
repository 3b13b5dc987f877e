"""A table of devices: so much for a synaptic operation, so much for a neuron update."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from energy.hardware import Hardware
from energy.models.base import (
    NAN,
    EnergyModel,
    Layer,
    Price,
    check_choice,
    check_convention,
    check_positive,
    energy_models,
    unrolled,
)
from energy.record import EVENTS, Convention, Record
from neurons.errors import OptionError


@energy_models.register("device-table")
@dataclass(frozen=True, kw_only=True)
class DeviceTable(EnergyModel):
    """Synaptic operations and neuron updates at the price of a device (KerasSpiking's ModelEnergy; snnTorch).

    On an event-driven device E = e_synop x (spikes per input and step x T x connections) + e_neuron x neurons x T.
    On any other the network runs once, densely and without time: E = e_synop x connections + e_neuron x neurons.
    Sums of k spikes are k events. A product of two activations has no synapses, so that only devices that are not
    event-driven price it.

    Parameters
    ----------
    synop, neuron : float, optional
        Prices in pJ of one synaptic operation and one neuron update; from the hardware when left out. A device that
        publishes no price of an update has no neuron part.
    event_driven : bool, optional
        Whether silence saves work; from the hardware when left out.
    convention : {"nominal", "exact", "fan_out", "kernel"}
    inputs : {"unpriced", "nonzero"}
        What real or quantised inputs cost on an event-driven device: no price, since no spikes arrive; or one event
        for each value that is not zero, as snnTorch counts.
    bias : bool
        Count each bias as one more synaptic operation, as snnTorch can.
    """

    source: ClassVar[str] = (
        "KerasSpiking 0.3.0, ModelEnergy (Applied Brain Research 2021); snnTorch, development version"
    )
    ignores: ClassVar[tuple[str, ...]] = (
        "memory", "addressing", "routing beyond what the price of an operation includes", "norms (assumed folded)",
        "residual additions and pooling", "softmax", "static power unless the seconds are stated",
    )  # fmt: skip
    profile: ClassVar[str] = "loihi"
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        name: {"hardware": hardware}
        for name, hardware in {
            **{chip: chip for chip in ("loihi", "spinnaker", "spinnaker2", "truenorth", "seneca", "odin", "reckon",
                                       "tianjic", "cpu", "arm")},
            "gpu": "gpu-titan-black",
        }.items()
    }  # fmt: skip

    synop: float | None = None
    neuron: float | None = None
    event_driven: bool | None = None
    convention: Convention = "nominal"
    inputs: Literal["unpriced", "nonzero"] = "unpriced"
    bias: bool = False

    def __post_init__(self) -> None:
        check_positive(synop=self.synop, neuron=self.neuron)
        if self.event_driven not in (None, True, False):
            raise OptionError(f"event_driven is true, false or left out, not {self.event_driven!r}")
        check_convention(self.convention)
        check_choice("inputs", self.inputs, ("unpriced", "nonzero"))

    def warnings(self, record: Record, hardware: Hardware) -> list[str]:
        found = super().warnings(record, hardware)
        if hardware.note:
            found.append(f"{hardware.name}: {hardware.note}")
        if not self._waits_for_events(hardware) and record.T > 1:
            found.append(f"{hardware.name} is priced as if it ran the network once, without its {record.T} time steps")
        return found

    def skips_silence(self, hardware: Hardware) -> bool:
        return self._waits_for_events(hardware)

    def price_layer(self, layer: Layer, hardware: Hardware) -> Price | None:
        events = self._waits_for_events(hardware)
        if layer.is_neuron:
            return self._neurons(layer, hardware, events)
        if not layer.is_product:
            return None
        synop = self._synop(hardware)
        count = layer.count("add") / (1 if events else layer.T) if self.bias else 0.0
        if not events:
            return Price(
                {"compute": synop * (count + sum(operation.dense_nominal for operation in layer.macs) / layer.T)}
            )
        if layer.second_operand:
            return Price({"compute": NAN}, "no price for a product of two activations: it has no synapses")
        for operation in layer.macs:
            if operation.operand in EVENTS:
                count += unrolled(operation, self.convention)
            elif self.inputs == "nonzero":
                count += float(getattr(operation, self.convention))
            else:
                return Price({"compute": NAN}, f"no price for {operation.operand} inputs: no spikes arrive")
        return Price({"compute": synop * count})

    def _neurons(self, layer: Layer, hardware: Hardware, events: bool) -> Price | None:
        if self.neuron is None and "neuron_update" not in hardware:
            return None
        if events and layer.conventional:
            return Price({"neuron": NAN}, "no price for a conventional activation on a spiking device")
        price = hardware["neuron_update"] if self.neuron is None else self.neuron
        return Price({"neuron": price * layer.updates / (1 if events else layer.T)})

    def _synop(self, hardware: Hardware) -> float:
        if self.synop is not None:
            return self.synop
        price = hardware["synop"]
        if "synop_extra" in hardware:
            price += hardware["synop_extra"]
        return price

    def _waits_for_events(self, hardware: Hardware) -> bool:
        answer = hardware.event_driven if self.event_driven is None else self.event_driven
        if answer is None:
            raise OptionError(f"hardware {hardware.name!r} does not say whether it is event-driven; state event_driven")
        return answer
