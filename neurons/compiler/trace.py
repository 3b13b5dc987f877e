"""Watch one time step and its gradient pass by, and write down the graph.

A recorder of our own, not ``make_fx``: the same few milliseconds on the first call of a process as later, where
``make_fx``, like tensors without data, spends more than a second on imports. Autograd does the differentiation, so a
surrogate, a detached reset or any other ``torch.autograd.Function`` needs no special care.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from neurons.compiler.graph import Graph, Kind, Node, Ref, Untraceable
from neurons.compiler.ops import ELEMENTWISE

_LITERAL = {
    "zeros": 0, "zeros_like": 0, "new_zeros": 0, "zero_": 0, "ones": 1, "ones_like": 1, "new_ones": 1,
}  # fmt: skip
"""Operators that fill a tensor with a number of their own."""
_FILLS = {**dict.fromkeys(_LITERAL), "full": 1, "full_like": 1, "scalar_tensor": 0, "new_full": 2, "fill_": 1}
"""Operators that fill a tensor with one number, and where it stands among the arguments."""
_SAME = {
    "clone", "detach", "alias", "lift_fresh", "view", "expand", "_unsafe_view", "contiguous", "reshape",
    "_to_copy", "positive", "copy_",
}  # fmt: skip
"""Operators that change nothing when shape and type stay."""
_LINEAR = _SAME | {
    "sum", "add", "sub", "mul", "div", "neg", "where", "squeeze", "unsqueeze", "permute", "transpose", "t",
    "sigmoid_backward", "tanh_backward", "threshold_backward", "softplus_backward", "masked_fill", "hardtanh_backward",
}  # fmt: skip
"""Operators through which the gradient of a parameter may go after it has been summed."""
_DROPPED = ("device", "layout", "pin_memory", "memory_format", "non_blocking")


@dataclass(frozen=True)
class Trace:
    """What one step does.

    Attributes
    ----------
    graph : Graph
    inputs : list of Ref
        x, then the states.
    gradients : list of Ref
        Gradients of the output and of the new states, which come from outside.
    tensors : list of Ref
        Parameters and other tensors of the neuron.
    outputs : list of Ref
        Output, then the new states.
    input_gradients : list of Ref
        Gradients of x and of the states.
    tensor_gradients : list of Ref or None
        Gradients of ``tensors``; None where there is none.
    """

    graph: Graph
    inputs: list[Ref]
    gradients: list[Ref]
    tensors: list[Ref]
    outputs: list[Ref]
    input_gradients: list[Ref]
    tensor_gradients: list[Ref | None]


def trace(neuron: nn.Module, names: Sequence[str], states: int, shape: tuple[int, ...], dtype: torch.dtype) -> Trace:
    """Trace ``neuron.step`` for an input of one time step.

    Parameters
    ----------
    neuron : Module
    names : sequence of str
        Dotted names of the tensors that the neuron holds.
    states : int
        Number of state variables.
    shape : tuple of int
        Shape of one time step, [B, ...].
    dtype : torch.dtype
        Type of the arithmetic.

    Raises
    ------
    Untraceable
        When the step is not elementwise.
    """
    # What surrounds the call (no gradients, mixed precision, a counting mode, checkpointing) has no part in this.
    with (
        _disable_current_modes(),
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast("cpu", enabled=False),
        torch.autograd.graph.saved_tensors_hooks(lambda value: value, lambda value: value),
    ):
        held = [_stand_in(_lookup(neuron, name), dtype) for name in names]
        double = _double(neuron, dict(zip(names, held, strict=True)))
        recorder = _Recorder(shape)
        leaves = [torch.zeros(shape, dtype=dtype, device="cpu", requires_grad=True) for _ in range(1 + states)]
        inputs = [recorder.enter(leaf, "core") for leaf in leaves]
        tensors = [recorder.enter(tensor, "static") for tensor in held]
        with recorder:
            try:
                # clones, so that a step which writes into its arguments does not write into leaves of autograd
                result = double.step(*[leaf.clone() for leaf in leaves])
            except Untraceable:
                raise
            except Exception as error:  # the eager loop will say it again, to the user
                raise Untraceable(f"its step fails: {_line(error)}") from error
            results = list(result) if isinstance(result, tuple) else [result]
            _check(results, states, shape, dtype)
            outputs = [recorder.ref(value) for value in results]
        incoming = [torch.zeros(shape, dtype=dtype, device="cpu") for _ in results]
        gradients = [recorder.enter(value, "core") for value in incoming]
        recorder.backward = True
        wanted = [*leaves, *[tensor for tensor in held if tensor.requires_grad]]
        pairs = [(value, grad) for value, grad in zip(results, incoming, strict=True) if value.requires_grad]
        found: Sequence[Tensor | None] = [None] * len(wanted)
        if pairs:
            # a sum, because torch.autograd.grad with given gradients imports sympy first
            total = sum((value * gradient).sum() for value, gradient in pairs)
            with recorder:
                try:
                    found = torch.autograd.grad(total, wanted, allow_unused=True)
                except (RuntimeError, TypeError) as error:
                    raise Untraceable(f"its step has no gradient: {_line(error)}") from error
        by_tensor = {id(tensor): value for tensor, value in zip(wanted, found, strict=True)}
        zero = recorder.graph.constant(0.0, shape, dtype)
        back = [zero if (g := by_tensor[id(leaf)]) is None else recorder.ref(g) for leaf in leaves]
        for_tensors = [None if (g := by_tensor.get(id(tensor))) is None else recorder.ref(g) for tensor in held]
    _refuse_bad(recorder, [*outputs, *back, *[ref for ref in for_tensors if ref is not None]], 2 * len(leaves))
    return Trace(recorder.graph, inputs, gradients, tensors, outputs, back, for_tensors)


def _lookup(module: nn.Module, name: str) -> Tensor:
    value: Any = module
    for part in name.split("."):
        value = getattr(value, part)
    return value  # type: ignore[no-any-return]


def _stand_in(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a leaf of the same shape; reduced precision is widened to ``dtype``."""
    kind = dtype if tensor.dtype in (torch.bfloat16, torch.float16) else tensor.dtype
    return torch.zeros(tensor.shape, dtype=kind, device="cpu", requires_grad=kind.is_floating_point)


