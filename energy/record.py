"""The operation record: what one inference did, layer by layer, before anyone puts a price on it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from neurons.errors import DataError, OptionError, suggest

if TYPE_CHECKING:
    from pandas import DataFrame, Series

Convention = Literal["exact", "nominal", "fan_out", "kernel"]
CONVENTIONS: tuple[Convention, ...] = ("exact", "nominal", "fan_out", "kernel")

OPERANDS = ("binary", "ternary", "integer", "quantised", "real")
"""Operand classes, narrow to wide; several passes over one layer are merged to the widest."""
EVENTS = frozenset(OPERANDS[:3])
"""Classes that reach a layer as events: a spike, a signed spike, or a sum of spikes."""
PRODUCTS = ("conv", "linear", "matmul")
"""Kinds of layers that multiply and accumulate."""

# Column: value where nothing is known. Numbers are per inference unless the name says otherwise.
LAYER_COLUMNS: dict[str, Any] = {
    "layer": "", "order": 0, "kind": "", "module": "", "T": 1, "calls": 1.0,
    "operand": None, "bits": float("nan"), "second_operand": None, "second_bits": float("nan"),
    "inputs": 0.0, "nonzero": float("nan"), "magnitude": float("nan"), "popcount": float("nan"),
    "second_inputs": 0.0, "second_nonzero": float("nan"), "second_magnitude": float("nan"),
    "second_popcount": float("nan"),
    "outputs": 0.0, "nonzero_outputs": float("nan"), "output": None,
    "weights": 0, "weight_nonzero": 0, "weight_bits": float("nan"), "weight_uses": float("nan"), "bias": 0,
    "in_channels": None, "out_channels": None, "kernel_size": None, "stride": None, "padding": None, "dilation": None,
    "groups": None, "folded": False, "neuron": None, "conventional": None, "neurons": 0.0, "states": 0,
    "updates": 0.0,
}  # fmt: skip
OPERATION_COLUMNS: dict[str, Any] = {
    "layer": "", "op": "", "operand": "real", "bits": 32, "second_operand": None, "second_bits": float("nan"),
    "dense": 0.0, "dense_nominal": 0.0, "exact": 0.0, "nominal": 0.0, "fan_out": 0.0, "kernel": 0.0,
    "events_exact": float("nan"), "events_nominal": float("nan"),
    "planes_exact": float("nan"), "planes_nominal": float("nan"),
}  # fmt: skip
MEMORY_COLUMNS: dict[str, Any] = {
    "layer": "", "role": "", "direction": "read", "policy": "dense", "elements": 0.0, "bits": 32,
}  # fmt: skip
_TABLES = {"layers": LAYER_COLUMNS, "operations": OPERATION_COLUMNS, "memory": MEMORY_COLUMNS}
_TEXT = {
    "layer", "kind", "module", "operand", "second_operand", "output", "kernel_size", "stride", "padding", "dilation",
    "neuron", "op", "role", "direction", "policy",
}  # fmt: skip


class Record:
    """Operations, memory traffic and sizes of one inference: one sample, all T time steps, batch divided out.

    Attributes
    ----------
    layers : DataFrame
        One row for each layer, in the order of execution: kind, T (time steps that the layer ran), operand class and
        bits of the input, ``inputs`` (values read), ``nonzero``, ``magnitude`` (sum of |x| in units of one spike or
        one quantisation step: the unary spike count), ``popcount`` (one-bits of those integers), the same for the
        second operand of a product of two activations, outputs, weights, sizes, and for neurons their model, number,
        state words and updates. A functional call is named after the module that made it: ``attention.matmul-1``.
    operations : DataFrame
        One row for each layer and operation (``mac``, ``add``, ``mul``, ``cmp``, ``exp``, ...). ``dense`` counts all
        operands as non-zero, ``dense_nominal`` also those that fall on padding. Effective counts follow four
        conventions: ``exact`` (valid taps of each non-zero input), ``nominal`` (non-zero share times
        ``dense_nominal``, as in papers), ``fan_out`` (inputs times C_out ceil(k / stride)) and ``kernel`` (inputs
        times C_out k). ``events_*`` weigh each operand that is a spike or a sum of spikes by its magnitude,
        ``planes_*`` weigh the first operand by its one-bits. The row says ``mac``; whether that costs a
        multiplication is for the energy model to decide from the operand classes. A row ``add`` of a convolution or
        linear layer is its bias.
    memory : DataFrame
        Accesses by role (weight, bias, state, input, output) and direction: with the policy ``dense`` every element
        moves (weights: once for each dense operation), with ``event`` only what is not zero moves.
    provenance : dict
        T, samples, dtype, rules and conventions behind the numbers.
    """

    def __init__(
        self, layers: DataFrame, operations: DataFrame, memory: DataFrame, provenance: Mapping[str, Any]
    ) -> None:
        if not isinstance(provenance.get("T"), int) or provenance["T"] < 1:
            raise DataError("an operation record must state its number of time steps T >= 1 in its provenance")
        self.layers = _table(layers, "layers")
        self.operations = _table(operations, "operations")
        self.memory = _table(memory, "memory")
        self.provenance = dict(provenance)
        unknown = set(self.operations["layer"]) - set(self.layers["layer"])
        if unknown:
            raise DataError(f"the operations name layers that the record does not have: {sorted(unknown)}")

    @classmethod
    def from_layers(cls, layers: Iterable[Mapping[str, Any]], *, T: int, **provenance: Any) -> Record:
        """Build a record from counts, for example those printed in a paper.

        Parameters
        ----------
        layers : iterable of mapping
            One for each layer. A layer with weights gives ``layer``, ``dense`` (multiply-accumulates, all T steps)
            and ``operand``; further any column of ``layers`` and ``operations``. Effective counts that are left out
            equal ``effective``, which equals ``dense`` when left out too. A neuron layer has ``kind="neuron"``,
            ``updates``, ``states`` (words for each neuron) and ``ops`` (operations of one update by kind).
        T : int
            Time steps.
        **provenance
            Anything else worth stating, such as ``data="Table 3 of ..."``.
        """
        rows: dict[str, list[dict[str, Any]]] = {name: [] for name in _TABLES}
        for order, given in enumerate(layers):
            layer = {"layer": f"layer-{order}", "kind": "linear", "T": T, "order": order, **given}
            known = {*LAYER_COLUMNS, *OPERATION_COLUMNS, "effective", "ops"}
            for key in layer:
                if key not in known:
                    raise OptionError(f"layer {layer['layer']!r} has no column {key!r}{suggest(key, known)}")
            build = _neuron_rows if layer["kind"] == "neuron" else _product_rows
            for name, found in build(layer).items():
                rows[name] += found
        return cls.from_frames(rows, {"T": T, "samples": None, "data": "given counts", **provenance})

    @classmethod
    def from_frames(cls, frames: Mapping[str, Any], provenance: Mapping[str, Any]) -> Record:
        """Build a record from its three tables (data frames or lists of rows)."""
        return cls(frames["layers"], frames["operations"], frames["memory"], provenance)

    def to_frames(self) -> dict[str, DataFrame]:
        """Return the three tables by name."""
        return {"layers": self.layers, "operations": self.operations, "memory": self.memory}

    def save(self, folder: str | Path) -> Path:
        """Write the tables as parquet and the provenance as JSON into ``folder``, and return it."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, frame in self.to_frames().items():
            frame.to_parquet(folder / f"{name}.parquet", index=False)
        (folder / "provenance.json").write_text(json.dumps(self.provenance, indent=2) + "\n", encoding="utf-8")
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Record:
        """Read what ``save`` wrote.

        Raises
        ------
        DataError
            When the folder holds no complete record.
        """
        import pandas as pd

        folder = Path(folder)
        try:
            provenance = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
            frames = {name: pd.read_parquet(folder / f"{name}.parquet") for name in _TABLES}
        except (OSError, ValueError) as error:
            raise DataError(f"{folder} holds no readable operation record: {error}") from error
        return cls.from_frames(frames, provenance)

    @property
    def T(self) -> int:
        """Time steps of one inference."""
        return int(self.provenance["T"])

    @property
    def products(self) -> DataFrame:
        """The multiply-accumulate rows of ``operations`` joined with their layers (suffix ``_layer`` on clashes)."""
        macs = self.operations[self.operations["op"] == "mac"]
        return macs.merge(self.layers, on="layer", how="left", suffixes=("", "_layer")).sort_values("order")

    @property
    def spiking(self) -> DataFrame:
        """Rows of ``layers`` that are spiking neurons; a leaky integrator, whose output is real, sends no spikes."""
        rows = self.layers[(self.layers["kind"] == "neuron") & (self.layers["output"] != "real")]
        return rows[~rows["conventional"].fillna(False).astype(bool)]

    @property
    def spikes(self) -> float:
        """Spikes that all neurons send in one inference."""
        return float(self.spiking["nonzero_outputs"].sum())

    @property
    def firing_rates(self) -> Series:
        """Spikes per neuron and time step, by layer."""
        rows = self.spiking
        return (rows["nonzero_outputs"] / rows["outputs"]).set_axis(rows["layer"]).rename("firing_rate")

    def synaptic_events(self, convention: Convention = "exact") -> float:
        """Return the effective operations of one inference that have a spike, or a sum of spikes, as an operand."""
        macs = self.products
        return float(macs.loc[_on_events(macs), convention].sum())

    @property
    def spikes_per_synapse(self) -> float:
        """Synaptic events per connection and inference (Dampfhoffer et al. 2023); NaN without spikes as operands.

        A connection is a dense multiply-accumulate of one time step, not a weight. A sum of spikes is one event.
        """
        macs = self.products
        macs = macs[_on_events(macs)]
        connections = float((macs["dense"] / macs["T"]).sum())
        return float(macs["exact"].sum()) / connections if connections else float("nan")

    def summary(self) -> dict[str, float]:
        """Return the totals of one inference by name."""
        macs = self.products
        on_events = _on_events(macs)
        neurons = self.layers[self.layers["kind"] == "neuron"]
        return {
            "T": self.T,
            "dense_macs": float(macs["dense"].sum()),
            "macs": float(macs.loc[~on_events, "dense"].sum()),
            "synaptic_events": self.synaptic_events("exact"),
            "synaptic_events_nominal": self.synaptic_events("nominal"),
            "spikes": self.spikes,
            "spikes_per_synapse": self.spikes_per_synapse,
            "firing_rate": _ratio(self.spikes, float(self.spiking["outputs"].sum())),
            "neuron_updates": float(neurons["updates"].sum()),
            "weights": float(self.layers["weights"].sum()),
        }

    def __repr__(self) -> str:
        s = self.summary()
        return (
            f"Record({len(self.layers)} layers, T={self.T}, {s['macs']:.4g} MACs, "
            f"{s['synaptic_events']:.4g} synaptic events, {s['spikes']:.4g} spikes per inference)"
        )


