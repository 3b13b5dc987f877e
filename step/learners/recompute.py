"""Activation checkpointing: less memory, one more forward pass (Chen et al., 2016, arXiv 1604.06174)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from neurons.errors import OptionError
from step.models import Network

Buffers = list[tuple[nn.Module, str, Tensor]]


@contextmanager
def recomputed(network: Network) -> Iterator[None]:
    """While the context lasts, keep only the input of each segment of the network and recompute the rest on the way
    back.

    Gradients and buffers are those without it: a segment is recomputed from the buffers that it saw, and what it
    does to them then is thrown away, so that running statistics are updated once.

    Raises
    ------
    OptionError
        When the network has no segments.
    """
    with ExitStack() as stack:
        for segment in segments_of(network):
            stack.enter_context(_patched(segment))
        yield


def segments_of(network: Network) -> list[nn.Module]:
    """Return the segments of a network that has some, else raise an OptionError."""
    segments = network.segments()
    if not segments:
        name = getattr(type(network), "registered_name", type(network).__name__)
        raise OptionError(f"checkpoint recomputes block by block, and {name} has no blocks; leave it out")
    return segments


@contextmanager
def _patched(segment: nn.Module) -> Iterator[None]:
    own: Callable[..., Any] = segment.forward

    def forward(*inputs: Any) -> Any:
        seen: Buffers = [
            (module, name, buffer.clone())
            for module in segment.modules()
            for name, buffer in module._buffers.items()
            if buffer is not None
        ]
        return checkpoint(own, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), _swapped(seen)))

    segment.forward = forward  # type: ignore[method-assign]
    try:
        yield
    finally:
        del segment.forward


@contextmanager
def _swapped(buffers: Buffers) -> Iterator[None]:
    present: Buffers = []
    for module, name, seen in buffers:
        present.append((module, name, module._buffers[name]))  # type: ignore[arg-type]
        module._buffers[name] = seen
    try:
        yield
    finally:
        for module, name, buffer in present:
            module._buffers[name] = buffer