def _double(module: nn.Module, tensors: dict[str, Tensor], prefix: str = "") -> Any:
    """Return a shallow copy of a module with other tensors in it; the module itself is not touched."""
    copy = object.__new__(type(module))
    own = {name: value for name, value in tensors.items() if "." not in name.removeprefix(prefix)}
    own = {name.removeprefix(prefix): value for name, value in own.items() if name.startswith(prefix)}
    for name, value in vars(module).items():
        if name in ("_parameters", "_buffers"):
            value = {key: None if old is None else own[key] for key, old in value.items()}
        elif name == "_modules":
            value = {key: None if m is None else _double(m, tensors, f"{prefix}{key}.") for key, m in value.items()}
        elif isinstance(value, Tensor):
            value = own[name]
        copy.__dict__[name] = value
    return copy


def _check(results: list[Any], states: int, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    if len(results) != 1 + states:
        raise Untraceable(f"its step returns {len(results)} tensors; 1 output and {states} states were expected")
    for value in results:
        if not isinstance(value, Tensor) or tuple(value.shape) != shape:
            found = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise Untraceable(f"its step turns an input of shape {list(shape)} into {found}")
        if value.dtype != dtype:
            raise Untraceable(f"its step turns {dtype} into {value.dtype}")


def _refuse_bad(recorder: _Recorder, roots: list[Ref], elementwise: int) -> None:
    """Refuse what the results need and a loop cannot do; the first ``elementwise`` of them must be in the core."""
    graph = recorder.graph
    if any(graph[ref].kind == "reduced" for ref in roots[:elementwise]):
        raise Untraceable("the gradient of its step mixes neurons")
    for index in graph.live(roots, ("bad", "core", "reduced", "static", "constant")):
        if graph[index].kind == "bad":
            raise Untraceable(recorder.reasons[index])


def _line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


class _Recorder(TorchDispatchMode):
    """Writes down every operator that reaches it, forward and backward."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape
        self.graph = Graph()
        self.backward = False
        self.reasons: dict[int, str] = {}
        self._refs: dict[Any, Ref] = {}
        self._alive: list[Tensor] = []  # while they live, no two storages share an address

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # otherwise the first operator imports torch._dynamo, which takes more than a second

    def enter(self, tensor: Tensor, kind: Kind) -> Ref:
        """Make ``tensor`` an input of the graph."""
        number = len(self.graph.nodes)
        node = Node("input", (number,), (), kind, tuple(tensor.shape), tensor.dtype, tensor.dtype)
        return self._bind(tensor, self.graph.add(node))

    def ref(self, tensor: Tensor) -> Ref:
        """Return the node of a tensor."""
        known = self._refs.get(_place(tensor))
        if known is None:
            raise Untraceable("it uses a tensor that is neither its input, its state nor one of its own tensors")
        return known

    def _bind(self, tensor: Tensor, ref: Ref) -> Ref:
        self._alive.append(tensor)
        self._refs[_place(tensor)] = ref
        return ref

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if name in ("_local_scalar_dense", "item", "is_nonzero", "equal"):
            raise Untraceable("its step needs the value of a tensor in Python (if, float(), item())")
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise Untraceable(f"its step draws random numbers ({name})")
        if name == "lift_fresh" and args[0].numel() == 1 and _place(args[0]) not in self._refs:
            out = func(*args, **kwargs)
            self._bind(out, self.graph.constant(args[0].item(), tuple(out.shape), out.dtype))
            return out
        mutable = func._schema.is_mutable
        # a tensor written into is looked up before it changes
        if name in _FILLS:  # what is filled may be anything
            packed = tuple(self._pack(value) if i == _FILLS[name] else None for i, value in enumerate(args))
        else:
            packed = tuple(self._pack(value) for value in args)
        out = func(*args, **kwargs)
        if not isinstance(out, Tensor):
            if torch.is_grad_enabled() or not self.backward:
                raise Untraceable(f"{name} has several results")
            raise Untraceable(f"the gradient of its step uses {name}, which has several results")
        if mutable:
            if not name.endswith("_") or out is not args[0]:
                raise Untraceable(f"its step writes into a tensor with {name}")
            place = _place(out)[0]
            self._refs = {key: value for key, value in self._refs.items() if key[0] != place}
        self._bind(out, self._record(func, name, packed, kwargs, args, out))
        return out

    def _pack(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self.ref(value)
        if isinstance(value, (list, tuple)):
            return tuple(self._pack(item) for item in value)
        return value

    def _record(self, func: Any, name: str, packed: Any, kwargs: Any, args: Any, out: Tensor) -> Ref:
        graph, shape = self.graph, tuple(out.shape)
        if name in _FILLS:
            value = _LITERAL[name] if name in _LITERAL else packed[_FILLS[name]]
            number = graph.value(value)
            if number is not None:
                return graph.constant(number, shape, out.dtype)
        if name in _SAME and packed and isinstance(packed[1 if name == "copy_" else 0], Ref):
            source = packed[1 if name == "copy_" else 0]
            node = graph[source]
            if node.shape == shape and node.dtype == out.dtype:
                return source  # type: ignore[no-any-return]
            if name == "copy_":
                func, name, packed = torch.ops.aten._to_copy.default, "_to_copy", (source,)
                kwargs = {"dtype": out.dtype}
        if func._schema.is_mutable:
            name = name.removesuffix("_")
            func = getattr(getattr(torch.ops.aten, name), func._overloadname)
        extra = {key: self._pack(value) for key, value in kwargs.items() if key not in _DROPPED and value is not None}
        if (
            name in _SAME
            and packed
            and graph.value(packed[0]) is not None
            and isinstance(packed[0], Ref)
            and out.dtype.is_floating_point
        ):
            return graph.constant(float(graph.value(packed[0])), shape, out.dtype)  # type: ignore[arg-type]
        operands = [value for value in _flat(packed) if isinstance(value, Ref)]
        kind, reason = self._kind(name, operands, shape)
        tensors = [value for value in _flat(args) if isinstance(value, Tensor)]
        compute = out.dtype
        if out.dtype == torch.bool and tensors:
            compute = tensors[0].dtype if len(tensors) < 2 else torch.result_type(*tensors[:2])
        node = Node(str(func), packed, tuple(sorted(extra.items())), kind, shape, out.dtype, compute)
        if kind == "constant":
            folded = _fold(func, graph, packed, extra)
            if folded is not None:
                return graph.constant(folded, shape, out.dtype)
            node = Node(str(func), packed, node.kwargs, "static", shape, out.dtype, compute)
        ref = graph.add(node)
        if kind == "bad":
            self.reasons[ref.index] = reason
        return ref

    def _kind(self, name: str, operands: list[Ref], shape: tuple[int, ...]) -> tuple[Kind, str]:
        kinds = [self.graph[operand].kind for operand in operands]
        for operand in operands:
            if operand.index in self.reasons:
                return "bad", self.reasons[operand.index]
        moving = kinds.count("core") + kinds.count("reduced")
        if moving:
            if "reduced" not in kinds and name in ELEMENTWISE and shape == self.shape:
                return "core", ""
            # Summing over time first and going on afterwards is right only for what is linear.
            if self.backward and name in _LINEAR and (moving == 1 or name in ("add", "sub")):
                return "reduced", ""
            where = "the gradient of its step" if self.backward else "its step"
            return "bad", f"{name} in {where} is not an elementwise operation known to the compiler"
        if "static" in kinds:
            return "static", ""
        if operands and name in ELEMENTWISE:
            return "constant", ""
        return ("static", "") if operands else ("bad", f"its step makes a tensor with {name}")


def _place(tensor: Tensor) -> tuple[Any, ...]:
    """Return what tells two values apart: detached and unpacked tensors are new objects over the same storage."""
    return (
        tensor.untyped_storage()._cdata, tuple(tensor.shape), tensor.stride(), tensor.storage_offset(), tensor.dtype,
    )  # fmt: skip


def _flat(values: Any) -> list[Any]:
    return [item for value in values for item in (_flat(value) if isinstance(value, (list, tuple)) else [value])]


def _fold(func: Any, graph: Graph, packed: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Work out an operator on constants now; None when it does not apply to single numbers."""

    def number(value: Any) -> Any:
        if isinstance(value, Ref):
            return torch.tensor(graph[value].args[0], dtype=graph[value].dtype)
        return value

    try:
        with _disable_current_modes():
            return func(*[number(value) for value in packed], **kwargs).item()
    except (RuntimeError, TypeError, ValueError):
        return None
