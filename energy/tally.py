"""Sums the counts of several calls and batches into an operation record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from energy.activity import Activity
from energy.operands import widest
from energy.record import Record
from energy.schema import CONVENTIONS, EVENTS, row

_COUNTS = (
    "calls", "inputs", "nonzero", "magnitude", "popcount", "second_inputs", "second_nonzero", "second_magnitude",
    "second_popcount", "outputs", "nonzero_outputs", "updates", "steps",
    "dense", "dense_nominal", *CONVENTIONS, "sparse", "events_exact", "events_nominal", "planes_exact",
    "planes_nominal", "elements", "effective_updates",
)  # fmt: skip
_CLASSES = ("operand", "second_operand")
_LARGEST = ("bits", "second_bits", "neurons", "largest", "resident")
_SETS = ("sources",)


class Tally:
    """Rows of a record under construction: counts of one key add up, operand classes widen."""

    def __init__(self) -> None:
        self._layers: dict[str, dict[str, Any]] = {}
        self._operations: dict[tuple[str, ...], dict[str, Any]] = {}
        self._memory: dict[tuple[str, str, str, str], dict[str, Any]] = {}

    def layer(self, key: str, kind: str, **values: Any) -> None:
        """Add one call of a layer."""
        row = self._layers.setdefault(key, {"layer": key, "kind": kind, "order": len(self._layers)})
        _add(row, {"calls": 1.0, **values})

    def set(self, key: str, **values: Any) -> None:
        """Set sizes of a layer that is already there."""
        self._layers[key].update(values)

    def operation(self, key: str, op: str, **values: Any) -> None:
        """Add operations of one kind to a layer; without counts by convention all equal ``dense``.

        Calls that meet operands of different classes (a silent first step, a sum of spikes in a later one) keep rows
        of their own, since they cost different things.
        """
        dense = values["dense"]
        counts = dict.fromkeys(("dense_nominal", *CONVENTIONS), dense)
        classes = (values.get("operand") or "", values.get("second_operand") or "")
        _add(self._operations.setdefault((key, op, *classes), {"layer": key, "op": op}), {**counts, **values})

    def memory(
        self, key: str, role: str, direction: str, policy: str, elements: float, bits: float, resident: float
    ) -> None:
        """Add accesses to a layer, and the size of the buffer behind them."""
        row = self._memory.setdefault((key, role, direction, policy), {})
        row.update(layer=key, role=role, direction=direction, policy=policy)
        _add(row, {"elements": elements, "bits": bits, "resident": resident})

    def rename(self, names: Mapping[str, str]) -> None:
        """Add up layers that turned out to be one layer in a loop over time."""
        tables: tuple[dict[Any, dict[str, Any]], ...] = (self._layers, self._operations, self._memory)
        for table in tables:
            for key in list(table):
                old = key if isinstance(key, str) else key[0]
                name = names.get(old, old)
                if name == old:
                    continue
                row = table.pop(key)
                into = table.setdefault(
                    name if isinstance(key, str) else (name, *key[1:]), {**_blank(row), "layer": name}
                )
                _add(into, {k: v for k, v in row.items() if k not in ("layer", "order")})
        for row in self._layers.values():
            row["sources"] = {names.get(source, source) for source in row.get("sources", ())}

    def __len__(self) -> int:
        return len(self._layers)

    def record(self, samples: int, batches: int, provenance: Mapping[str, Any], activity: Activity) -> Record:
        """Divide by the samples and return the record."""
        T = int(provenance["T"])
        macs: Counter[str] = Counter()
        for (key, op, *_), operation in self._operations.items():
            if op == "mac":
                macs[key] += operation["exact"] / samples
        for layer in self._layers.values():
            layer["T"] = max(1, min(T, round(layer.pop("steps", T * batches) / batches)))
            layer["calls"] *= samples / batches  # of batches, not of samples
            layer["sources"] = ",".join(sorted(layer.get("sources", ())))
            # A layer that met real values too, behind a silent first step, has no silent channels.
            spikes = layer.get("operand") in EVENTS
            silent = layer["silent_channels"] = activity.silent_channels(layer["layer"]) if spikes else float("nan")
            if layer.get("weights") and layer["layer"] in macs:
                layer["weight_uses"] = macs[layer["layer"]] / layer["weights"]
                layer["weights_used"] = layer["weights"] * (1 - silent)
        tables: dict[str, dict[Any, dict[str, Any]]] = {
            "layers": self._layers, "operations": self._operations, "memory": self._memory,
        }  # fmt: skip
        frames = {name: [row(name, _divided(each, samples)) for each in rows.values()] for name, rows in tables.items()}
        frames["counts"], frames["steps"] = activity.count_rows(samples), activity.step_rows(samples)
        return Record(frames, provenance)


def _blank(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in (*_COUNTS, "steps")}


def _divided(values: Mapping[str, Any], samples: int) -> dict[str, Any]:
    return {name: value / samples if name in _COUNTS else value for name, value in values.items()}


def _add(row: dict[str, Any], values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if name in _COUNTS:
            row[name] = row.get(name, 0.0) + value
        elif name in _CLASSES:
            row[name] = widest(row.get(name), value)
        elif name in _LARGEST:
            row[name] = max(row.get(name, value), value)
        elif name in _SETS:
            row[name] = row.get(name, frozenset()) | value
        else:
            row[name] = value