def _on_events(products: DataFrame) -> Series:
    return products["operand"].isin(EVENTS) | products["second_operand"].isin(EVENTS)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def _table(rows: Any, name: str) -> DataFrame:
    import pandas as pd

    columns = _TABLES[name]
    frame = rows.copy() if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows), columns=list(columns))
    missing = set(columns) - set(frame.columns)
    if missing:
        raise DataError(f"the table {name!r} of an operation record lacks the columns {sorted(missing)}")
    frame = frame[list(columns)]
    # One type for each column, whatever the rows hold, so that a saved and loaded record equals the first.
    for column, default in columns.items():
        if column in _TEXT:
            frame[column] = frame[column].astype("object").where(frame[column].notna(), None)
        elif column in ("folded", "conventional"):
            frame[column] = frame[column].astype("boolean")
        elif column in ("order", "T", "weights", "weight_nonzero", "states", "bias"):
            frame[column] = frame[column].fillna(default).astype("int64")
        else:
            frame[column] = pd.to_numeric(frame[column]).astype("float64")
    return frame.reset_index(drop=True)


def _row(columns: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    return {column: values.get(column, default) for column, default in columns.items()}


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
        "layers": [_row(LAYER_COLUMNS, values)],
        "operations": [_row(OPERATION_COLUMNS, values)],
        "memory": [_row(MEMORY_COLUMNS, {"layer": layer["layer"], **row}) for row in memory],
    }


def _neuron_rows(layer: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    if "updates" not in layer:
        raise OptionError(f"neuron layer {layer['layer']!r} needs 'updates'")
    updates, states = layer["updates"], layer.get("states", 1)
    values = {"outputs": updates, "conventional": False, "neurons": updates / layer["T"], **layer, "states": states}
    operations = []
    for op, count in layer.get("ops", {}).items():
        counts = dict.fromkeys(("dense", "dense_nominal", *CONVENTIONS), updates * count)
        operations.append(_row(OPERATION_COLUMNS, {"layer": layer["layer"], "op": op, **counts}))
    memory = [
        _row(MEMORY_COLUMNS, {"layer": layer["layer"], "role": "state", "direction": way, "elements": updates * states})
        for way in ("read", "write")
    ]
    return {"layers": [_row(LAYER_COLUMNS, values)], "operations": operations, "memory": memory}
