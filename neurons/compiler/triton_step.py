"""Triton for one time step: a function of blocks of neurons, with an operator on each line."""

from __future__ import annotations

import torch

from neurons.compiler.graph import Ref, Untraceable
from neurons.compiler.ops import CONDITION
from neurons.compiler.trace import Trace
from neurons.compiler.triton_ops import ELEMENTWISE, Call

_TYPES = {torch.float32: "tl.float32", torch.float64: "tl.float64", torch.bool: "tl.int1"}


class Step:
    """What the step of a trace and its gradient are in Triton.

    Parameters
    ----------
    trace : Trace
    storage : torch.dtype
        Type of the tensors; arithmetic is in the type of the trace.
    frontier : dict of int to bool
        Static nodes that the core reads, and whether each is one number (otherwise one per channel).
    """

    def __init__(self, trace: Trace, storage: torch.dtype, frontier: dict[int, bool]) -> None:
        self.graph, self.frontier = trace.graph, frontier
        self.short = storage == torch.bfloat16
        self.dtype = self.graph[trace.inputs[0]].dtype
        self.real = type_name(self.dtype)
        states = range(len(trace.inputs) - 1)
        places = [*trace.inputs, *trace.gradients]
        letters = ["x", *(f"s{j}" for j in states), "g", *(f"d{j}" for j in states)]
        self.inputs = {ref.index: name for ref, name in zip(places, letters, strict=True)}
        self.inputs |= {index: f"p{k}" for k, index in enumerate(frontier)}
        self.names: dict[int, str] = {}

    def function(self, name: str, like: str, roots: list[Ref], wide: int) -> tuple[str, list[str]]:
        """Return a function that works out ``roots``, all but the first ``wide`` rounded, and what it takes."""
        self.names, constants = dict(self.inputs), dict[str, str]()
        nodes = self.graph.live(roots, ("core",))
        lines = [self._line(index, constants) for index in nodes if self.graph[index].op != "input"]
        used = {*nodes, *(i for index in nodes for i in self.graph[index].operands), *(ref.index for ref in roots)}
        takes = [text for index, text in self.inputs.items() if index in used or text == like]
        results = [self._result(ref, like) for ref in roots]
        results[wide:] = [self._rounded(value) for value in results[wide:]]
        body = [*(f"{known} = {value}" for value, known in constants.items()), *lines, f"return {', '.join(results)}"]
        return fill(f"@triton.jit\ndef {name}({', '.join(takes)}):\n    $body", body=body), takes

    def _line(self, index: int, constants: dict[str, str]) -> str:
        node = self.graph[index]
        compute = node.compute

        def constant(value: float, kind: torch.dtype = compute) -> str:
            text = f"tl.full((), {literal(value, kind)}, {type_name(kind)})"
            return constants.setdefault(text, f"c{len(constants)}")

        def operand(value: Ref | bool | int | float | None, cast: bool) -> str:
            if value is None:
                return ""
            number = self.graph.value(value)
            if number is not None:
                return constant(number, compute if cast else torch.bool)
            assert isinstance(value, Ref)
            return self._cast(value, compute if cast else self.graph[value].dtype)

        condition = CONDITION.get(node.name)
        self.names[index] = f"n{index}"
        if node.name == "_to_copy":
            source = node.args[0]
            assert isinstance(source, Ref)
            return f"n{index} = {self._cast(source, node.dtype)}"
        a = [operand(value, i != condition) for i, value in enumerate(node.args)]
        raw = [self.graph.value(value) for value in node.args]
        call = Call(a, raw, dict(node.kwargs), compute == torch.float64, constant)
        if node.name not in ELEMENTWISE:
            raise Untraceable(f"Triton has no {node.name}")
        return f"n{index} = {ELEMENTWISE[node.name](call)}"

    def _cast(self, ref: Ref, wanted: torch.dtype) -> str:
        """Return a node in another type."""
        node, text = self.graph[ref], self.names[ref.index]
        held = self.dtype if node.kind == "static" else node.dtype  # parameters come in the type of the arithmetic
        if held == wanted:
            return text
        if wanted == torch.bool or (node.kind == "static" and node.dtype == torch.bool):
            truth = f"({text} != 0)"
            return truth if wanted == torch.bool else f"{truth}.to({type_name(wanted)})"
        return f"{text}.to({type_name(wanted)})"

    def _result(self, ref: Ref, like: str) -> str:
        """Return a result as a block of numbers."""
        number = self.graph.value(ref)
        if number is not None:
            return f"tl.full({like}.shape, {literal(number, self.dtype)}, {self.real})"
        text = self._cast(ref, self.dtype)
        return f"tl.broadcast_to({text}, {like}.shape)" if self.frontier.get(ref.index) else text

    def _rounded(self, value: str) -> str:
        return f"step_narrow({value}).to({self.real})" if self.short else value


def type_name(dtype: torch.dtype) -> str:
    """Return the name of a type in Triton; Untraceable when the compiler does not know it."""
    if dtype not in _TYPES:
        raise Untraceable(f"its step computes in {dtype}")
    return _TYPES[dtype]


def literal(value: float | bool, dtype: torch.dtype) -> str:
    """Return a number as Python writes it."""
    if dtype == torch.bool:
        return str(int(value))
    text = repr(float(value))
    return f'float("{text}")' if text.strip("-") in ("inf", "nan") else text


def fill(template: str, **parts: list[str] | str) -> str:
    """Put lines in the place of ``$name`` on a line of its own, indented alike, and words in that of others."""
    lines = []
    for line in template.strip("\n").split("\n"):
        bare = line.strip()
        found = parts.get(bare[1:]) if bare.startswith("$") else None
        if isinstance(found, list):
            indent = line[: len(line) - len(line.lstrip())]
            lines += [indent + part for part in found]
            continue
        for name, value in parts.items():
            if isinstance(value, str):
                line = line.replace(f"${name}", value)
        lines.append(line)
    return "\n".join(lines)
