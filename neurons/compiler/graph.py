"""The graph of one time step and its gradient: nodes in order, each made once.

A node is of one of five kinds, by what it depends on:

========  ==================================================================================
constant  nothing: one number
static    parameters and constants only; the same at every time step, so torch works it out once
core      the input, the state or a gradient; elementwise, the body of the generated loop
reduced   sums over the core that lead to the gradient of a parameter; torch works them out at the end
bad       something that is not elementwise; harmless unless a result needs it
========  ==================================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

Kind = Literal["constant", "static", "core", "reduced", "bad"]
Scalar = bool | int | float


class Untraceable(Exception):
    """The step cannot be compiled; the message says why and completes "it runs eagerly because ..."."""


@dataclass(frozen=True)
class Ref:
    """A reference to a node, by its place in the graph."""

    index: int


@dataclass(frozen=True)
class Node:
    """One value of the step.

    ``op`` is the full name of a torch operator (``aten.mul.Tensor``), ``input``, or ``constant`` (its value is
    then the only argument). ``compute`` is the type in which the operands meet; it differs from ``dtype`` for
    comparisons.
    """

    op: str
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...]
    kind: Kind
    shape: tuple[int, ...]
    dtype: torch.dtype
    compute: torch.dtype

    @property
    def name(self) -> str:
        """The operator without its namespace and overload: ``mul``."""
        return self.op.split(".")[1] if "." in self.op else self.op

    @property
    def operands(self) -> list[int]:
        """The nodes this one is made of."""
        return [ref.index for ref in references((*self.args, *(value for _, value in self.kwargs)))]


def references(values: Iterable[Any]) -> Iterator[Ref]:
    """Yield the references in ``values`` and in the tuples within."""
    for value in values:
        if isinstance(value, Ref):
            yield value
        elif isinstance(value, tuple):
            yield from references(value)


@dataclass
class Graph:
    """Nodes in the order in which they were made; equal nodes are one node."""

    nodes: list[Node] = field(default_factory=list)
    _known: dict[Any, Ref] = field(default_factory=dict)

    def __getitem__(self, ref: Ref | int) -> Node:
        return self.nodes[ref.index if isinstance(ref, Ref) else ref]

    def add(self, node: Node) -> Ref:
        """Add a node, or return the simpler or earlier node that has the same value."""
        simpler = self._simplified(node)
        if simpler is not None:
            return simpler
        # 1, 1.0 and True are equal to Python but not to torch, hence the representation.
        key = (node.op, repr(node.args), repr(node.kwargs), node.shape, node.dtype, node.compute)
        if key not in self._known:
            self._known[key] = Ref(len(self.nodes))
            self.nodes.append(node)
        return self._known[key]

    def constant(self, value: Scalar, shape: tuple[int, ...], dtype: torch.dtype) -> Ref:
        """Return the node of a tensor filled with one number."""
        return self.add(Node("constant", (value,), (), "constant", shape, dtype, dtype))

    def value(self, argument: Any) -> Scalar | None:
        """Return the number that an operand stands for, or None."""
        if isinstance(argument, Ref):
            node = self[argument]
            return node.args[0] if node.kind == "constant" else None
        return argument if isinstance(argument, (bool, int, float)) else None

    def _simplified(self, node: Node) -> Ref | None:
        """Return the operand that ``node`` equals: x + 0, x - 0, 1 x, x / 1, x ** 1."""
        if node.name not in ("add", "sub", "mul", "div", "pow") or len(node.args) < 2:
            return None
        if dict(node.kwargs).get("rounding_mode") is not None:
            return None
        left, right = node.args[:2]
        neutral = 0 if node.name in ("add", "sub") else 1
        sides = [(left, right)]
        if node.name == "mul" or (node.name == "add" and dict(node.kwargs).get("alpha", 1) == 1):
            sides.append((right, left))
        for kept, dropped in sides:
            value = self.value(dropped)
            if isinstance(kept, Ref) and value is not None and value == neutral:
                same = self[kept]
                if same.shape == node.shape and same.dtype == node.dtype:
                    return kept
        return None

    def live(self, roots: Iterable[Ref], within: Iterable[Kind], given: Iterable[int] = ()) -> list[int]:
        """Return, in order, the nodes of the kinds ``within`` that ``roots`` need when those ``given`` are known."""
        kinds, known = set(within), set(given)
        found: set[int] = set()
        stack = [ref.index for ref in roots]
        while stack:
            index = stack.pop()
            if index in found or index in known or self.nodes[index].kind not in kinds:
                continue
            found.add(index)
            stack.extend(self.nodes[index].operands)
        return sorted(found)
