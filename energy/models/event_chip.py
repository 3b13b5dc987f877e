"""A chip of neuromorphic cores, event by event: Loihi with the unit costs of SANA-FE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from energy.hardware import Hardware
from energy.models.base import NAN, EnergyModel, Layer, Price, check_choice, energy_models, unrolled
from energy.placement import HOPS, Mesh, Placement, place
from energy.record import EVENTS, Record
from neurons.errors import OptionError


@energy_models.register("event-chip")
@dataclass(frozen=True, kw_only=True)
class EventChip(EnergyModel):
    """Synapses, somata and packets of an event-driven chip, as SANA-FE adds them up (Boyle et al. 2025).

    E = E_synapse + E_dendrite + E_soma + E_network. Each spike is processed once for every connection, at the price
    of the storage format: dense, sparse or convolutional. Each neuron is accessed at every step, updated, and pays for
    the spikes that it sends. A spike leaves as one packet for every core that holds a target, and pays an axon out, an
    axon in and its hops through the mesh. Layers lie on cores as :func:`energy.placement.place` puts them; a spike
    reaches all cores of its target layer, though no more than it has targets. Spikes from outside enter at tile 0 and
    pay their packets like those of neurons; averages over the pairs of cores stand for single routes.

    Parameters
    ----------
    hops : bool
        False leaves out the way between tiles.
    linear : {"dense", "sparse"}
        Format of linear layers; sparse ones store and process no zero weights.
    updates : {"every_step", "effective"}
        Whether the state of a neuron is updated at every step, or only where it changed.
    """

    source: ClassVar[str] = (
        "SANA-FE 2.2.9 (Boyle et al., IEEE TCAD 2025) with its Loihi file, after Davies et al., IEEE Micro 2018"
    )
    ignores: ClassVar[tuple[str, ...]] = (
        "time: congestion, barriers of a step", "biases", "norms (assumed folded)", "pooling and residual additions",
        "limits of axons", "borders between chips", "static power unless the seconds are stated",
    )  # fmt: skip
    profile: ClassVar[str] = "loihi"

    hops: bool = True
    linear: Literal["dense", "sparse"] = "dense"
    updates: Literal["every_step", "effective"] = "every_step"

    def __post_init__(self) -> None:
        if not isinstance(self.hops, bool):
            raise OptionError(f"hops is true or false, not {self.hops!r}")
        check_choice("linear", self.linear, ("dense", "sparse"))
        check_choice("updates", self.updates, ("every_step", "effective"))

    def warnings(self, record: Record, hardware: Hardware) -> list[str]:
        found = super().warnings(record, hardware)
        if hardware.note:
            found.append(f"{hardware.name}: {hardware.note}")
        return found

    def figures(self, layers: Sequence[Layer], hardware: Hardware) -> dict[str, float | str]:
        placed = self._place(layers, hardware)
        chip = hardware["mesh_width"] * hardware["mesh_height"] * hardware["tile_cores"]
        packets = hops = 0.0
        for layer in layers:
            if layer.is_product and layer.layer in placed.cores and not self._refused(layer):
                sent = self._packets(layer, placed)
                if sent == sent:
                    packets += sent
                    hops += sent * sum(placed.hops(layer.sources, layer).values())
        found: dict[str, float | str] = {
            "cores": placed.size,
            "chips": placed.size / max(1.0, chip),
            "packets": packets,
        }
        return {**found, "hops_per_packet": hops / packets} if packets and self.hops else found

    def price_layers(self, layers: Sequence[Layer], hardware: Hardware) -> list[Price | None]:
        placed = self._place(layers, hardware)
        return [None if layer.folded else self._price(layer, placed, hardware) for layer in layers]

    def price_layer(self, layer: Layer, hardware: Hardware) -> Price | None:
        return self._price(layer, self._place([layer], hardware), hardware)

    def _price(self, layer: Layer, placed: Placement, hardware: Hardware) -> Price | None:
        if layer.is_spiking:
            return self._soma(layer, hardware)
        if layer.is_neuron:
            return Price({"neuron": NAN}, "no price for a conventional activation on a spiking chip")
        if not layer.is_product:
            return None
        refused = self._refused(layer)
        if refused:
            return Price({"compute": NAN}, refused)
        kind = "conv" if layer.kind == "conv" else self.linear
        events = sum(
            unrolled(operation, "exact") * (self._kept(layer, operation) if kind == "sparse" else 1.0)
            for operation in layer.macs
        )
        compute = events * hardware[f"synapse_{kind}"]
        packets = self._packets(layer, placed)
        if packets != packets:
            note = "no price for the packets: the record does not count the spikes that enter"
            return Price({"compute": compute, "routing": NAN}, note)
        route = hardware["axon_out"] + hardware["axon_in"]
        if self.hops:
            way = placed.hops(layer.sources, layer)
            route += sum(way[direction] * hardware[f"hop_{direction}"] for direction in HOPS)
        return Price({"compute": compute, "routing": packets * route})

    def _soma(self, layer: Layer, hardware: Hardware) -> Price:
        updated = layer.updates
        if self.updates == "effective":
            updated = layer.effective_updates
            if updated != updated:
                return Price({"neuron": NAN}, "no price for updates: the record does not count the effective ones")
        spikes = 0.0 if layer.output == "real" else layer.nonzero_outputs
        if spikes != spikes:
            return Price({"neuron": NAN}, "no price for spikes sent: the record does not count them")
        energy = layer.updates * (hardware["soma_access"] + hardware["dendrite_update"])
        return Price({"neuron": energy + updated * hardware["soma_update"] + spikes * hardware["spike_out"]})

    @staticmethod
    def _kept(layer: Layer, operation: Any) -> float:
        """Share of the events that meet a weight which is not zero: as measured, or that of all weights."""
        if operation.sparse == operation.sparse and operation.exact:
            return float(operation.sparse / operation.exact)
        return layer.weight_nonzero / layer.weights if layer.weights else 1.0

    @staticmethod
    def _refused(layer: Layer) -> str:
        if layer.second_operand:
            return "no price for a product of two activations: it has no synapses"
        foreign = next((operation.operand for operation in layer.macs if operation.operand not in EVENTS), None)
        return f"no price for {foreign} inputs: no spikes arrive" if foreign else ""

    @staticmethod
    def _packets(layer: Layer, placed: Placement) -> float:
        """Spikes times the cores that each reaches; NaN where the record does not count spikes."""
        spikes = layer.magnitude if layer.magnitude == layer.magnitude else layer.nonzero
        if not spikes > 0:
            return float(spikes)
        targets = sum(unrolled(operation, "exact") for operation in layer.macs) / spikes
        return float(spikes * min(len(placed.cores[layer.layer]), max(1.0, targets)))

    @staticmethod
    def _place(layers: Sequence[Layer], hardware: Hardware) -> Placement:
        sizes = [max(1, int(hardware[name])) for name in ("core_neurons", "core_synapses", "tile_cores", "mesh_height")]
        return place(layers, Mesh(*sizes))
