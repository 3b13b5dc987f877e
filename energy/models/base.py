"""What every energy model is: options, a source, and a price for each layer of a record."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from energy.hardware import Hardware, load
from energy.record import CONVENTIONS, EVENTS, PRODUCTS, Convention, Record
from neurons.errors import OptionError
from neurons.registry import Registry

if TYPE_CHECKING:
    from pandas import DataFrame

energy_models: Registry[EnergyModel] = Registry("energy model", "energy_models")

PARTS = (
    "compute", "neuron", "memory_weight", "memory_state", "memory_activation", "addressing", "routing", "static",
)  # fmt: skip
"""Parts of a price, in pJ. A part that a model does not know is NaN, never 0."""

IntegerRule = Literal["unrolled", "mac", "ac"]
NAN = float("nan")


@dataclass
class Price:
    """Price of one layer, in pJ by part, with a note where something has no price."""

    parts: dict[str, float] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Executed:
    """What a product layer executes under the rules of the op-count family.

    Parameters
    ----------
    kind : {"mac", "ac", "bits"}
        Multiply-accumulates, accumulates, or a quantised layer that each model executes in its own way.
    count : float
        Operations of one inference.
    """

    kind: Literal["mac", "ac", "bits"]
    count: float


@dataclass(frozen=True, kw_only=True)
class EnergyModel(ABC):
    """Base of all energy models: a frozen dataclass whose fields are its options.

    Class attributes
    ----------------
    source : str
        Where the model was published.
    confidence : {"published", "reconstruction"}
        Whether the equations are the paper's own, or put together from what is said about them.
    ignores : tuple of str
        What the model leaves out.
    """

    source: ClassVar[str]
    confidence: ClassVar[Literal["published", "reconstruction"]] = "published"
    ignores: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def price_layer(self, layer: Any, operations: list[Any], hardware: Hardware) -> Price | None:
        """Return the price of one layer, or None when the model does not apply to it.

        Parameters
        ----------
        layer : named tuple
            Row of ``record.layers``, with ``first`` (whether it is the first layer with weights).
        operations : list of named tuple
            Its rows of ``record.operations``.
        hardware : Hardware
        """

    def warnings(self, record: Record, hardware: Hardware) -> list[str]:
        """Return what a reader of the prices should know about this record."""
        found = []
        uncounted = record.provenance.get("uncounted")
        if uncounted:
            found.append(f"operations without a counting rule are missing: {', '.join(uncounted)}")
        spiking = record.spiking
        silent = spiking.loc[spiking["nonzero_outputs"] == 0, "layer"]
        if len(silent):
            found.append(
                f"{len(silent)} of {len(spiking)} spiking layers sent no spike, so what stands behind them costs "
                "nothing (an untrained network is silent in eval mode)"
            )
        weak = [name for name in sorted(hardware.used) if not hardware.constants[name].confirmed]
        if weak:
            found.append(f"unconfirmed constants in {hardware.name}: {', '.join(weak)}")
        return found

    def price(self, record: Record, hardware: str | Path | Hardware = "45nm") -> DataFrame:
        """Return the energy of one inference in pJ: one row for each layer.

        Columns: layer, kind, the parts (see ``PARTS``; NaN where the model knows no such cost), total, applicable,
        note. ``attrs`` of the table carry model, options, source, confidence, ignores, warnings, hardware, and the
        layers that the total leaves out for want of a price (``unpriced``).
        """
        import pandas as pd

        profile = load(hardware)
        operations: dict[str, list[Any]] = {}
        row: Any
        layer: Any
        for row in record.operations.itertuples(index=False):
            operations.setdefault(row.layer, []).append(row)
        layers = record.layers.sort_values("order")
        weighted = layers["layer"][layers["kind"].isin(PRODUCTS) & layers["second_operand"].isna()]
        layers = layers.assign(first=layers["layer"] == (weighted.iloc[0] if len(weighted) else None))
        rows: list[dict[str, Any]] = []
        for layer in layers.itertuples(index=False):
            found = None if layer.folded else self.price_layer(layer, operations.get(layer.layer, []), profile)
            reason = "folded into the layer before" if layer.folded else "outside the scope of the model"
            priced = found or Price(note=reason)
            parts = {part: priced.parts.get(part, NAN) for part in PARTS}
            known = [value for value in parts.values() if value == value]
            rows.append(
                {"layer": layer.layer, "kind": layer.kind, **parts, "total": sum(known) if known else NAN,
                 "applicable": found is not None and bool(known), "note": priced.note}
            )  # fmt: skip
        columns = ["layer", "kind", *PARTS, "total", "applicable", "note"]
        table = pd.DataFrame(rows, columns=columns)
        unpriced = [str(priced["layer"]) for priced in rows if priced["note"].startswith("no price")]
        warnings = self.warnings(record, profile)
        if unpriced:
            warnings.append(f"left out of the total for want of a price: {', '.join(unpriced)}")
        table.attrs.update(
            model=getattr(type(self), "registered_name", type(self).__name__), options=asdict(self), unit="pJ",
            source=self.source, confidence=self.confidence, ignores=list(self.ignores),
            warnings=warnings, unpriced=unpriced, hardware=profile.name, T=record.T,
        )  # fmt: skip
        return table


def check_choice(option: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise an OptionError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise OptionError(f"{option} is {' or '.join(repr(c) for c in choices)}, not {value!r}")


def check_convention(convention: str) -> None:
    """Raise an OptionError for an unknown counting convention."""
    check_choice("convention", convention, CONVENTIONS)


def check_positive(**values: float | None) -> None:
    """Raise an OptionError for an option that is given and negative."""
    for name, value in values.items():
        if value is not None and not value >= 0:
            raise OptionError(f"{name} must not be negative, and is {value}")


def dense(operation: Any, convention: Convention) -> float:
    """Return the dense operations of a product: without those on padding in the exact convention."""
    return float(operation.dense if convention == "exact" else operation.dense_nominal)


def executed(operation: Any, convention: Convention, integers: IntegerRule) -> Executed:
    """Return what the op-count family executes for one product.

    A spike on either side makes an accumulate. A sum of spikes against a weight or another sum follows the rule
    ``integers``; against a spike it is one addition of an integer. Everything else is a dense multiply-accumulate.
    """
    sides = [operation.operand] + ([operation.second_operand] if operation.second_operand else [])
    if any(side in ("binary", "ternary") for side in sides):
        return Executed("ac", float(getattr(operation, convention)))
    if all(side in EVENTS for side in sides):
        if integers == "mac":
            return Executed("mac", float(getattr(operation, convention)))
        if integers == "ac":
            return Executed("ac", float(getattr(operation, convention)))
        return Executed("ac", unrolled(operation, convention))
    if "real" in sides:
        return Executed("mac", dense(operation, convention))
    return Executed("bits", dense(operation, convention))


def unrolled(operation: Any, convention: Convention) -> float:
    """Return the effective operations with every sum of k spikes counted as k events."""
    if convention in ("exact", "nominal"):
        return float(getattr(operation, f"events_{convention}"))
    effective = float(getattr(operation, convention))
    # The two remaining conventions are proportional to the number of events.
    return effective * float(operation.events_nominal / operation.nominal) if operation.nominal else 0.0
