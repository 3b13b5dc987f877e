"""NeuroBench: the complexity figures of its algorithm track, from the record."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from energy.hardware import Hardware
from energy.models.base import EnergyModel, Layer, Price, check_choice, check_positive, energy_models

UPDATE_OPERATIONS = {
    "Leaky": {"subtract": 4, "zero": 4}, "Synaptic": {"subtract": 6, "zero": 8},
    "Lapicque": {"subtract": 11, "zero": 11}, "Alpha": {"subtract": 18, "zero": 24},
}  # fmt: skip
"""Operations of one update of an snnTorch neuron, by reset mechanism, as NeuroBench 2.3.0 has them."""
UNKNOWN = "unknown"
_FUNCTIONAL = re.compile(r"(^|\.)(conv|linear)-\d+$")


@energy_models.register("neurobench")
@dataclass(frozen=True, kw_only=True)
class NeuroBench(EnergyModel):
    """The algorithm-track figures of NeuroBench 2.3.0 (Yik et al. 2025); the price of them is a conversion of ours.

    NeuroBench counts and publishes no energy. Its figures are in ``figures``: memory footprint, parameters,
    connection and activation sparsity, synaptic operations (dense; effective as MACs or as ACs), membrane updates and
    neuron operations, all for one inference of T steps. Effective operations need an input and a weight that are not
    zero. They are ACs when the inputs of a call are all -1, 0 or 1, which a first layer on black and white pixels is
    as well. The price takes 4.6 pJ for an effective MAC and 0.9 pJ for an effective AC.

    What a record does not hold is left out or marked: buffers other than those of norms, and parameters of neurons;
    modules that did not run; whether spikes have the height one; the reset of a neuron (``reset``). A record without
    sparse operations of layers that have zero weights gives their share of non-zero weights: right in the mean over
    inputs that do not know where the zeros are, and marked as approximate. Products of two activations, functional
    calls, and what recurrent cells do beside their matrices are not counted. Membrane updates need a record that was
    measured by step.

    Parameters
    ----------
    mac, ac : float, optional
        Price of one effective operation in pJ; from the hardware (fp32) when left out.
    reset : {"subtract", "zero"}
        Reset of snnTorch neurons, which sets the operations of an update.
    """

    source: ClassVar[str] = "NeuroBench 2.3.0 (Yik et al., Nature Communications 2025); conversion to joules by STEP"
    ignores: ClassVar[tuple[str, ...]] = (
        "products of two activations", "functional calls", "neuron updates (in the price)", "biases", "norms",
        "pooling", "memory", "addressing", "routing", "static power",
    )  # fmt: skip

    mac: float | None = None
    ac: float | None = None
    reset: Literal["subtract", "zero"] = "subtract"

    def __post_init__(self) -> None:
        check_positive(mac=self.mac, ac=self.ac)
        check_choice("reset", self.reset, ("subtract", "zero"))

    def price_layer(self, layer: Layer, hardware: Hardware) -> Price | None:
        if not _is_connection(layer):
            return None
        add = hardware["fp32_add"]
        mac = hardware["fp32_mul"] + add if self.mac is None else self.mac
        macs, acs = effective_operations(layer)
        note = "effective operations approximate: some weights are zero" if _is_approximate(layer) else ""
        return Price({"compute": macs * mac + acs * (add if self.ac is None else self.ac)}, note)

    def figures(self, layers: Sequence[Layer], hardware: Hardware) -> dict[str, float | str]:
        """Return the figures of the algorithm track; "unknown" stands for what the record did not measure."""
        connections = [layer for layer in layers if _is_connection(layer)]
        effective = [effective_operations(layer) for layer in connections]
        weights = sum(layer.weights for layer in connections)
        nonzero = sum(_nonzero_weights(layer) for layer in connections)
        approximate = any(_is_approximate(layer) for layer in connections)
        return {
            "T": layers[0].record.T if layers else UNKNOWN,
            "footprint": sum(_bytes(layer) for layer in layers),
            "parameter_count": sum(_parameters(layer) for layer in layers),
            "connection_sparsity": round(1 - nonzero / weights, 4) if weights else UNKNOWN,
            "activation_sparsity": _activation_sparsity(layers),
            "dense_synaptic_operations": sum(layer.count("mac") for layer in connections),
            "effective_macs": sum(macs for macs, _ in effective),
            "effective_acs": sum(acs for _, acs in effective),
            "effective_operations": "approximate: some weights are zero" if approximate else "exact",
            **self._neurons(layers),
            "price": "4.6 / 0.9 pJ for an effective MAC / AC is a conversion of ours; NeuroBench publishes no energy",
        }

    def _neurons(self, layers: Sequence[Layer]) -> dict[str, float | str]:
        neurons = [layer for layer in layers if layer.is_spiking]
        updates = [float(layer.effective_updates) for layer in neurons]
        cost = [self._update_cost(layer) for layer in neurons]
        changed = sum(updates)
        known = changed == changed
        return {
            "membrane_updates": changed if known else UNKNOWN,
            "dense_neuron_operations": sum(c * layer.updates for c, layer in zip(cost, neurons, strict=True)),
            "effective_neuron_operations": (
                sum(c * u for c, u in zip(cost, updates, strict=True)) if known else UNKNOWN
            ),
        }

    def _update_cost(self, layer: Layer) -> float:
        """Operations of one update: NeuroBench's table for snnTorch neurons, our own count for others."""
        if layer.neuron in UPDATE_OPERATIONS:
            return float(UPDATE_OPERATIONS[layer.neuron][self.reset])
        total = sum(operation.dense for operation in layer.operations)
        return float(total / layer.updates) if layer.updates else 0.0


