"""Which kernel a neuron runs on: traced once for every kind of neuron and shape, then remembered.

What is remembered is checked against everything that a step can read: the class, the attributes, the shapes and
types of the tensors. So a changed threshold gets its own kernel, and layers of the same kind share one. Values of
global variables are read once.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from neurons.base import Neuron
from neurons.compiler import cache
from neurons.compiler.choice import Word, choose
from neurons.compiler.graph import Untraceable
from neurons.compiler.library import add, kernel
from neurons.compiler.program import Program, make_program
from neurons.compiler.trace import trace

_ARITHMETIC = {torch.float32: torch.float32, torch.float64: torch.float64, torch.bfloat16: torch.float32}
# What torch itself keeps in a module; and an observer may stand before ``run``, which changes no step.
_INTERNAL = frozenset(vars(nn.Module())) - {"training"} | {"run"}
_LARGEST = 4096

_warnings: list[str] = []


class Plan:
    """The kernel of a neuron, or why there is none.

    Attributes
    ----------
    key : str
        Key of the kernel; empty when there is none.
    names : tuple of str
        Names of the tensors to hand over.
    reason : str
        Why there is none.
    any_batch : bool
        Whether it holds for all batches of two and more samples.
    """

    __slots__ = ("any_batch", "key", "names", "reason")

    def __init__(self, key: str = "", names: tuple[str, ...] = (), reason: str = "", any_batch: bool = False) -> None:
        self.key, self.names, self.reason, self.any_batch = key, names, reason, any_batch


_BY_BATCH = Plan()
_plans: dict[Any, Plan] = {}


def find(neuron: Neuron, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Plan:
    """Return the plan for an input of one time step [B, ...]."""
    word, reason = choose(device)
    if word == "eager":
        return Plan(reason=reason)
    try:
        what = (word, device, dtype, shape[1:], _mark(neuron), tuple(neuron.state.items()))
        # A step means the same for every batch of two or more, as a rule: one plan for all of them.
        known = _plans.get((min(shape[0], 2), what))
        if known is _BY_BATCH:
            known = _plans.get((shape, what))
    except (TypeError, RecursionError):  # an attribute that can be neither compared nor taken apart
        return Plan(reason="it has an attribute that the compiler cannot compare from one call to the next")
    if known is None:
        if len(_plans) >= _LARGEST:
            _plans.clear()
        known = _make(neuron, shape, dtype, device, word)
        if shape[0] < 2 or known.any_batch:
            _plans[min(shape[0], 2), what] = known
        else:
            _plans[2, what] = _BY_BATCH
            _plans[shape, what] = known
    return known


def _make(neuron: Neuron, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, word: Word) -> Plan:
    if type(neuron).run is not Neuron.run:
        return Plan(reason=neuron.eager_reason)
    if dtype not in _ARITHMETIC:
        return Plan(reason=f"there are no kernels for {dtype}")
    names = tuple(tensor_names(neuron))
    elsewhere = [held for name in names if (held := tensor_of(neuron, name).device) != device]
    if elsewhere:
        return Plan(reason=f"its parameters are on {elsewhere[0]} and its input is on {device}")
    if dtype == torch.bfloat16 and any(_widens(tensor_of(neuron, name)) for name in names):
        return Plan(reason="its parameters are wider than the input, and so would be the output")
    try:
        program, any_batch = _program(neuron, names, shape, dtype)
        key = add(program)
        kernel(key, word)  # made now, so that what is missing on this machine is known before it is called
        return Plan(key, names, any_batch=any_batch)
    except Untraceable as error:
        return Plan(reason=str(error))
    except (cache.NoCompilerError, OSError) as error:
        if not _warnings:
            _warnings.append(str(error))
            warnings.warn(f"neurons run in the slow eager loop: {error}", RuntimeWarning, stacklevel=4)
        return Plan(reason=str(error))


def _program(
    neuron: Neuron, names: tuple[str, ...], shape: tuple[int, ...], dtype: torch.dtype
) -> tuple[Program, bool]:
    """Return the program, and whether it holds for all batches of two and more."""

    def attempt(batch: int) -> Program:
        full = (batch, *shape[1:])
        done = trace(neuron, names, len(neuron.state), full, _ARITHMETIC[dtype])
        return make_program(done, dtype, [float(value) for value in neuron.state.values()], full)

    if shape[0] < 2:
        return attempt(shape[0]), False
    try:
        # Two small batches instead of one large, which costs less and shows what depends on the batch.
        first, second = attempt(2), attempt(3)
        if first == second:
            return first, True
    except Untraceable:
        if shape[0] in (2, 3):
            raise
    return attempt(shape[0]), False


def _widens(tensor: Tensor) -> bool:
    return bool(tensor.dim()) and tensor.dtype in (torch.float32, torch.float64)


def tensor_names(module: nn.Module, prefix: str = "") -> list[str]:
    """Return the dotted names of all tensors that a module holds: parameters, buffers and plain attributes."""
    found = [prefix + name for name, value in module._parameters.items() if value is not None]
    found += [prefix + name for name, value in module._buffers.items() if value is not None]
    found += [prefix + name for name, value in vars(module).items() if isinstance(value, Tensor)]
    for name, child in module._modules.items():
        if child is not None:
            found += tensor_names(child, f"{prefix}{name}.")
    return found


def tensor_of(module: nn.Module, name: str) -> Tensor:
    """Return the tensor with a dotted name."""
    value: Any = module
    for part in name.split("."):
        value = getattr(value, part)
    return value  # type: ignore[no-any-return]


def _mark(module: nn.Module) -> Any:
    """Return what identifies the step of a module as long as the process lives; equal means interchangeable."""
    inside = vars(module)
    parts: list[Any] = [type(module), type(module).step if isinstance(module, Neuron) else None]
    parts += [(name, _freeze(value)) for name, value in inside.items() if name not in _INTERNAL]
    for kind in ("_parameters", "_buffers"):
        parts += [(name, _freeze(value)) for name, value in inside[kind].items()]
    parts += [(name, _mark(child)) for name, child in inside["_modules"].items() if child is not None]
    return tuple(parts)


def _freeze(value: Any) -> Any:
    kind = type(value)
    if kind is float or kind is str or value is None:
        return value
    if kind is int or kind is bool:
        return kind, value  # 1, 1.0 and True are equal to Python
    if isinstance(value, Tensor):
        return tuple(value.shape), value.dtype, value.device
    if isinstance(value, (list, tuple)):
        return kind, tuple(_freeze(item) for item in value)
    if isinstance(value, (Mapping, set, frozenset)):
        items = value.items() if isinstance(value, Mapping) else sorted(value, key=repr)
        return kind, tuple(_freeze(item) for item in items)
    frozen = getattr(kind, "__dataclass_params__", None)
    if frozen is not None and frozen.frozen and frozen.eq:
        return value
    if isinstance(value, (FunctionType, type, torch.dtype)) or (callable(value) and not hasattr(value, "__dict__")):
        return value
    if hasattr(value, "__dict__"):
        return kind, tuple((name, _freeze(item)) for name, item in vars(value).items())
    hash(value)
    return value
