"""Numbers next to zero, for which processors take many times as long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def flushed() -> Iterator[None]:
    """Take denormal numbers for zero in this context, where the processor can; torch does not by itself.

    Gradients that vanish over long sequences pass through them.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
