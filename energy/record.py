"""The operation record: what one inference did, layer by layer, before anyone puts a price on it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from energy import given
from energy.schema import (
    CONVENTIONS,
    EVENTS,
    OPERANDS,
    PRODUCTS,
    TABLES,
    Convention,
    table,
)
from neurons.errors import DataError

__all__ = ["CONVENTIONS", "EVENTS", "OPERANDS", "PRODUCTS", "Convention", "Record"]

if TYPE_CHECKING:
    from pandas import DataFrame, Series


class Record:
    """Operations, memory traffic and sizes of one inference: one sample, all T time steps, batch divided out.

    Attributes
    ----------
    layers : DataFrame
        One row for each layer, in the order of execution: kind, T (time steps that the layer ran), operand class and
        bits of the input, ``inputs`` (values read), ``nonzero``, ``magnitude`` (sum of |x| in units of one spike or
        one quantisation step: the unary spike count), ``popcount`` (one-bits of those integers), the same for the
        second operand of a product of two activations, outputs, weights, sizes, and for neurons their model, number,
        state words and updates. ``sources`` are the products and neurons whose output reaches the layer (through
        norms, pooling and sums; empty for the input of the network, None where nothing is known); ``silent_channels``
        is the share of input channels without any non-zero value in a sample; ``effective_updates`` counts updates
        that changed the potential. A functional call is named after the module that made it: ``attention.matmul-1``.
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
        moves (weights: once for each dense operation), with ``event`` only what is not zero moves. ``resident``
        elements are kept at a time: the size of the buffer.
    counts : DataFrame
        How many values carry how many spikes over all time steps: of the input of a product, of the output of a
        neuron. This is what a network without time would hand on in one step, and prices its quantised twin.
    steps : DataFrame
        The same counts for every time step, where they were asked for (``energy.measure(..., steps=True)``).
    provenance : dict
        T, samples, dtype, rules and conventions behind the numbers.
    """

    def __init__(self, frames: Mapping[str, Any], provenance: Mapping[str, Any]) -> None:
        if not isinstance(provenance.get("T"), int) or provenance["T"] < 1:
            raise DataError("an operation record must state its number of time steps T >= 1 in its provenance")
        tables = {name: table(frames.get(name, ()), name) for name in TABLES}
        self.layers: DataFrame = tables["layers"]
        self.operations: DataFrame = tables["operations"]
        self.memory: DataFrame = tables["memory"]
        self.counts: DataFrame = tables["counts"]
        self.steps: DataFrame = tables["steps"]
        self.provenance = dict(provenance)
        for name, frame in tables.items():
            unknown = set(frame["layer"]) - set(self.layers["layer"])
            if unknown:
                raise DataError(f"the table {name!r} names layers that the record does not have: {sorted(unknown)}")

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

        Raises
        ------
        OptionError
            For a column that does not exist, a negative count, or a layer that lacks what its kind needs.
        """
        frames = given.frames(layers, T)
        return cls(frames, {"T": T, "samples": None, "data": "given counts", **provenance})

    def to_frames(self) -> dict[str, DataFrame]:
        """Return the tables by name."""
        return {name: getattr(self, name) for name in TABLES}

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
            frames = {name: pd.read_parquet(folder / f"{name}.parquet") for name in TABLES}
        except (OSError, ValueError) as error:
            raise DataError(f"{folder} holds no readable operation record: {error}") from error
        return cls(frames, provenance)

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
