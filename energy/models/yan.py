"""Yan et al.: a spiking network against the quantised network of equal capacity, with the movement of data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from energy.derive import twin_bits
from energy.hardware import Hardware
from energy.models.base import NAN, EnergyModel, Layer, Price, check_choice, check_positive, energy_models
from energy.record import EVENTS
from neurons.errors import OptionError


@energy_models.register("yan")
@dataclass(frozen=True, kw_only=True)
class Yan(EnergyModel):
    """Yan, Bai, Tang & Wong (arXiv 2409.08290): T rate-coded steps against ceil(log2(T + 1)) activation bits.

    Spiking, for each connection with spike rate s_r: T s_r (E_ACC + event bits x hops x E_event), or with dense
    dataflow T s_r E_ACC + T hops E_dense; for each neuron T E_CMP and E_SUB for each spike. Quantised with b bits and
    activation sparsity gamma: (1 - gamma) E_MAC + b hops E_dense for each connection, b E_CMP for each neuron to
    quantise. A weight is fetched once in the quantised network, T s_r times in event-driven and T times in dense
    dataflow.

    The composition follows descriptions of the paper; its equations were not available. Two of its numbers are not
    published there either: a bit of a weight (0.039 pJ) is fitted to four of its break-even points, and a product with
    b bits is taken as b accumulations. The model then meets the published break-even rates at T = 2, 3 and 5, their
    sensitivities, the point from which dense dataflow pays, and the ratios of VGG16 within 3 %; it does not meet the
    break-even rate at T = 1 (29.7 %).

    Parameters
    ----------
    hops : float
        Routers that a value passes.
    event_bits : float
        Bits of an event; the price of a bit has its share of metadata in it.
    weight_bits : int
        Those of a layer itself where its weights are narrower (not in the break-even rates).
    weight_bit : float, optional
        Reading one bit of a weight, in pJ; from the hardware when left out.
    mac_ratio : float, optional
        k = E_MAC / E_ACC; the activation bits when left out.
    movement : {"cheaper", "event", "dense"}
        How spikes move: as events, by dense dataflow, or whatever costs a layer less.
    weight_fetch : {"event", "once", "resident"}
        Weights of spiking layers are fetched for every step that uses them, once for all steps (temporal reuse), or
        sit where they are used.
    """

    source: ClassVar[str] = "Yan, Bai, Tang & Wong, arXiv 2409.08290 (v1 2024, v4 2026)"
    confidence: ClassVar[Literal["published", "reconstruction"]] = "reconstruction"
    ignores: ClassVar[tuple[str, ...]] = (
        "layers with real input (the same in both networks)", "products of two activations", "leak", "biases", "norms",
        "residual additions and pooling", "state memory", "control (favours spikes)", "static power",
    )  # fmt: skip
    profile: ClassVar[str] = "22nm"
    reuses_weights: ClassVar[bool] = True

    hops: float = 1.0
    event_bits: float = 1.0
    weight_bits: int = 8
    weight_bit: float | None = None
    mac_ratio: float | None = None
    movement: Literal["cheaper", "event", "dense"] = "cheaper"
    weight_fetch: Literal["event", "once", "resident"] = "event"

    def __post_init__(self) -> None:
        check_positive(hops=self.hops, event_bits=self.event_bits, weight_bit=self.weight_bit, mac_ratio=self.mac_ratio)
        if self.weight_bits < 1:
            raise OptionError(f"weight_bits must be at least 1, and is {self.weight_bits}")
        check_choice("movement", self.movement, ("cheaper", "event", "dense"))
        check_choice("weight_fetch", self.weight_fetch, ("event", "once", "resident"))

    def price_layer(self, layer: Layer, hardware: Hardware) -> Price | None:
        if layer.is_neuron:
            return self._neuron(layer, hardware)
        if not layer.is_product or layer.second_operand:
            return None
        if any(operation.operand == "real" for operation in layer.macs):
            return Price({"compute": NAN}, f"no price for real operands at {hardware.name}")
        if layer.operand in EVENTS:
            return self._spiking(layer, hardware)
        return self._quantised(layer, hardware)

    def _neuron(self, layer: Layer, hardware: Hardware) -> Price | None:
        if layer.output == "real":
            return None
        if layer.conventional:
            bits = max((moved.bits for moved in layer.memory if moved.role == "output"), default=1)
            return Price({"neuron": layer.updates * bits * hardware["cmp"]})
        if layer.nonzero_outputs != layer.nonzero_outputs:
            note = "no price for resets: how many spikes were sent is not in the record"
            return Price({"neuron": layer.updates * hardware["cmp"]}, note)
        return Price({"neuron": layer.updates * hardware["cmp"] + layer.nonzero_outputs * hardware["sub"]})

    def _spiking(self, layer: Layer, hardware: Hardware) -> Price:
        events, dense = _events(layer), layer.count("mac")
        uses = events * layer.T / dense if dense else 0.0
        fetched = self._weights(layer) * layer.weight_width(self.weight_bits) * self._weight_bit(hardware)
        by_event = {
            "memory_weight": fetched * {"event": uses, "once": min(1.0, uses), "resident": 0.0}[self.weight_fetch],
            "routing": events * self.event_bits * self.hops * hardware["event_move"],
        }
        by_dense = {
            "memory_weight": fetched * {"event": layer.T, "once": 1.0, "resident": 0.0}[self.weight_fetch],
            "routing": dense * self.hops * hardware["dense_move"],
        }
        moved = {"event": by_event, "dense": by_dense}.get(self.movement)
        if moved is None:
            moved = min(by_event, by_dense, key=lambda parts: sum(parts.values()))
        note = "dense dataflow" if moved is by_dense else ""
        return Price({"compute": events * hardware["acc"], **moved}, note)

    def _quantised(self, layer: Layer, hardware: Hardware) -> Price:
        compute = moved = 0.0
        for operation in layer.macs:
            ratio = operation.bits if self.mac_ratio is None else self.mac_ratio
            compute += operation.exact * ratio * hardware["acc"]
            moved += operation.dense * operation.bits * self.hops * hardware["dense_move"]
        weight = layer.weight_width(self.weight_bits) * self._weight_bit(hardware)
        weights = self._weights(layer) * layer.T * weight
        return Price({"compute": compute, "memory_weight": weights, "routing": moved})

    @staticmethod
    def _weights(layer: Layer) -> float:
        """Weights of a layer; where a record does not say, each connection has its own."""
        return float(layer.weights) or layer.count("mac") / layer.T

    def figures(self, layers: Sequence[Layer], hardware: Hardware) -> dict[str, float | str]:
        """Return the spike rate of the network beside the rates below which it wins (event-weighted; see the class)."""
        spiking = [
            layer for layer in layers if layer.is_product and not layer.second_operand and layer.operand in EVENTS
        ]
        connections = sum(layer.count("mac") / layer.T for layer in spiking)
        if not connections:
            return {}
        T = layers[0].record.T
        rate = sum(_events(layer) for layer in spiking) / sum(layer.count("mac") for layer in spiking)
        gamma = _sparsity(spiking)
        shared = sum(self._weights(layer) for layer in spiking) / connections
        limit = self.break_even(T, hardware, gamma=gamma, weights_per_connection=shared)
        found: dict[str, float | str] = {
            "T": T, "twin_bits": twin_bits(T), "spike_rate": rate, "break_even_rate": limit,
            "dense_dataflow_above": self.dense_dataflow_rate(hardware, weights_per_connection=shared),
            "verdict": "spiking may win" if rate < limit else "the quantised twin wins",
        }  # fmt: skip
        if gamma is not None:
            found |= {
                "gamma": gamma, "lowest_possible_rate": (1 - gamma) / T, "highest_possible_rate": 1 - gamma,
                "compute_only_rate": self._ratio(T) * (1 - gamma) / T,
            }  # fmt: skip
        return found

    def break_even(
        self, T: int, hardware: Hardware, *, gamma: float | None = None, weights_per_connection: float = 1.0
    ) -> float:
        """Return the spike rate per step below which event-driven spikes cost less than the quantised twin.

        Parameters
        ----------
        T : int
        hardware : Hardware
        gamma : float, optional
            Activation sparsity of the twin. When left out, the mean of what a spike rate allows,
            1 - gamma = 2 T s_r / (T + 1).
        weights_per_connection : float
            1 for a fully connected layer; the inverse of the number of positions for a convolution.
        """
        bits, acc = twin_bits(T), hardware["acc"]
        weight = self.weight_bits * self._weight_bit(hardware) * weights_per_connection
        fetched = 0.0 if self.weight_fetch == "resident" else weight
        spike = acc + self.event_bits * self.hops * hardware["event_move"]
        twin = weight + bits * self.hops * hardware["dense_move"]
        if self.weight_fetch == "event":
            spike += fetched
        mac = self._ratio(T) * acc
        if gamma is None:
            spike -= mac * 2 / (T + 1)
        else:
            twin += mac * (1 - gamma)
        if self.weight_fetch == "once" and twin - fetched > spike:
            # Above one spike for each connection every weight is fetched.
            return (twin - fetched) / (T * spike)
        return twin / (T * (spike + (fetched if self.weight_fetch == "once" else 0.0)))

    def dense_dataflow_rate(self, hardware: Hardware, *, weights_per_connection: float = 1.0) -> float:
        """Return the spike rate per step above which dense dataflow costs less than events."""
        weight = (
            self.weight_bits * self._weight_bit(hardware) * weights_per_connection
            if self.weight_fetch == "event"
            else 0.0
        )
        event = self.event_bits * self.hops * hardware["event_move"] + weight
        return (self.hops * hardware["dense_move"] + weight) / event if event else NAN

    def _weight_bit(self, hardware: Hardware) -> float:
        return hardware["weight_bit"] if self.weight_bit is None else self.weight_bit

    def _ratio(self, T: int) -> float:
        return float(twin_bits(T)) if self.mac_ratio is None else self.mac_ratio


def _events(layer: Layer) -> float:
    """Spikes that cross connections, a sum of spikes as so many."""
    return float(sum(op.exact if op.events_exact != op.events_exact else op.events_exact for op in layer.macs))


def _sparsity(spiking: Sequence[Layer]) -> float | None:
    """Share of inputs that no spike reaches over all steps, weighted by connections; None where it was not counted."""
    counts = spiking[0].record.counts
    silent = total = 0.0
    for layer in spiking:
        rows = counts[counts["layer"] == layer.layer]
        values = float(rows["values"].sum())
        if not values:
            return None
        connections = layer.count("mac") / layer.T
        silent += connections * float(rows.loc[rows["spikes"] == 0, "values"].sum()) / values
        total += connections
    return silent / total
