"""Sums the counts of several calls and batches into an operation record."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from energy.operands import widest
from energy.record import CONVENTIONS, LAYER_COLUMNS, MEMORY_COLUMNS, OPERATION_COLUMNS, Record

_COUNTS = (
    "calls", "inputs", "nonzero", "magnitude", "popcount", "second_inputs", "second_nonzero", "second_magnitude",
    "second_popcount", "outputs", "nonzero_outputs", "updates", "steps",
    "dense", "dense_nominal", *CONVENTIONS, "events_exact", "events_nominal", "planes_exact", "planes_nominal",
    "elements",
)  # fmt: skip
_CLASSES = ("operand", "second_operand")
_LARGEST = ("bits", "second_bits", "neurons")


class Tally:
    """Rows of a record under construction: counts of one key add up, operand classes widen."""

    def __init__(self) -> None:
        self._layers: dict[str, dict[str, Any]] = {}
        self._operations: dict[tuple[str, str], dict[str, Any]] = {}
        self._memory: dict[tuple[str, str, str, str], dict[str, Any]] = {}

    def layer(self, key: str, kind: str, **values: Any) -> None:
        """Add one call of a layer."""
        row = self._layers.setdefault(key, {"layer": key, "kind": kind, "order": len(self._layers)})
        _add(row, {"calls": 1.0, **values})

    def set(self, key: str, **values: Any) -> None:
        """Set sizes of a layer that is already there."""
        self._layers[key].update(values)

    def operation(self, key: str, op: str, **values: Any) -> None:
        """Add operations of one kind to a layer; without counts by convention all equal ``dense``."""
        dense = values["dense"]
        counts = dict.fromkeys(("dense_nominal", *CONVENTIONS), dense)
        _add(self._operations.setdefault((key, op), {"layer": key, "op": op}), {**counts, **values})

    def memory(self, key: str, role: str, direction: str, policy: str, elements: float, bits: float) -> None:
        """Add accesses to a layer."""
        row = self._memory.setdefault((key, role, direction, policy), {})
        row.update(layer=key, role=role, direction=direction, policy=policy)
        _add(row, {"elements": elements, "bits": bits})

    def __len__(self) -> int:
        return len(self._layers)

    def record(self, samples: int, batches: int, provenance: Mapping[str, Any]) -> Record:
        """Divide by the samples and return the record."""
        T = int(provenance["T"])
        for row in self._layers.values():
            row["T"] = max(1, min(T, round(row.pop("steps", T * batches) / batches)))
        divided = [
            [{k: v / samples if k in _COUNTS and k != "calls" else v for k, v in row.items()} for row in table.values()]
            for table in (self._layers, self._operations, self._memory)
        ]
        for row in divided[0]:
            row["calls"] /= batches
            if not math.isnan(row.get("weight_bits", math.nan)) and row.get("weights"):
                macs = self._operations.get((row["layer"], "mac"), {"exact": math.nan})
                row["weight_uses"] = macs["exact"] / samples / row["weights"]
        frames = {
            name: [{column: row.get(column, default) for column, default in columns.items()} for row in rows]
            for name, columns, rows in zip(
                ("layers", "operations", "memory"),
                (LAYER_COLUMNS, OPERATION_COLUMNS, MEMORY_COLUMNS),
                divided,
                strict=True,
            )
        }
        return Record.from_frames(frames, provenance)


def _add(row: dict[str, Any], values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if name in _COUNTS:
            row[name] = row.get(name, 0.0) + value
        elif name in _CLASSES:
            row[name] = widest(row.get(name), value)
        elif name in _LARGEST:
            row[name] = max(row.get(name, value), value)
        else:
            row[name] = value
