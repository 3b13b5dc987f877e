"""A layer as energy models see it: its rows of the record, and the layers before and behind it."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from energy.record import EVENTS, PRODUCTS, Record
from energy.schema import TABLES


@dataclass(eq=False)
class Layer:
    """One layer of an operation record. Every column of ``record.layers`` is an attribute.

    Attributes
    ----------
    row : named tuple
        Its row of ``record.layers``.
    operations, memory : list of named tuple
        Its rows of ``record.operations`` and ``record.memory``.
    first : bool
        Whether it is the first layer with weights.
    sources, targets : list of Layer
        Products and neurons whose output reaches it (through norms, pooling, sums), and those that its output
        reaches.
    inside : Layer, optional
        The neuron that it is a part of, where that is made of products.
    record : Record
    """

    row: Any
    record: Record
    operations: list[Any] = field(default_factory=list)
    memory: list[Any] = field(default_factory=list)
    first: bool = False
    sources: list[Layer] = field(default_factory=list)
    targets: list[Layer] = field(default_factory=list)
    inside: Layer | None = None

    def __getattr__(self, name: str) -> Any:
        if name == "row":
            raise AttributeError(name)
        return getattr(self.row, name)

    def __repr__(self) -> str:
        return f"Layer({self.layer!r}, {self.kind})"

    @property
    def is_product(self) -> bool:
        """Whether it multiplies and accumulates: conv, linear, or a matrix product of two activations."""
        return self.kind in PRODUCTS

    @property
    def is_neuron(self) -> bool:
        """Whether it is a spiking neuron or a conventional activation."""
        return bool(self.kind == "neuron")

    @property
    def is_spiking(self) -> bool:
        """Whether it is a neuron with time, as opposed to a conventional activation."""
        return self.is_neuron and not self.conventional

    @property
    def macs(self) -> list[Any]:
        """Its multiply-accumulate rows: one for each pair of operand classes that it met."""
        return [operation for operation in self.operations if operation.op == "mac"]

    def count(self, op: str, column: str = "dense") -> float:
        """Return the sum of one column over the operations of one kind."""
        return float(sum(getattr(operation, column) for operation in self.operations if operation.op == op))

    def moved(self, role: str, direction: str = "read", policy: str = "dense") -> float:
        """Return the elements of one role that it reads or writes."""
        return float(
            sum(m.elements for m in self.memory if (m.role, m.direction, m.policy) == (role, direction, policy))
        )

    def weight_width(self, stated: float) -> float:
        """Return the bits of one of its weights: those that a model states, or its own where these are fewer."""
        return min(stated, self.weight_bits) if self.weight_bits == self.weight_bits else stated

    @property
    def gets_events(self) -> bool:
        """Whether spikes, or sums of spikes, reach it."""
        return self.operand in EVENTS or self.second_operand in EVENTS

    @property
    def neuron_behind(self) -> Layer | None:
        """The first neuron that its output reaches; None when there is none before the next product."""
        return next((target for target in self.targets if target.is_neuron), None)

    @property
    def feeds_spiking(self) -> bool:
        """Whether its output is integrated by a spiking neuron."""
        neuron = self.neuron_behind
        return neuron is not None and neuron.is_spiking


_ROW: dict[str, Any] = {name: namedtuple(name, columns) for name, columns in TABLES.items()}  # type: ignore[misc]


def _rows(record: Record, name: str) -> Iterator[Any]:
    # Not itertuples, which takes a frame apart column by column at four times the cost.
    frame = getattr(record, name)
    return map(_ROW[name]._make, zip(*(frame[column].tolist() for column in TABLES[name]), strict=True))


def layers_of(record: Record) -> list[Layer]:
    """Return the layers of a record in the order of execution, joined with their operations and neighbours."""
    layers = {row.layer: Layer(row, record) for row in sorted(_rows(record, "layers"), key=lambda row: row.order)}
    for name in ("operations", "memory"):
        for row in _rows(record, name):
            getattr(layers[row.layer], name).append(row)
    neurons = [layer for layer in layers.values() if layer.is_neuron]
    for layer in layers.values() if neurons else ():
        layer.inside = next((each for each in neurons if layer.layer.startswith(f"{each.layer}.")), None)
    weighted = [layer for layer in layers.values() if layer.is_product and not layer.second_operand]
    if weighted:
        weighted[0].first = True
    before: list[Layer] = []
    for layer in layers.values():
        named = layer.row.sources
        # Where the record names no sources, a layer follows the product or neuron before it.
        layer.sources = before if named is None else [layers[name] for name in named.split(",") if name in layers]
        for source in layer.sources:
            source.targets.append(layer)
        if layer.is_product or layer.is_neuron:
            before = [layer]
    return list(layers.values())
