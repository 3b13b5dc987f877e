"""What is to be known of a kernel: its source for every device, and what torch works out before and after the loop.

A description is plain data, kept as JSON, so that another process finds a kernel by its key alone, for instance
when it runs a graph that ``torch.compile`` or ``torch.export`` made elsewhere.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neurons.compiler import triton
from neurons.compiler.cpu import Source, check
from neurons.compiler.graph import Graph, Kind, Ref, Untraceable
from neurons.compiler.trace import Trace

FORMAT = 2
"""Raised when descriptions or the arguments of the functions change."""


@dataclass(frozen=True)
class Program:
    """A kernel without its machine code.

    Attributes
    ----------
    source : str
        C of the loops.
    triton : str
        Triton of the loops; empty where there is none.
    lacking : str
        Why there is no Triton.
    storage, arithmetic : str
        Types of the tensors and of the arithmetic.
    rest : list of float
        State at rest.
    nodes : dict
        Nodes that torch works out, by number: operator, arguments, keyword arguments, shape, type.
    tensors : list of int
        Nodes of the tensors that the neuron holds.
    frontier : list of [node, size, inner]
        Nodes that the loop reads: ``size`` channels of ``inner`` neurons each; size 1 is a single number.
    before, between, after : list of int
        Nodes worked out before the forward loop, before the backward loop, and after it.
    sums : list of [node, whole]
        Nodes that the backward loop sums over time and, when ``whole``, over all neurons.
    gradients : list of int or None
        Nodes of the gradients of ``tensors``.
    kept : int
        How many values of each step the backward loop in C keeps.
    work : int
        Operations of one update, forward.
    """

    source: str
    triton: str
    lacking: str
    storage: str
    arithmetic: str
    rest: list[float]
    nodes: dict[int, list[Any]]
    tensors: list[int]
    frontier: list[list[int]]
    before: list[int]
    between: list[int]
    after: list[int]
    sums: list[list[Any]]
    gradients: list[int | None]
    kept: int
    work: int
    format: int = FORMAT

    def to_json(self) -> str:
        """Return the description as text."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Program:
        """Return a program from its description; a wrong one is a ValueError."""
        data = json.loads(text)
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise ValueError("not a kernel description of this version")
        try:
            return cls(**{**data, "nodes": {int(number): node for number, node in data["nodes"].items()}})
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError("not a kernel description") from error

    @property
    def key(self) -> str:
        """A hash of all of it."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:32]

    def values(self, tensors: Sequence[Tensor]) -> dict[int, Tensor]:
        """Return the values of the nodes of ``tensors``; reduced precision is widened."""
        wide, narrow = getattr(torch, self.arithmetic), (torch.bfloat16, torch.float16)
        return {
            index: tensor.to(wide) if tensor.dtype in narrow else tensor.detach()
            for index, tensor in zip(self.tensors, tensors, strict=True)
        }

    def channels(self, values: dict[int, Tensor], nodes: list[int], device: torch.device) -> list[Tensor]:
        """Work out ``nodes`` and return what the loop reads, in the order of ``frontier``."""
        self.evaluate(nodes, values, device)
        wide = getattr(torch, self.arithmetic)
        return [values[index].to(wide).contiguous() for index, _, _ in self.frontier]

    def tensor_gradients(
        self, sums: Sequence[Tensor], values: dict[int, Tensor], tensors: Sequence[Tensor], needs: Sequence[bool]
    ) -> list[Tensor]:
        """Return the gradients of those of ``tensors`` that need one.

        Parameters
        ----------
        sums : sequence of Tensor
            What the backward loop summed, in the order of ``sums``: one number for every piece of the neurons where
            the sum goes over all of them, else one for every neuron.
        values : dict of Tensor
            Values of the nodes worked out so far.
        tensors : sequence of Tensor
        needs : sequence of bool
        """
        if not any(needs):
            return []
        wide = getattr(torch, self.arithmetic)
        for (index, whole), value in zip(self.sums, sums, strict=True):
            values[index] = value.sum().to(wide) if whole else value
        self.evaluate(self.after, values, tensors[0].device)
        results = []
        for tensor, index, need in zip(tensors, self.gradients, needs, strict=True):
            if need:
                found = torch.zeros_like(tensor) if index is None else values[index].to(tensor.dtype)
                results.append(found.expand(tensor.shape).clone(memory_format=torch.contiguous_format))
        return results

    def evaluate(self, wanted: list[int], values: dict[int, Tensor], device: torch.device) -> None:
        """Work out nodes in order and add them to ``values``."""
        for index in wanted:
            if index not in values:
                op, args, kwargs, shape, dtype = self.nodes[index]
                if op == "constant":
                    values[index] = torch.full(shape, args[0], dtype=getattr(torch, dtype), device=device)
                else:
                    _, name, overload = op.split(".")
                    function = getattr(getattr(torch.ops.aten, name), overload)
                    given = {key: _decode(value, values) for key, value in kwargs.items()}
                    if any(argument.name == "device" for argument in function._schema.arguments):
                        given["device"] = device  # what makes a tensor makes it beside the others
                    values[index] = function(*[_decode(value, values) for value in args], **given)


def make_program(trace: Trace, storage: torch.dtype, rest: list[float], shape: tuple[int, ...]) -> Program:
    """Split a trace into the loop and what stands before and after it.

    Parameters
    ----------
    trace : Trace
    storage : torch.dtype
        Type of the tensors.
    rest : list of float
        State at rest.
    shape : tuple of int
        Shape of one time step.
    """
    graph = trace.graph
    gradients = [ref for ref in trace.tensor_gradients if ref is not None]
    after = graph.live(gradients, ("reduced",))
    sums: dict[int, bool] = {}
    folded = set()
    for index in after:
        node = graph[index]
        core = [operand for operand in node.operands if graph[operand].kind == "core"]
        # A sum over everything is done in the loop; it stands for its operand only if nothing else needs that.
        alone = [other for other in after if set(core) & set(graph[other].operands)] == [index]
        if node.name == "sum" and not node.shape and len(core) == 1 and alone:
            sums[core[0]] = True
            folded.add(index)
            continue
        sums.update(dict.fromkeys(core, False))
    sums.update({ref.index: False for ref in gradients if graph[ref].kind == "core"})
    whole = {index: next(i for i in folded if index in graph[i].operands) for index, full in sums.items() if full}

    roots = [*trace.outputs, *trace.input_gradients, *[Ref(index) for index in sums]]
    core_nodes = graph.live(roots, ("core",))
    for index in core_nodes:
        check(graph[index])
    used = {operand for index in core_nodes for operand in graph[index].operands} | {ref.index for ref in roots}
    frontier = {index: _channels(graph[index].shape, shape) for index in sorted(used) if graph[index].kind == "static"}
    singles = {index: size == 1 for index, (size, _) in frontier.items()}
    source = Source(trace, storage, singles, sums)
    try:
        written, lacking = triton.Source(trace, storage, singles, sums, rest).text(), ""
    except Untraceable as error:
        written, lacking = "", str(error)

    torch_kinds: tuple[Kind, ...] = ("static", "constant")
    before = graph.live([Ref(index) for index in frontier], torch_kinds)
    operands = {operand for index in after for operand in graph[index].operands}
    extra = [Ref(index) for index in operands if graph[index].kind in torch_kinds]
    loose = [ref for ref in gradients if graph[ref].kind in torch_kinds]
    between = graph.live([*[Ref(index) for index in frontier], *extra, *loose], torch_kinds)
    after = [index for index in after if index not in folded]
    inputs = {ref.index for ref in trace.tensors}
    nodes = {
        index: [node.op, _encode(node.args), {k: _encode(v) for k, v in node.kwargs}, *_form(graph, index)]
        for index in sorted({*before, *between, *after} - inputs)
        for node in [graph[index]]
    }
    program = Program(
        source=source.text(), triton=written, lacking=lacking, storage=_name(storage),
        arithmetic=_name(source.dtype), rest=rest, nodes=nodes, tensors=[ref.index for ref in trace.tensors],
        frontier=[[index, *channels] for index, channels in frontier.items()],
        before=[index for index in before if index not in inputs],
        between=[index for index in between if index not in inputs], after=after,
        sums=[[whole.get(index, index), full] for index, full in sums.items()],
        gradients=[None if ref is None else ref.index for ref in trace.tensor_gradients],
        kept=len(source.kept), work=len(graph.live(trace.outputs, ("core",))),
    )  # fmt: skip
    return Program.from_json(program.to_json())  # the same whether it was made here or read


def _channels(shape: tuple[int, ...], full: tuple[int, ...]) -> tuple[int, int]:
    """Return how many channels a parameter has and how many neighbouring neurons share one."""
    aligned = (1,) * (len(full) - len(shape)) + tuple(shape)
    places = [place for place, size in enumerate(aligned) if size != 1]
    if not places:
        return 1, 1
    first, last = places[0], places[-1]
    if len(aligned) > len(full) or aligned[first : last + 1] != full[first : last + 1]:
        raise Untraceable(
            f"a parameter of shape {list(shape)} does not lie along neighbouring dimensions of {list(full)}"
        )
    size, inner = 1, 1
    for extent in full[first : last + 1]:
        size *= extent
    for extent in full[last + 1 :]:
        inner *= extent
    return size, inner


def _form(graph: Graph, index: int) -> tuple[list[int], str]:
    node = graph[index]
    # Only constants need their shape; leaving it out elsewhere lets batches of different sizes share a kernel.
    return list(node.shape) if node.op == "constant" else [], _name(node.dtype)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _encode(value: Any) -> Any:
    if isinstance(value, Ref):
        return {"node": value.index}
    if isinstance(value, torch.dtype):
        return {"dtype": _name(value)}
    if isinstance(value, (tuple, list)):
        return [_encode(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise Untraceable(f"an operator of its step takes {type(value).__name__}")


def _decode(value: Any, values: dict[int, Tensor]) -> Any:
    if isinstance(value, dict):
        return values[value["node"]] if "node" in value else getattr(torch, value["dtype"])
    if isinstance(value, list):
        return [_decode(item, values) for item in value]
    return value
