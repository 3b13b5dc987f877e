"""Lemaire et al. 2022: local memories, arithmetic and addressing of sequential spiking and formal networks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from energy.hardware import Hardware
from energy.models.base import NAN, EnergyModel, Layer, Price, check_choice, check_positive, energy_models, unrolled
from energy.record import Record
from neurons.errors import OptionError

Reading = Literal["a", "b", "c"]
Addressing = Literal["product", "sum"]
Hybrid = Literal["sparse", "dense"]


@energy_models.register("lemaire")
@dataclass(frozen=True, kw_only=True)
class Lemaire(EnergyModel):
    """E = E_memory + E_operations + E_addressing, with memories of each layer's own size (Lemaire et al. 2022).

    A formal layer reads inputs, weights and biases, multiplies and accumulates, and writes its outputs. A layer that
    spikes reach does the same for each of the theta spikes of an inference, and reads and writes a potential each
    time; its neurons update at every step. Equation numbers are those of the paper.

    ========================  =================================  =======================  ==========================
    count                     formal, convolution                formal, linear           spiking (conv; linear: K = 1)
    ========================  =================================  =======================  ==========================
    input reads (3)-(5)       Ci Co Ho Wo K                      Nin                      theta
    weight reads (6)-(8)      Ci Co Ho Wo K                      Nin Nout                 theta Co K
    bias reads                Co Ho Wo                           Nout                     T Co Ho Wo
    potential reads, writes   -                                  -                        theta Co K + T Co Ho Wo each
    output writes (11)-(13)   Co Ho Wo                           Nout                     theta_out
    MAC                       Ci Co Ho Wo K                      Nin Nout                 T Co Ho Wo (leak, LIF only)
    ACC (1.4) (2.4)           Co Ho Wo (bias)                    Nout (bias)              theta Co ceil(kh/S) ceil(kw/S)
                                                                                          + T Co Ho Wo + theta_out
    addressing MAC (16.2)     -                                  -                        2 theta (linear: none)
    addressing ACC            Ci Hi Wi + Co Ho Wo + Co K         see ``addressing``       theta Co K
    ========================  =================================  =======================  ==========================

    The terms with T and theta_out stand on the row of the neuron; a layer of spikes without a neuron behind it (a
    readout) carries its own T Co Ho Wo. Sums of k spikes are k spikes.

    Errors of publications, not repeated here: the paper's (2.4) multiplies the fan-out of a linear layer by Nin once
    more, and lacks its third term, the reset; both public implementations correct that. Of those, Qualia drops Co from
    the addressing of spiking convolutions, and takes the spikes of one input where all theta belong in that of
    spiking linear layers; and a layer that real values reach pays bias and leak for one step only.

    Parameters
    ----------
    reading : {"a", "b", "c"}
        Price of an access. ``a``: 13.2 pJ and 1.09e-5 pJ for every bit that the memory holds, one access for each
        datum of any width (Qualia, "ICONIP"). ``b``: 10 pJ for a 64-bit access to 8 KB, shared by the data that fit
        in it (Qualia, "new"). ``c``: straight lines through 0, 8, 32 and 1024 KB, 0, 10, 20 and 100 pJ, clamped
        above, an access taken as 32 bits wide (SpikingJelly 2.0.0). The three differ by up to 3x.
    bits : {32, 8}
        Width of all data, and type of adders and multipliers.
    fifo : int, optional
        Messages that the queues of spikes at input and output can hold; 0 for the readings ``a`` and ``b`` and 1000
        for ``c``, as in the two implementations, when left out.
    addressing : {"product", "sum"}, optional
        Addressing of formal linear layers: Nin Nout additions (Qualia, the default of ``a`` and ``b``) or Nin + Nout
        (SpikingJelly, the default of ``c``).
    hybrid : {"sparse", "dense"}, optional
        A layer with real input before spiking neurons: non-zero values of one step as if they were spikes, with
        multiplications, and potentials updated for them at every step (Qualia, the default of ``a`` and ``b``); or
        a formal layer of every step it ran, whose output the neurons take (SpikingJelly, the default of ``c``).
    """

    source: ClassVar[str] = (
        "Lemaire et al., An Analytical Estimation of Spiking Neural Networks Energy Efficiency, ICONIP 2022, arXiv "
        "2210.13107; equations as coded by its laboratory in Qualia 2.6.0, and by SpikingJelly 2.0.0"
    )
    ignores: ClassVar[tuple[str, ...]] = (
        "DRAM", "routing", "static power", "norms (assumed folded)", "residual additions and pooling",
        "products of two activations", "softmax", "conventional activation functions",
    )  # fmt: skip
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {each: {"reading": each} for each in ("a", "b", "c")}

    reading: Reading = "a"
    bits: Literal[32, 8] = 32
    fifo: int | None = None
    addressing: Addressing | None = None
    hybrid: Hybrid | None = None

    def __post_init__(self) -> None:
        check_choice("reading", self.reading, ("a", "b", "c"))
        check_positive(fifo=self.fifo)
        if self.addressing is not None:
            check_choice("addressing", self.addressing, ("product", "sum"))
        if self.hybrid is not None:
            check_choice("hybrid", self.hybrid, ("sparse", "dense"))
        if self.bits not in (8, 32):
            raise OptionError(f"bits is 8 or 32, not {self.bits!r}")

    def warnings(self, record: Record, hardware: Hardware) -> list[str]:
        found = super().warnings(record, hardware)
        rows = record.spiking
        unknown = [str(row.layer) for row in rows.itertuples() if _leaks(row) is None]
        if unknown:
            found.append(f"no leak is charged, since the record does not say whether they leak: {', '.join(unknown)}")
        attention = record.layers.loc[record.layers["kind"] == "matmul", "layer"]
        if len(attention):
            found.append(f"products of two activations are unknown to it and not in the total: {', '.join(attention)}")
        return found

    def price_layer(self, layer: Layer, hardware: Hardware) -> Price | None:
        if layer.is_spiking:
            return self._neurons(layer, hardware)
        if layer.kind not in ("conv", "linear") or layer.second_operand:
            return None
        if layer.gets_events:
            return self._spiking(layer, hardware)
        sparse = self.hybrid == "sparse" if self.hybrid else self.reading != "c"
        if layer.feeds_spiking and sparse:
            return self._hybrid(layer, hardware)
        return self._formal(layer, hardware)

    # Layers -------------------------------------------------------------------------------------------------------

    def _formal(self, layer: Layer, hardware: Hardware) -> Price:
        macs = sum(operation.dense_nominal for operation in layer.macs)
        inputs, outputs = _known(layer.inputs), _outputs(layer)
        biases = outputs if layer.bias else 0.0
        reads = macs if layer.kind == "conv" else inputs
        moved = reads * self._access(hardware, inputs / layer.T)
        additions = 0.0
        if not layer.feeds_spiking:  # spiking neurons take the sums, and pay for their additions
            moved += outputs * self._access(hardware, outputs / layer.T)
            additions = biases
        if layer.kind == "conv":
            addresses = inputs + outputs + layer.T * _kernel_rows(layer)
        else:
            by_product = self.addressing == "product" if self.addressing else self.reading != "c"
            addresses = macs if by_product else inputs + outputs
        return _priced(
            compute=macs * self._mac(hardware) + additions * self._add(hardware),
            memory_weight=self._weights(layer, hardware, macs, biases),
            memory_activation=moved,
            addressing=addresses * self._add(hardware),
        )

    def _spiking(self, layer: Layer, hardware: Hardware) -> Price:
        synapses = sum(unrolled(operation, "fan_out") for operation in layer.macs)
        fetches = sum(unrolled(operation, "kernel") for operation in layer.macs)
        theta, outputs = _events(layer), _outputs(layer)
        # Without a neuron of its own, a layer keeps the sums that it hands out as potentials.
        updates = 0.0 if layer.feeds_spiking else outputs
        return _priced(
            compute=(synapses + updates) * self._add(hardware),
            memory_weight=self._weights(layer, hardware, fetches, outputs if layer.bias else 0.0),
            memory_state=2 * (fetches + updates) * self._access(hardware, _potentials(layer)),
            memory_activation=theta * self._queue(hardware),
            addressing=self._event_addresses(layer, hardware, theta, fetches),
        )

    def _hybrid(self, layer: Layer, hardware: Hardware) -> Price:
        steps = layer.neuron_behind.T if layer.neuron_behind else layer.T
        once = 1 / layer.T
        macs = sum(operation.nominal for operation in layer.macs) * once
        fetches = sum(operation.kernel for operation in layer.macs) * once
        values = (layer.nonzero if layer.nonzero == layer.nonzero else _known(layer.inputs)) * once
        biases = _outputs(layer) * once * steps if layer.bias else 0.0
        return _priced(
            compute=macs * self._mac(hardware),
            memory_weight=self._weights(layer, hardware, fetches, biases),
            memory_state=2 * steps * fetches * self._access(hardware, _potentials(layer)),
            memory_activation=values * self._queue(hardware),
            addressing=self._event_addresses(layer, hardware, values, fetches),
        )

    def _neurons(self, layer: Layer, hardware: Hardware) -> Price:
        if layer.states != 1:
            return Price(note=f"no price for a neuron with {layer.states:g} state words: the model knows one potential")
        spikes = 0.0 if layer.output == "real" else layer.nonzero_outputs
        additions = layer.updates + (spikes if spikes == spikes else 0.0)
        leaks = layer.updates if _leaks(layer) else 0.0
        price = _priced(
            neuron=additions * self._add(hardware) + leaks * self._mac(hardware),
            memory_state=2 * layer.updates * self._access(hardware, layer.neurons),
            memory_activation=spikes * self._queue(hardware),
        )
        if spikes != spikes:
            price.note = "no price for output spikes and resets: the record does not count them"
        return price

    # Prices -------------------------------------------------------------------------------------------------------

    def _add(self, hardware: Hardware) -> float:
        return hardware[f"int{self.bits}_add"]

    def _mac(self, hardware: Hardware) -> float:
        return hardware[f"int{self.bits}_mul"] + hardware[f"int{self.bits}_add"]

    def _access(self, hardware: Hardware, elements: float) -> float:
        """Price of reading or writing one datum in a memory of so many."""
        if self.reading == "a":
            return hardware["lemaire_sram_per_bit"] * elements * self.bits + hardware["lemaire_sram_offset"]
        if self.reading == "b":
            return hardware["sram_8kb"] * self.bits / 64
        sizes = (0, 8, 32, 1024)
        prices = (0.0, *(hardware[f"sram_{size}kb"] for size in sizes[1:]))
        return float(np.interp(elements * self.bits / 8, [size * 1024 for size in sizes], prices)) * self.bits / 32

    def _queue(self, hardware: Hardware) -> float:
        messages = (1000 if self.reading == "c" else 0) if self.fifo is None else self.fifo
        return self._access(hardware, messages)

    def _weights(self, layer: Layer, hardware: Hardware, reads: float, bias_reads: float) -> float:
        weights = _known(layer.weights)
        if self.reading == "c":
            return (reads + bias_reads) * self._access(hardware, weights + layer.bias)
        return reads * self._access(hardware, weights) + bias_reads * self._access(hardware, layer.bias)

    def _event_addresses(self, layer: Layer, hardware: Hardware, events: float, fetches: float) -> float:
        first = 2 * events * self._mac(hardware) if layer.kind == "conv" else 0.0
        return first + fetches * self._add(hardware)


def _priced(**parts: float) -> Price:
    unknown = [name for name, value in parts.items() if math.isnan(value)]
    note = f"no price for {', '.join(unknown)}: the record lacks sizes of the layer" if unknown else ""
    return Price(parts, note)


def _known(size: float) -> float:
    return float(size) if size > 0 else NAN


def _outputs(layer: Layer) -> float:
    """Outputs of an inference, all steps; a record made from counts may hold them in the neuron behind only."""
    if layer.outputs > 0:
        return float(layer.outputs)
    neuron = layer.neuron_behind
    return float(neuron.updates) if neuron is not None else NAN


def _potentials(layer: Layer) -> float:
    neuron = layer.neuron_behind
    return float(neuron.neurons) if neuron is not None and neuron.is_spiking else _outputs(layer) / layer.T


def _events(layer: Layer) -> float:
    """Spikes that reach a layer, or the share of its synapses that they use where the record counts only those."""
    for count in (layer.magnitude, layer.nonzero):
        if count == count:
            return float(count)
    dense = layer.count("mac")
    return _known(layer.inputs) * sum(unrolled(o, "exact") for o in layer.macs) / dense if dense else 0.0


def _kernel_rows(layer: Layer) -> float:
    if layer.kernel_size is None or layer.out_channels is None:
        return NAN
    return float(layer.out_channels) * math.prod(map(int, layer.kernel_size.split("x")))


def _leaks(neuron: Any) -> bool | None:
    """Whether the potential of a neuron decays; None where neither the record nor the name tells."""
    if isinstance(neuron.leaky, (bool, np.bool_)):
        return bool(neuron.leaky)
    name = str(neuron.neuron or neuron.module or "").lower()
    if name.startswith("if"):
        return False
    return True if "lif" in name or "leak" in name else None
