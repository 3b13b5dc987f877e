"""The columns of an operation record: what they are called, and what stands where nothing is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from neurons.errors import DataError

if TYPE_CHECKING:
    from pandas import DataFrame

Convention = Literal["exact", "nominal", "fan_out", "kernel"]
CONVENTIONS: tuple[Convention, ...] = ("exact", "nominal", "fan_out", "kernel")

OPERANDS = ("binary", "ternary", "integer", "quantised", "real")
"""Operand classes, narrow to wide; several passes over one layer are merged to the widest."""
EVENTS = frozenset(OPERANDS[:3])
"""Classes that reach a layer as events: a spike, a signed spike, or a sum of spikes."""
PRODUCTS = ("conv", "linear", "matmul")
"""Kinds of layers that multiply and accumulate."""

# Numbers are per inference unless the name says otherwise.
LAYER_COLUMNS: dict[str, Any] = {
    "layer": "", "order": 0, "kind": "", "module": "", "T": 1, "calls": 1.0, "sources": None,
    "operand": None, "bits": float("nan"), "second_operand": None, "second_bits": float("nan"),
    "inputs": 0.0, "nonzero": float("nan"), "magnitude": float("nan"), "popcount": float("nan"),
    "largest": float("nan"), "silent_channels": float("nan"),
    "second_inputs": 0.0, "second_nonzero": float("nan"), "second_magnitude": float("nan"),
    "second_popcount": float("nan"),
    "outputs": 0.0, "nonzero_outputs": float("nan"), "output": None,
    "weights": 0, "weight_nonzero": 0, "weight_bits": float("nan"), "weight_uses": float("nan"),
    "weights_used": float("nan"), "bias": 0,
    "in_channels": None, "out_channels": None, "kernel_size": None, "stride": None, "padding": None, "dilation": None,
    "groups": None, "folded": False, "neuron": None, "conventional": None, "leaky": None, "neurons": 0.0, "states": 0.0,
    "updates": 0.0, "effective_updates": float("nan"),
}  # fmt: skip
OPERATION_COLUMNS: dict[str, Any] = {
    "layer": "", "op": "", "operand": "real", "bits": 32, "second_operand": None, "second_bits": float("nan"),
    "dense": 0.0, "dense_nominal": 0.0, "exact": 0.0, "nominal": 0.0, "fan_out": 0.0, "kernel": 0.0,
    "sparse": float("nan"),
    "events_exact": float("nan"), "events_nominal": float("nan"),
    "planes_exact": float("nan"), "planes_nominal": float("nan"),
}  # fmt: skip
MEMORY_COLUMNS: dict[str, Any] = {
    "layer": "", "role": "", "direction": "read", "policy": "dense", "elements": 0.0, "bits": 32,
    "resident": float("nan"),
}  # fmt: skip
COUNT_COLUMNS: dict[str, Any] = {"layer": "", "spikes": 0, "values": 0.0}
STEP_COLUMNS: dict[str, Any] = {
    "layer": "", "step": 0, "inputs": 0.0, "nonzero": float("nan"), "magnitude": float("nan"),
    "exact": float("nan"), "outputs": 0.0, "nonzero_outputs": float("nan"), "effective_updates": float("nan"),
}  # fmt: skip
TABLES: dict[str, dict[str, Any]] = {
    "layers": LAYER_COLUMNS, "operations": OPERATION_COLUMNS, "memory": MEMORY_COLUMNS, "counts": COUNT_COLUMNS,
    "steps": STEP_COLUMNS,
}  # fmt: skip
_TEXT = {
    "layer", "kind", "module", "sources", "operand", "second_operand", "output", "kernel_size", "stride", "padding",
    "dilation", "neuron", "op", "role", "direction", "policy",
}  # fmt: skip
_FLAGS = ("folded", "conventional", "leaky")
_INTEGERS = ("order", "T", "weights", "weight_nonzero", "bias", "spikes", "step")


def table(rows: Any, name: str) -> DataFrame:
    """Return rows as the table ``name`` with its columns and types, whatever the rows hold.

    Raises
    ------
    DataError
        When a data frame lacks a column.
    """
    import pandas as pd

    columns = TABLES[name]
    if isinstance(rows, pd.DataFrame):
        missing = set(columns) - set(rows.columns)
        if missing:
            raise DataError(f"the table {name!r} of an operation record lacks the columns {sorted(missing)}")
        values = {column: rows[column].tolist() for column in columns}
    else:
        listed = list(rows)
        values = {column: [row.get(column, default) for row in listed] for column, default in columns.items()}
    # Column by column from plain lists: a frame of dictionaries would cost several times as much.
    return pd.DataFrame({column: _typed(column, columns[column], values[column]) for column in columns})


def _typed(column: str, default: Any, values: list[Any]) -> Any:
    import numpy as np
    import pandas as pd

    if column in _TEXT:
        return pd.Series([value if isinstance(value, str) else None for value in values], dtype=object)
    known = [None if value is None or value is pd.NA or value != value else value for value in values]
    if column in _FLAGS:
        return pd.array(known, dtype="boolean")
    if column in _INTEGERS:
        return np.array([default if value is None else value for value in known], dtype=np.int64)
    return np.array(known, dtype=np.float64)


def row(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return one row of a table, with defaults where ``values`` says nothing."""
    return {column: values.get(column, default) for column, default in TABLES[name].items()}
