"""The layers of a network in the order in which they run, found by running it once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neurons import Neuron
from neurons.errors import ShapeError, StepError
from neurons.plain import plain

# Sizes that tell time and batch apart from everything else, and fold to a product that no layer has by chance.
_T, _B = 2, 3
# What returns its input as it is, once trained.
_TRANSPARENT = (nn.Identity, nn.modules.dropout._DropoutNd)


class ChainError(StepError):
    """A network that is no chain of layers."""


@dataclass
class Layer:
    """One layer of a chain.

    Attributes
    ----------
    path : str
        Where the module is in the network.
    module : nn.Module
    before, after : tuple of int
        Shape of one time step of one sample, at its input and at its output.
    """

    path: str
    module: nn.Module
    before: tuple[int, ...]
    after: tuple[int, ...]


@dataclass
class _Trail:
    """What has been computed so far, to see whether the next layer goes on from there."""

    visit: Callable[[Layer], None]
    value: Tensor
    version: int
    path: str | None = None
    after: tuple[int, ...] = ()
    inside: str | None = None


def follow(network: nn.Module, shape: Sequence[int], visit: Callable[[Layer], None]) -> None:
    """Visit the layers of a network that is a chain: each reads what the one before wrote, and nothing else.

    The network runs once on zeros, in eval mode, as a copy: nothing about it needs to be traced or declared.

    Parameters
    ----------
    network : nn.Module
        Takes [T, B, ...].
    shape : sequence of int
        One time step of one sample.
    visit : callable
        Called with each layer in the order in which they run; what it raises ends the run.

    Raises
    ------
    ChainError
        Where something is computed outside the layers (a sum of two branches, a product, a re-ordering).
    ShapeError
        When the network does not take this shape.
    """
    # Contiguous, not channels last: then a layer that goes on from another one reads the same memory.
    alike: Any = copy.deepcopy(network).eval()
    alike = alike.to(memory_format=torch.contiguous_format)
    reference = next(alike.parameters(), torch.zeros(()))
    x = torch.zeros(_T, _B, *shape, dtype=reference.dtype, device=reference.device)
    trail = _Trail(visit, x, x._version)
    for path, module in alike.named_modules():
        if isinstance(module, _TRANSPARENT):
            continue
        if isinstance(module, Neuron) or not any(True for _ in module.children()):
            module.register_forward_pre_hook(lambda m, args, path=path: _enter(trail, path, m, args))
            module.register_forward_hook(lambda m, args, out, path=path: _leave(trail, path, m, args, out))
    try:
        with torch.no_grad(), plain():  # event-driven products return channels last
            y = alike(x)
    except (RuntimeError, ValueError) as error:
        if isinstance(error, StepError):
            raise
        cause = " ".join(str(error).split())
        raise ShapeError(f"the network does not take [T, B, {', '.join(map(str, shape))}]: {cause}") from None
    if trail.path is None:
        raise ChainError(f"{type(network).__name__} has no layers")
    if not isinstance(y, Tensor) or not _goes_on(trail, y) or tuple(y.shape) != (_T, _B, *trail.after):
        raise ChainError(f"its result is not what its last layer {trail.path!r} gives: something is computed after it")


def _enter(trail: _Trail, path: str, module: nn.Module, args: tuple[Any, ...]) -> None:
    if trail.inside is not None:
        return
    trail.inside = path
    if len(args) != 1 or not isinstance(args[0], Tensor):
        raise ChainError(f"layer {path!r} ({type(module).__name__}) does not take one tensor")
    if not _goes_on(trail, args[0]):
        where = "before it" if trail.path is None else f"after {trail.path!r}"
        raise ChainError(
            f"layer {path!r} ({type(module).__name__}) reads what is computed {where} outside any layer: a sum of "
            "branches, a product or a re-ordering"
        )


def _leave(trail: _Trail, path: str, module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
    if trail.inside != path:
        return
    trail.inside = None
    if not isinstance(out, Tensor):
        raise ChainError(f"layer {path!r} ({type(module).__name__}) does not return one tensor")
    layer = Layer(path, module, _sample(path, module, args[0]), _sample(path, module, out))
    trail.visit(layer)
    trail.value, trail.version, trail.path, trail.after = out, out._version, path, layer.after


def _goes_on(trail: _Trail, x: Tensor) -> bool:
    """Whether ``x`` is the last result, or a view of all of it in the same order, unchanged since."""
    last = trail.value
    same = x.untyped_storage().data_ptr() == last.untyped_storage().data_ptr() and x.numel() == last.numel()
    return same and x.is_contiguous() and last.is_contiguous() and x._version == trail.version


def _sample(path: str, module: nn.Module, x: Tensor) -> tuple[int, ...]:
    """Return the shape without time and batch, which may be folded into one axis."""
    if tuple(x.shape[:2]) == (_T, _B):
        return tuple(x.shape[2:])
    if x.shape[0] != _T * _B:
        raise ChainError(
            f"layer {path!r} ({type(module).__name__}) works on several tokens of a sample at once, "
            "and a network of tokens is no chain of layers"
        )
    return tuple(x.shape[1:])
