"""SpikeSim: convolutions on analogue crossbars, priced by the cycles of their processing elements."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from energy.hardware import Hardware
from energy.models.base import NAN, EnergyModel, Layer, Price, check_choice, energy_models
from energy.record import Record
from neurons.errors import OptionError

_MULTIPLEXED = 8
"""Columns that share an analogue-to-digital converter, and rows that are driven in turn."""
_INPUT_BITS = 16


@energy_models.register("spikesim")
@dataclass(frozen=True, kw_only=True)
class SpikeSim(EnergyModel):
    """Cycles of processing elements times the energy of a cycle (SpikeSim, 65 nm), whatever the spikes.

    A layer of C_i to C_o channels takes ceil(C_i / B) ceil(C_o / B) crossbars of B rows, each of which runs once for
    every output position and step. A cycle costs the tree that brings the data, a fetch and buffers, B/8 subtractions
    of 16 bits, (B/8)^2 conversions and multiplexers, B/8 arrays for each tap of the kernel, and the neuron at the end.
    Silence saves nothing. Only plain two-dimensional convolutions are priced; the neurons behind them are in the
    cycle.

    Parameters
    ----------
    device : {"rram", "sram"}
        What the crossbars are made of.
    crossbar_size : int
        Rows and columns B of a crossbar.
    """

    source: ClassVar[str] = (
        "Moitra et al., SpikeSim, IEEE TCAD 2023 (10.1109/TCAD.2023.3274918); constants as in SpikingJelly 2.0.0"
    )
    ignores: ClassVar[tuple[str, ...]] = (
        "sparsity of spikes", "layers that are not convolutions", "grouped and transposed convolutions", "DRAM",
        "biases", "norms (assumed folded)", "pooling and residual additions", "static power",
    )  # fmt: skip
    profile: ClassVar[str] = "spikesim-65nm"
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"rram": {}, "sram": {"device": "sram"}}
    reuses_weights: ClassVar[bool] = True

    device: Literal["rram", "sram"] = "rram"
    crossbar_size: int = 64

    def __post_init__(self) -> None:
        check_choice("device", self.device, ("rram", "sram"))
        if self.crossbar_size < _MULTIPLEXED or self.crossbar_size % _MULTIPLEXED:
            raise OptionError(f"crossbar_size is a multiple of {_MULTIPLEXED}, not {self.crossbar_size}")

    def warnings(self, record: Record, hardware: Hardware) -> list[str]:
        found = super().warnings(record, hardware)
        layers = record.layers
        real = layers[(layers["kind"] == "conv") & layers["operand"].isin(("real", "quantised"))]["layer"]
        if len(real):
            found.append(f"crossbars read spikes; priced as if they came as spikes: {', '.join(real)}")
        return found

    def skips_silence(self, hardware: Hardware) -> bool:
        return False

    def price_layer(self, layer: Layer, hardware: Hardware) -> Price | None:
        if layer.kind != "conv" or not layer.kernel_size or layer.groups > 1 or "Transpose" in layer.module:
            return None
        kernel = [int(size) for size in layer.kernel_size.split("x")]
        if len(kernel) != 2:
            return None
        if not (layer.in_channels > 0 and layer.out_channels > 0 and layer.outputs > 0):
            return Price({"compute": NAN}, "no price without the channels and outputs of the layer")
        crossbars = math.ceil(layer.in_channels / self.crossbar_size) * math.ceil(
            layer.out_channels / self.crossbar_size
        )
        cycles = crossbars * layer.outputs / layer.out_channels
        share = self.crossbar_size / _MULTIPLEXED
        arrays = share * math.prod(kernel) * hardware[f"crossbar_{self.device}"]
        conversion = share**2 * (hardware["adc"] + hardware["mux"]) + share * _INPUT_BITS * hardware["subtract"]
        buffers = hardware["tile_buffer"] + hardware["fetch"] + share * hardware["temp_buffer"]
        return Price(
            {
                "compute": cycles * (arrays + conversion),
                "neuron": cycles * hardware["neuron"],
                "memory_activation": cycles * buffers,
                "routing": cycles * hardware["htree"],
            }
        )
