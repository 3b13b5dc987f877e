"""Records made from a record: of the same network without time, or firing at another rate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from energy.operands import popcount
from energy.record import EVENTS, PRODUCTS, Record
from energy.schema import CONVENTIONS
from neurons import update_cost
from neurons.conventional import QuantisedReLU, ReLU
from neurons.errors import DataError, OptionError

if TYPE_CHECKING:
    from pandas import DataFrame, Series

_EFFECTIVE = (*CONVENTIONS, "sparse", "events_exact", "events_nominal", "planes_exact", "planes_nominal")
_OF_INPUT = ("nonzero", "magnitude", "popcount")
NAN = float("nan")


def twin_bits(T: int) -> int:
    """Return the activation bits of the quantised twin of equal capacity: ceil(log2(T + 1)) (Yan et al. 2024).

    T binary steps can tell T + 1 spike counts apart.
    """
    return math.ceil(math.log2(T + 1))


def twin(record: Record, bits: int | None = None) -> Record:
    """Return the record of the same layers without time: what a conventional network of this form would do.

    Every layer that ran T steps runs once. Spikes become real activations, or quantised ones of ``bits`` bits whose
    codes are the spike counts of the record (``record.counts``), scaled to the codes that the bits can tell apart;
    so the twin has the zeros, and at the matched number of bits the very values, that the spiking network handed on.
    Layers that met real values, or ran once, stay as they are. Weights, sizes and sources are unchanged. A spiking
    neuron that is made of products is replaced with all that is inside it. Where the zeros lie within a map is not
    known, so effective counts of convolutions take them to be spread evenly.

    Parameters
    ----------
    record : Record
        Of a spiking network.
    bits : int, optional
        Bits of the activations; a ReLU twin of 32-bit reals when left out.

    Raises
    ------
    OptionError
        For bits outside 1 to 32.
    DataError
        For a quantised twin of a record that has no spike counts for a layer that met spikes.
    """
    if bits is not None and not 1 <= bits <= 32:
        raise OptionError(f"a quantised twin has 1 to 32 bits, not {bits}")
    if record.T == 1 and not len(record.spiking):
        raise DataError("this record is of a network without time already; it is its own twin")
    record = _without_insides(record)
    layers = record.layers.copy()
    steps = layers["T"].astype("float64")
    met_spikes = layers["operand"].isin(EVENTS) & layers["kind"].isin(PRODUCTS)
    spiking = (layers["kind"] == "neuron") & ~layers["conventional"].fillna(False).astype(bool)
    if bits is not None:
        codes = _codes(record, bits)
        lacking = layers.loc[met_spikes & ~layers["layer"].isin(codes.index), "layer"]
        if len(lacking):
            raise DataError(f"no spike counts to make codes of for {', '.join(lacking)}")
    for column in ("inputs", "outputs", "second_inputs", "nonzero", "magnitude", "popcount", "second_nonzero",
                   "second_magnitude", "second_popcount", "updates", "nonzero_outputs"):  # fmt: skip
        layers[column] = layers[column] / steps
    kind, width = ("real", 32) if bits is None else ("quantised", bits)
    for side in ("", "second_"):
        events = layers[f"{side}operand"].isin(EVENTS)
        _replace(layers, events, {f"{side}bits": width, f"{side}operand": kind, f"{side}magnitude": NAN,
                                  f"{side}popcount": NAN})  # fmt: skip
    _replace(layers, met_spikes, {"largest": NAN})
    if bits is not None:
        shares = {column: layers["layer"].map(codes[column]) * layers["inputs"] for column in _OF_INPUT}
        _replace(layers, met_spikes, shares)
    else:  # a ReLU is zero where no spike came in all steps
        known = _codes(record, 1)["nonzero"]
        _replace(layers, met_spikes & layers["layer"].isin(known.index), {
            "nonzero": layers["layer"].map(known) * layers["inputs"],
        })  # fmt: skip
        _replace(layers, met_spikes & ~layers["layer"].isin(known.index), {"nonzero": layers["inputs"]})
    _set_neurons(layers, spiking, bits)
    operations = _twin_operations(record, layers, spiking, bits)
    memory = _twin_memory(record, layers, operations, spiking, width)
    layers["T"] = 1
    layers["effective_updates"] = float("nan")
    made = "ReLU" if bits is None else f"{bits}-bit"
    provenance = {
        **record.provenance, "T": 1, "twin": made,
        "made": f"derived: the layers of the network once each, {made} activations"
        + ("" if bits is None else ", codes from its spike counts"),
    }  # fmt: skip
    return Record({"layers": layers, "operations": operations, "memory": memory}, provenance)


def _without_insides(record: Record) -> Record:
    """Return the record without the layers inside spiking neurons; the neurons take what reached those."""
    inside = {
        layer: neuron
        for neuron in record.spiking["layer"]
        for layer in record.layers["layer"]
        if layer.startswith(f"{neuron}.")
    }
    if not inside:
        return record
    sources = dict(zip(record.layers["layer"], record.layers["sources"], strict=True))
    named = {name: set((each or "").split(",")) - {""} for name, each in sources.items()}
    for layer, neuron in inside.items():
        named[neuron] |= named[layer]
    frames = {name: frame[~frame["layer"].isin(inside)].copy() for name, frame in record.to_frames().items()}
    layers = frames["layers"]
    for neuron in set(inside.values()):
        frames["layers"]["sources"] = layers["sources"].where(
            layers["layer"] != neuron, ",".join(sorted(named[neuron] - set(inside)))
        )
        layers = frames["layers"]
    return Record(frames, record.provenance)


def _replace(frame: DataFrame, rows: Series, values: Mapping[str, Any]) -> None:
    """Put values (one for all rows, or one each) into some rows of some columns."""
    for column, value in values.items():
        frame[column] = frame[column].where(~rows, value)


def _codes(record: Record, bits: int) -> DataFrame:
    """Return for each layer the share of non-zero codes, mean code and mean one-bits, from its spike counts."""
    import pandas as pd

    top = 2**bits - 1
    # At the matched bits a count is its own code; otherwise the range of counts is spread over that of codes.
    scale = 1.0 if bits == twin_bits(record.T) else top / record.T
    found: dict[str, list[float]] = {}
    for name, counts in record.counts.groupby("layer", sort=False):
        values, spikes = counts["values"].to_numpy(), counts["spikes"].to_numpy()
        codes = np.minimum(np.where(spikes > 0, np.maximum(np.rint(spikes * scale), 1), 0), top).astype(np.int64)
        ones = popcount(torch.from_numpy(codes)).numpy()
        found[str(name)] = [float((values * each).sum() / values.sum()) for each in (codes > 0, codes, ones)]
    return pd.DataFrame.from_dict(found, orient="index", columns=list(_OF_INPUT))


def _set_neurons(layers: DataFrame, spiking: Series, bits: int | None) -> None:
    real = bits is None
    _replace(layers, spiking, {
        "neuron": "relu" if real else "quantised_relu", "module": "ReLU" if real else "QuantisedReLU",
        "conventional": True, "leaky": False, "states": 0, "output": "real" if real else "quantised",
    })  # fmt: skip


def _twin_operations(record: Record, layers: DataFrame, spiking: Series, bits: int | None) -> DataFrame:
    import pandas as pd

    neurons = set(layers.loc[spiking, "layer"])
    rows = layers.set_index("layer")
    operations = record.operations[~record.operations["layer"].isin(neurons)].copy()
    steps = operations["layer"].map(record.layers.set_index("layer")["T"]).astype("float64")
    for column in ("dense", "dense_nominal", *_EFFECTIVE):
        operations[column] = operations[column] / steps
    first, second = operations["operand"].isin(EVENTS), operations["second_operand"].isin(EVENTS)
    kind, width = ("real", 32) if bits is None else ("quantised", bits)
    _replace(operations, first, {"operand": kind, "bits": width})
    _replace(operations, second, {"second_operand": kind, "second_bits": width})
    dense: dict[str, Series] = {
        column: operations["dense_nominal" if column == "nominal" else "dense"] for column in CONVENTIONS
    }
    lost = dict.fromkeys(("sparse", "events_exact", "events_nominal", "planes_exact", "planes_nominal"), NAN)
    _replace(operations, first | second, {**dense, **lost})
    share = operations["layer"].map(rows["nonzero"] / rows["inputs"]).fillna(1.0)
    products = first & (operations["op"] == "mac")
    _replace(operations, products, {column: share * count for column, count in dense.items()})
    if bits is not None:
        ones = operations["layer"].map(rows["popcount"] / rows["inputs"])
        _replace(operations, products, {f"planes_{each}": ones * dense[each] for each in ("exact", "nominal")})
    # Rows of one layer that differed in their class of events only are now one.
    keys = ["layer", "op", "operand", "second_operand"]
    operations = operations.groupby(keys, sort=False, dropna=False, as_index=False).agg(
        {"bits": "max", "second_bits": "max", **dict.fromkeys(("dense", "dense_nominal", *_EFFECTIVE), _total)}
    )
    cost = update_cost(ReLU() if bits is None else QuantisedReLU(bits))
    own = []
    layer: Any
    for layer in layers[spiking].itertuples():
        for op, count in cost.items():
            counts = dict.fromkeys(("dense", "dense_nominal", *CONVENTIONS), count * layer.updates)
            own.append({"layer": layer.layer, "op": op, "operand": "real", "bits": layer.bits, **counts})
    return pd.concat([operations, pd.DataFrame(own, columns=operations.columns)], ignore_index=True)


def _total(values: Series) -> float:
    return float(values.sum(min_count=1))


def _twin_memory(
    record: Record, layers: DataFrame, operations: DataFrame, spiking: Series, width: int
) -> DataFrame:  # fmt: skip
    neurons = set(layers.loc[spiking, "layer"])
    events = set(record.layers.loc[record.layers["operand"].isin(EVENTS), "layer"])
    effective = operations[operations["op"] == "mac"].groupby("layer")["exact"].sum()
    rows = layers.set_index("layer")
    inputs = rows["nonzero"] + rows["second_nonzero"].fillna(0.0)
    memory = record.memory.copy()
    memory = memory[~(memory["layer"].isin(neurons) & (memory["role"] == "state")) & (memory["role"] != "index")]
    steps = memory["layer"].map(record.layers.set_index("layer")["T"]).astype("float64")
    memory["elements"] = memory["elements"] / steps
    met = memory["layer"].isin(events)
    by_event = met & (memory["policy"] == "event")
    weights = by_event & (memory["role"] == "weight")
    memory["elements"] = memory["elements"].where(~weights, memory["layer"].map(effective))
    values = by_event & (memory["role"] == "input")
    memory["elements"] = memory["elements"].where(~values, memory["layer"].map(inputs))
    memory.loc[met & (memory["role"] == "input"), "bits"] = width
    memory.loc[memory["layer"].isin(neurons) & (memory["role"] == "output"), "bits"] = width
    return memory


def largest_activity(record: Record) -> float:
    """Return the factor at which the busiest layer would fire at every step: the limit of ``with_activity``."""
    rows = record.layers
    met = rows[rows["kind"].isin(PRODUCTS) & rows["operand"].isin(EVENTS) & (rows["nonzero"] > 0)]
    second = rows[rows["second_operand"].isin(EVENTS) & (rows["second_nonzero"] > 0)]
    limits = [*(met["inputs"] / met["nonzero"]), *(second["second_inputs"] / second["second_nonzero"])]
    return min(limits, default=float("inf"))


def with_activity(record: Record, factor: float) -> Record:
    """Return the record with ``factor`` times as many spikes everywhere: the same network firing at another rate.

    Counts on spikes, and on sums of spikes, grow with the factor; coincidences of two spiking operands with its
    square; what does not depend on spikes (updates, real layers, dense traffic) stays.

    Raises
    ------
    OptionError
        For a negative factor, or one above ``largest_activity`` (a neuron fires at most once a step).
    """
    if not 0 <= factor <= largest_activity(record) * (1 + 1e-9):
        raise OptionError(
            f"the activity can be multiplied by 0 to {largest_activity(record):.4g} here (then the busiest layer "
            f"fires at every step), not by {factor:.4g}"
        )
    layers, operations, memory = record.layers.copy(), record.operations.copy(), record.memory.copy()
    first, second = layers["operand"].isin(EVENTS), layers["second_operand"].isin(EVENTS)
    for events, columns in ((first, _OF_INPUT), (second, [f"second_{column}" for column in _OF_INPUT])):
        for column in columns:
            layers.loc[events, column] *= factor
    spiking = layers["layer"].isin(record.spiking["layer"])
    layers.loc[spiking, "nonzero_outputs"] *= factor
    power = operations["operand"].isin(EVENTS).astype(int) + (
        operations["second_operand"].isin(EVENTS) & (operations["op"] != "add")
    ).astype(int)
    scale = factor ** power.astype(float)
    for column in _EFFECTIVE:
        operations[column] = operations[column] * scale
    by_layer = {name: float(s) for name, s in zip(operations["layer"], scale, strict=True)}
    event = memory["policy"] == "event"
    weights = event & (memory["role"] == "weight")
    memory.loc[weights, "elements"] *= memory.loc[weights, "layer"].map(by_layer).fillna(1.0)
    # The event traffic of a layer with one spiking and one other operand is that of both; only the spikes change.
    rows = layers.set_index("layer")
    incoming = rows["nonzero"].where(rows["kind"].isin(PRODUCTS)) + rows["second_nonzero"].fillna(0.0)
    addresses = event & (memory["role"] == "index") & memory["layer"].isin(layers.loc[first, "layer"])
    memory.loc[addresses, "elements"] *= factor
    values = event & (memory["role"] == "input")
    memory.loc[values, "elements"] = memory.loc[values, "layer"].map(incoming).fillna(memory.loc[values, "elements"])
    sent = event & (memory["role"] == "output") & memory["layer"].isin(layers.loc[spiking, "layer"])
    memory.loc[sent, "elements"] *= factor
    provenance = {**record.provenance, "activity": f"spike counts of the measured record times {factor:.6g}"}
    frames = {"layers": layers, "operations": operations, "memory": memory, "counts": record.counts}
    return Record(frames, provenance)
