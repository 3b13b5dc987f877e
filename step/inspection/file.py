"""Inspections in one safetensors file, kept beside a run so that a report needs no data set."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.protocols import Batches
from neurons import neurons_in
from neurons.errors import DataError
from step.inspection.activity import sends_spikes
from step.inspection.data import AttentionMap, Inspection, Layer, Shown
from step.inspection.network import inspect_probe
from step.learners import checkpoint

INSPECTION = "inspection.safetensors"
"""Name of the file in the folder of a run."""

STORED_IMAGES = 2
"""Samples that are pictured in what a run stores."""


def record_inspection(network: nn.Module, probe: Batches, path: Path) -> None:
    """Inspect a network on test samples and write what was found, small enough to keep for every run.

    Nothing is written for a network without spiking neurons and activations.
    """
    if not any(sends_spikes(neuron) for _, neuron in neurons_in(network)):
        return
    save_inspection(inspect_probe(network, probe, STORED_IMAGES), path)


def save_inspection(found: Inspection, path: Path) -> None:
    """Write an inspection; images with 8 bits a pixel, everything else as it is."""
    tensors: dict[str, Tensor] = {"samples": torch.tensor(found.samples)}
    if found.images is not None:
        tensors["images"] = torch.from_numpy(found.images).mul(255).round().to(torch.uint8)
    tensors |= {f"maps/{name}": torch.from_numpy(maps) for name, maps in found.maps.items()}
    attention = []
    for each in found.attention:
        tensors |= {
            f"received/{each.name}": torch.from_numpy(each.received), f"rows/{each.name}": torch.from_numpy(each.rows)
        }  # fmt: skip
        attention.append({"name": each.name, "kind": each.kind, "grid": each.grid, "queries": each.queries})
    facts = {
        "T": found.T, "layers": [asdict(layer) for layer in found.layers],
        "shown": [asdict(each) for each in found.shown], "maps": list(found.maps), "map_layers": found.map_layers,
        "attention": attention, "left_out": found.left_out,
    }  # fmt: skip
    checkpoint.write(path, tensors, facts)


def load_inspection(path: Path) -> Inspection:
    """Read what :func:`save_inspection` wrote.

    Raises
    ------
    DataError
        When the file is not a readable inspection.
    """
    try:
        tensors, facts = checkpoint.read(path)
        images = tensors.get("images")
        return Inspection(
            layers=[_layer(layer) for layer in facts["layers"]],
            samples=int(tensors["samples"]),
            T=facts["T"],
            shown=[Shown(**each) for each in facts["shown"]],
            images=None if images is None else images.float().div(255).numpy(),
            maps={name: tensors[f"maps/{name}"].numpy() for name in facts["maps"]},
            map_layers=facts["map_layers"],
            attention=[
                AttentionMap(
                    each["name"], each["kind"], (each["grid"][0], each["grid"][1]),
                    tensors[f"received/{each['name']}"].numpy(), tuple(each["queries"]),
                    tensors[f"rows/{each['name']}"].numpy(),
                )
                for each in facts["attention"]
            ],
            left_out=facts["left_out"],
        )  # fmt: skip
    except (DataError, KeyError, TypeError):
        raise DataError(f"{path} is not a readable inspection; delete it, and the report leaves it out") from None


def _layer(values: dict[str, Any]) -> Layer:
    # JSON knows no tuples
    known: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in ((field.name, values[field.name]) for field in fields(Layer))
    }
    return Layer(**known)
