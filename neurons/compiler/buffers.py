"""Memory for results, handed out again once nobody holds it any more.

The system clears every fresh page before it hands it out, which costs as much as the whole loop over time, and a
training step asks for the same sizes again and again. So large results lie in memory that goes back to a list when
the last tensor over it is gone, in pages as large as the system has. What lies idle is bounded.
"""

from __future__ import annotations

import math
import mmap
import os
import weakref
from collections import defaultdict, deque
from typing import Any

import torch
from torch import Tensor

_SMALLEST = 1 << 20
"""Bytes below which torch's own memory is as quick."""
_PAGE = 1 << 21
"""Sizes are rounded up to this: a large page of most processors."""


class Buffers:
    """Buffers by size.

    Parameters
    ----------
    most : int
        Bytes that may lie idle.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._idle: defaultdict[int, deque[mmap.mmap]] = defaultdict(deque)
        self._leases: dict[int, Any] = {}

    @property
    def idle(self) -> int:
        """Bytes that lie idle."""
        return sum(size * len(kept) for size, kept in list(self._idle.items()))

    def empty(self, shape: torch.Size | tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return a tensor with nothing in particular in it, as ``torch.empty`` does."""
        count = math.prod(shape)
        wanted = count * dtype.itemsize
        if wanted < _SMALLEST or not hasattr(mmap, "MAP_ANONYMOUS"):
            return torch.empty(shape, dtype=dtype)
        size = -(-wanted // _PAGE) * _PAGE
        try:
            memory = self._idle[size].pop()
        except IndexError:
            memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            if hasattr(mmap, "MADV_HUGEPAGE"):
                memory.madvise(mmap.MADV_HUGEPAGE)
        # The tensor holds this view; when it dies, so has the last tensor over the memory.
        view = memoryview(memory)
        key = id(view)
        self._leases[key] = weakref.ref(view, lambda _: self._back(key, memory, size))
        return torch.frombuffer(view, dtype=dtype, count=count).view(shape)

    def _back(self, key: int, memory: mmap.mmap, size: int) -> None:
        self._leases.pop(key, None)
        if self.idle + size <= self.most:
            self._idle[size].append(memory)

    def clear(self) -> None:
        """Give what lies idle back to the system."""
        self._idle.clear()


def _share_of_memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 8
    except (OSError, ValueError, AttributeError):
        return 1 << 30


buffers = Buffers(_share_of_memory())
"""Those of all neurons of this process; an eighth of the memory of the machine may lie idle."""
