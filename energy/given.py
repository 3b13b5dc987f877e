"""Records from counts that somebody else printed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from energy.schema import CONVENTIONS, EVENTS, LAYER_COLUMNS, OPERANDS, OPERATION_COLUMNS, row
from neurons.errors import OptionError, suggest


def frames(layers: Iterable[Mapping[str, Any]], T: int) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of a record by table; see :meth:`energy.Record.from_layers`."""
    rows: dict[str, list[dict[str, Any]]] = {"layers": [], "operations": [], "memory": []}
    known = {*LAYER_COLUMNS, *OPERATION_COLUMNS, "effective", "ops"}
    for order, given in enumerate(layers):
        layer = {"layer": f"layer-{order}", "kind": "linear", "T": T, "order": order, **given}
        for key, value in layer.items():
            if key not in known:
                raise OptionError(f"layer {layer['layer']!r} has no column {key!r}{suggest(key, known)}")
            if isinstance(value, (int, float)) and value < 0:
                raise OptionError(f"layer {layer['layer']!r}: {key} must not be negative, and is {value}")
        build = _neuron_rows if layer["kind"] == "neuron" else _product_rows
        for name, found in build(layer).items():
            rows[name] += found
    return rows


def _product_rows(layer: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    for needed in ("dense", "operand"):
        if needed not in layer:
            raise OptionError(f"layer {layer['layer']!r} needs {needed!r}")
    if layer["operand"] not in OPERANDS:
        raise OptionError(f"layer {layer['layer']!r}: the operand is one of {', '.join(OPERANDS)}")
    dense = layer["dense"]
    effective = layer.get("effective", dense)
    values = {"op": "mac", "dense_nominal": dense, **dict.fromkeys(CONVENTIONS, effective), **layer}
    if layer["operand"] in EVENTS:
        for kind in ("events", "planes"):
            values.setdefault(f"{kind}_exact", values["exact"])
            values.setdefault(f"{kind}_nominal", values["nominal"])
    values.setdefault("bits", {"binary": 1, "ternary": 2, "real": 32}.get(layer["operand"], 8))
    memory = [
        {"role": "weight", "policy": "dense", "elements": values["dense"]},
        {"role": "weight", "policy": "event", "elements": values["exact"]},
        {"role": "input", "elements": layer.get("inputs", 0.0), "bits": values["bits"]},
    ]
    return {
        "layers": [row("layers", values)],
        "operations": [row("operations", values)],
        "memory": [row("memory", {"layer": layer["layer"], **moved}) for moved in memory],
    }


def _neuron_rows(layer: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    if "updates" not in layer:
        raise OptionError(f"neuron layer {layer['layer']!r} needs 'updates'")
    updates, states = layer["updates"], layer.get("states", 1)
    values = {"outputs": updates, "conventional": False, "neurons": updates / layer["T"], **layer, "states": states}
    operations = []
    for op, count in layer.get("ops", {}).items():
        counts = dict.fromkeys(("dense", "dense_nominal", *CONVENTIONS), updates * count)
        operations.append(row("operations", {"layer": layer["layer"], "op": op, **counts}))
    memory = [
        row("memory", {"layer": layer["layer"], "role": "state", "direction": way, "elements": updates * states})
        for way in ("read", "write")
    ]
    return {"layers": [row("layers", values)], "operations": operations, "memory": memory}
