"""SpikingBrain's account: a product costs one integer addition for each spike of its input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from energy.hardware import Hardware
from energy.models.base import NAN, EnergyModel, Layer, Price, check_choice, check_positive, energy_models
from energy.record import EVENTS


@energy_models.register("spikingbrain")
@dataclass(frozen=True, kw_only=True)
class SpikingBrain(EnergyModel):
    """A multiply-accumulate on spikes costs its mean number of spikes times one int8 addition (SpikingBrain, 2026).

    E = MACs x (mean spikes per input) x E_add(int8): equation 24, where 1.13 spikes x 0.03 pJ = 0.034 pJ stand
    against 1.5 pJ of an fp16 and 0.23 pJ of an int8 multiply-accumulate. Other operands cost just those two, densely:
    whatever has a real side an fp16, quantised codes an int8 multiply-accumulate. Of two activations, each spike of
    the one adds the values of the other.

    Parameters
    ----------
    code : {"bits", "unary"}
        A sum of k spikes as the one-bits of k (the code that the paper runs), or as k spikes.
    quantised : {"mac", "spikes"}
        Quantised codes as int8 multiply-accumulates, or expanded to spikes of their own.
    add : float, optional
        Price of an addition in pJ; int8_add of the hardware when left out. Sums of int8 weights need 16 to 32 bits,
        0.05 to 0.1 pJ.

    Notes
    -----
    The report prints savings of 43.48x over fp16 and 6.76x over int8, which are the inverses of the rounded
    percentages 97.7 and 85.2; the prices themselves give 44.25x and 6.78x.
    """

    source: ClassVar[str] = "SpikingBrain Technical Report, TMLR 2026, arXiv 2509.05276, section 5.5 and equation 24"
    ignores: ClassVar[tuple[str, ...]] = (
        "memory (skipped fetches of silent channels too)", "accumulators wider than 8 bits", "shifts of bit planes",
        "thresholds: mean of |x|, division, rounding, rescaling", "neuron updates", "biases",
        "softmax, gates, norms and states of linear attention", "asynchronous control", "routing", "static power",
    )  # fmt: skip

    code: Literal["bits", "unary"] = "bits"
    quantised: Literal["mac", "spikes"] = "mac"
    add: float | None = None

    def __post_init__(self) -> None:
        check_choice("code", self.code, ("bits", "unary"))
        check_choice("quantised", self.quantised, ("mac", "spikes"))
        check_positive(add=self.add)

    def price_layer(self, layer: Layer, hardware: Hardware) -> Price | None:
        if not layer.is_product:
            return None
        energy = 0.0
        for operation in layer.macs:
            if self._on_spikes(operation):
                spikes = self._spikes(layer, operation)
                if spikes != spikes:
                    return Price({"compute": NAN}, f"no price for {operation.operand} inputs without spike counts")
                energy += spikes * self._add(hardware)
            else:
                real = "real" in (operation.operand, operation.second_operand)
                kind = "fp16" if real else "int8"
                energy += operation.dense_nominal * (hardware[f"{kind}_mul"] + hardware[f"{kind}_add"])
        return Price({"compute": energy})

    def figures(self, layers: Sequence[Layer], hardware: Hardware) -> dict[str, float | str]:
        spikes = macs = silent = channels = 0.0
        for layer in layers:
            for operation in layer.macs if layer.is_product else ():
                if self._on_spikes(operation) and operation.dense_nominal:
                    macs += operation.dense_nominal
                    spikes += self._spikes(layer, operation)
            if layer.is_product and layer.silent_channels == layer.silent_channels:
                width = layer.in_channels if layer.in_channels > 0 else 1
                silent += layer.silent_channels * width
                channels += width
        if not macs:
            return {}
        price = spikes / macs * self._add(hardware)
        found: dict[str, float | str] = {"spikes_per_mac": spikes / macs, "pJ_per_mac": price}
        for kind in ("fp16", "int8"):
            found[f"saving_over_{kind}"] = 1 - price / (hardware[f"{kind}_mul"] + hardware[f"{kind}_add"])
        if channels:
            found["silent_channels"] = silent / channels
        return found

    def _add(self, hardware: Hardware) -> float:
        return hardware["int8_add"] if self.add is None else self.add

    def _is_spikes(self, operand: str | None) -> bool:
        return operand in EVENTS or (operand == "quantised" and self.quantised == "spikes")

    def _on_spikes(self, operation: Any) -> bool:
        sides = (operation.operand, operation.second_operand)
        return "real" not in sides and any(self._is_spikes(side) for side in sides)

    def _spikes(self, layer: Layer, operation: Any) -> float:
        """Spikes of all products: of the input, or of the side of two activations that is spikes (the first of two)."""
        if operation.second_operand is None and self.code == "bits":
            return float(operation.planes_nominal)
        if operation.second_operand is None and operation.operand in EVENTS:
            return float(operation.events_nominal)
        side = "" if self._is_spikes(operation.operand) else "second_"
        spikes = getattr(layer, f"{side}{'popcount' if self.code == 'bits' else 'magnitude'}")
        values = getattr(layer, f"{side}inputs")
        return float(spikes / values * operation.dense_nominal) if values else NAN
