"""The switch between the plain form of a computation, which is the reference, and what makes it faster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_plain: ContextVar[bool] = ContextVar("plain", default=False)


@contextmanager
def plain() -> Iterator[None]:
    """Run products densely and norms by themselves in this context: the reference of what is fast otherwise.

    Neurons keep their fused loops; for those see ``STEP_KERNELS=eager``.
    """
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)


def is_plain() -> bool:
    """Whether the plain form is asked for; always while ``torch.compile`` captures a graph, which sees through it."""
    return torch.compiler.is_compiling() or _plain.get()
