"""What every energy model is: options, a source, and a price for each layer of a record."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from energy.hardware import Hardware, load
from energy.models.layer import Layer, layers_of
from energy.record import CONVENTIONS, EVENTS, Convention, Record
from neurons.errors import OptionError
from neurons.registry import Registry

if TYPE_CHECKING:
    from pandas import DataFrame

energy_models: Registry[EnergyModel] = Registry("energy model", "energy_models")

PARTS = (
    "compute", "neuron", "memory_weight", "memory_state", "memory_activation", "memory_partial_sum", "addressing",
    "routing", "static",
)  # fmt: skip
"""Parts of a price, in pJ. A part that a model does not know is NaN, never 0. Biases count as weights."""
MEMORY_PARTS = tuple(part for part in PARTS if part.startswith("memory"))

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

    A model writes ``price_layer``; one that needs several layers at once writes ``price_layers``.

    Class attributes
    ----------------
    source : str
        Where the model was published.
    confidence : {"published", "reconstruction"}
        Whether the equations are the paper's own, or put together from what is said about them.
    ignores : tuple of str
        What the model leaves out.
    profile : str
        Hardware whose constants it takes unless told otherwise.
    unit : str
        Unit of its prices. Only ``"pJ"`` can be compared between models (and that with care).
    variants : mapping of str to mapping
        Readings of the model that stand side by side in comparisons: a suffix of its name (empty for the plain
        model) and the options of each, ``hardware`` among them.
    reuses_weights : bool
        Whether its price of weights already takes account of reuse.
    """

    source: ClassVar[str] = ""
    confidence: ClassVar[Literal["published", "reconstruction"]] = "published"
    ignores: ClassVar[tuple[str, ...]] = ()
    profile: ClassVar[str] = "45nm"
    unit: ClassVar[str] = "pJ"
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"": {}}
    reuses_weights: ClassVar[bool] = False

    @abstractmethod
    def price_layer(self, layer: Layer, hardware: Hardware) -> Price | None:
        """Return the price of one layer, or None when the model does not apply to it."""

    def price_layers(self, layers: Sequence[Layer], hardware: Hardware) -> list[Price | None]:
        """Return the price of every layer; for models that need to see the whole network."""
        return [None if layer.folded else self.price_layer(layer, hardware) for layer in layers]

    def skips_silence(self, hardware: Hardware) -> bool:
        """Return whether a spike that is not sent saves operations."""
        return True

    def figures(self, layers: Sequence[Layer], hardware: Hardware) -> dict[str, float | str]:
        """Return what the model says beside the price, by name: verdicts, counts under its own rule."""
        return {}

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

    def price(
        self, record: Record, hardware: str | Path | Hardware | None = None, *, seconds: float | None = None
    ) -> DataFrame:
        """Return the energy of one inference in pJ: one row for each layer.

        Parameters
        ----------
        record : Record
        hardware : str or path, optional
            Name of a profile, or a YAML file of one's own; the model's own profile when left out.
        seconds : float, optional
            Time of one inference, over which the profile's static power is charged, in a row of its own. Without it
            static energy is left out, and a warning says so where the profile knows the power.

        Returns
        -------
        DataFrame
            Columns: layer, kind, the parts (see ``PARTS``; NaN where the model knows no such cost), total,
            applicable, note. ``attrs`` carry model, options, unit, source, confidence, ignores, warnings, hardware,
            node (nm), constants (value, unit, source, confirmed of every constant that was used), figures, and the
            layers that the total leaves out for want of a price (``unpriced``).
        """
        import pandas as pd

        profile = load(self.profile if hardware is None else hardware)
        layers = layers_of(record)
        rows: list[dict[str, Any]] = []
        for layer, found in zip(layers, self.price_layers(layers, profile), strict=True):
            reason = "folded into the layer before" if layer.folded else "outside the scope of the model"
            if not isinstance(found, Price | None):
                kind = type(found).__name__
                raise OptionError(f"price_layer of {type(self).__name__} returns a Price or None, not {kind}")
            priced = found or Price(note=reason)
            unknown = set(priced.parts) - set(PARTS)
            if unknown:
                name = type(self).__name__
                raise OptionError(f"{name} prices the parts {sorted(unknown)}; known: {', '.join(PARTS)}")
            parts = {part: priced.parts.get(part, NAN) for part in PARTS}
            known = [value for value in parts.values() if value == value]
            rows.append(
                {"layer": layer.layer, "kind": layer.kind, **parts, "total": sum(known) if known else NAN,
                 "applicable": found is not None and bool(known), "note": priced.note}
            )  # fmt: skip
        warnings = []
        if "static_power" in profile.constants:
            if seconds is None:
                warnings.append(f"static power of {profile.name} is left out; state the seconds of one inference")
            else:
                check_positive(seconds=seconds)
                energy = profile["static_power"] * seconds * 1e12
                rows.append({"layer": "static power", "kind": "static", **dict.fromkeys(PARTS, NAN), "static": energy,
                             "total": energy, "applicable": True, "note": f"over {seconds:g} s"})  # fmt: skip
        elif seconds is not None:
            raise OptionError(f"hardware {profile.name!r} has no static_power to charge over {seconds:g} s")
        columns = ["layer", "kind", *PARTS, "total", "applicable", "note"]
        table = pd.DataFrame(rows, columns=columns)
        unpriced = [str(priced["layer"]) for priced in rows if priced["note"].startswith("no price")]
        figures = self.figures(layers, profile)
        warnings = [*self.warnings(record, profile), *warnings]
        if unpriced:
            more = f" and {len(unpriced) - 4} more" if len(unpriced) > 4 else ""
            warnings.append(
                f"left out of the total for want of a price: {', '.join(unpriced[:4])}{more}, "
                f"{len(unpriced)} of {len(layers)} layers"
            )
        table.attrs.update(
            model=getattr(type(self), "registered_name", type(self).__name__), options=asdict(self), unit=self.unit,
            source=self.source, confidence=self.confidence, ignores=list(self.ignores), figures=figures,
            warnings=warnings, unpriced=unpriced, hardware=profile.name, node=profile.node_nm, T=record.T,
            constants={name: asdict(profile.constants[name]) for name in sorted(profile.used)},
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