def effective_operations(layer: Layer) -> tuple[float, float]:
    """Return the effective MACs and ACs of a layer with weights."""
    share = _nonzero_weights(layer) / layer.weights if layer.weights else 1.0
    macs = acs = 0.0
    for operation in layer.macs:
        count = operation.sparse if _is_known(operation.sparse) else operation.exact * share
        if operation.operand in ("binary", "ternary"):
            acs += count
        else:
            macs += count
    return macs, acs


def _is_approximate(layer: Layer) -> bool:
    """Whether some weights are zero and the record did not count which operations meet them."""
    return _nonzero_weights(layer) < layer.weights and not _is_sparse_known(layer)


def _is_sparse_known(layer: Layer) -> bool:
    return all(_is_known(operation.sparse) for operation in layer.macs)


def _nonzero_weights(layer: Layer) -> int:
    """Weights that are not zero; all of them in records of given counts that do not say."""
    stated = layer.weight_nonzero or _is_sparse_known(layer)
    return int(layer.weight_nonzero if stated else layer.weights)


def _is_known(count: Any) -> bool:
    return bool(count == count)


def _is_connection(layer: Layer) -> bool:
    if not layer.is_product or layer.second_operand or layer.module.startswith("ConvTranspose"):
        return False
    # A functional call is a row of its own, named after the call; so are the products of a recurrent cell, which count.
    return layer.module.endswith("Cell") or layer.inside is not None or not _FUNCTIONAL.search(layer.layer)


def _bytes(layer: Layer) -> float:
    held = layer.weights + layer.bias
    return float(held * layer.weight_bits / 8) if held else 0.0


def _parameters(layer: Layer) -> float:
    # Half of what a batch norm holds are running statistics: buffers.
    buffers = layer.weights / 2 if layer.kind == "norm" and "BatchNorm" in layer.module else 0
    return float(layer.weights + layer.bias - buffers)


def _activation_sparsity(layers: Sequence[Layer]) -> float | str:
    sending = [layer for layer in layers if layer.is_neuron or layer.module in ("ReLU", "Sigmoid")]
    values = sum(layer.outputs for layer in sending)
    nonzero = float(sum(layer.nonzero_outputs for layer in sending))
    return (values - nonzero) / values if values and nonzero == nonzero else UNKNOWN
