"""The compiled C loops, ready to be called: tensors in, tensors out."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from neurons.compiler import cache
from neurons.compiler.buffers import buffers
from neurons.compiler.cpu import BACKWARD, BLOCK, FORWARD
from neurons.compiler.program import Program

_SERIAL = 1 << 20
"""Operations below which one thread is faster than two: some 30 microseconds."""
_PIECES = 32
"""Blocks to aim at, whatever the number of threads: the sums must not depend on it."""
_SMALLEST = 64
"""Neurons that a block holds at least, where there are as many."""

_USUAL = {2: 1 << 20, 3: 1 << 25}


class Kernel:
    """The compiled loops of one neuron.

    Parameters
    ----------
    program : Program

    Raises
    ------
    cache.NoCompilerError
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.states = len(program.rest)
        self.storage: torch.dtype = getattr(torch, program.storage)
        self.arithmetic: torch.dtype = getattr(torch, program.arithmetic)
        library = cache.load(program.source)
        self._forward, self._backward = getattr(library, FORWARD), getattr(library, BACKWARD)
        for function in (self._forward, self._backward):
            function.argtypes, function.restype = [ctypes.c_void_p, ctypes.c_void_p], None
        self._rest = (ctypes.c_double * max(self.states, 1))(*program.rest)

    def forward(self, x: Tensor, state: Sequence[Tensor], tensors: Sequence[Tensor], keep: bool) -> list[Tensor]:
        """Return the output [T, B, ...] and, when ``keep``, the last states [B, ...]."""
        x, stride = step_rows(x)
        steps, count = x.shape[0], x.numel() // x.shape[0]
        out = buffers.empty(x.shape, x.dtype)
        last = [torch.empty(x.shape[1:], dtype=x.dtype) for _ in range(self.states)] if keep else []
        state = [value.contiguous() for value in state]
        frontier, held = self._frontier(self.program.values(tensors), self.program.before)
        arguments = [
            x.data_ptr(), stride, out.data_ptr(), steps, count, _block(count, BLOCK),
            _threads(steps * count * self.program.work), _streams(out),
            *_pointers(state, self.states), *_pointers(last, self.states), *frontier,
        ]  # fmt: skip
        self._forward((ctypes.c_int64 * len(arguments))(*arguments), self._rest)
        del held
        return [out, *last]

    def backward(
        self,
        gradient: Tensor | None,
        gradient_state: Sequence[Tensor | None],
        x: Tensor,
        state: Sequence[Tensor],
        tensors: Sequence[Tensor],
        needs: Sequence[bool],
    ) -> list[Tensor]:
        """Return the gradients of x, of the states where they were given, and of the tensors that need one."""
        program = self.program
        x, stride = step_rows(x)
        steps, count, shape = x.shape[0], x.numel() // x.shape[0], x.shape[1:]
        gradient, gradient_stride = (None, 0) if gradient is None else step_rows(gradient)
        incoming = [None if value is None else value.contiguous() for value in gradient_state]
        state = [value.contiguous() for value in state]
        values = program.values(tensors)
        frontier, held = self._frontier(values, program.between)
        back = buffers.empty(x.shape, x.dtype)
        first = [torch.empty(shape, dtype=x.dtype) for _ in state]
        block, length = self._segment(steps, count)
        threads = _threads(steps * count * program.work)
        size = self.arithmetic.itemsize
        rows = length * program.kept + (-(-steps // length) - 1) * self.states
        room = rows * block * size // 64 * 64 + 64
        scratch = torch.empty(threads * room, dtype=torch.uint8)
        pieces = -(-count // block)
        sums = [
            torch.empty(pieces, dtype=torch.float64) if whole else torch.empty(shape, dtype=self.arithmetic)
            for _, whole in program.sums
        ]
        arguments = [
            x.data_ptr(), stride, 0 if gradient is None else gradient.data_ptr(), gradient_stride, back.data_ptr(),
            steps, count, block, length, threads, _streams(back), scratch.data_ptr(), room,
            *_pointers(state, self.states), *_pointers(incoming, self.states), *_pointers(first, self.states),
            *frontier, *[value.data_ptr() for value in sums],
        ]  # fmt: skip
        self._backward((ctypes.c_int64 * len(arguments))(*arguments), self._rest)
        del held
        return [back, *first, *program.tensor_gradients(sums, values, tensors, needs)]

    def _frontier(self, values: dict[int, Tensor], nodes: list[int]) -> tuple[list[int], list[Tensor]]:
        """Return what the loop is told of the parameters, and the tensors to hold meanwhile."""
        if not self.program.frontier and not nodes:
            return [], []
        held = self.program.channels(values, nodes, torch.device("cpu"))
        arguments = []
        for value, (_, size, inner) in zip(held, self.program.frontier, strict=True):
            arguments += [value.data_ptr(), size, inner]
        return arguments, held

    def _segment(self, steps: int, count: int) -> tuple[int, int]:
        """Return the size of a block and the number of steps whose states it holds at once."""
        row = max(self.program.kept, 1) * self.arithmetic.itemsize
        room = _cache(2) * 5 // 8
        block = _block(count, max(_SMALLEST, min(BLOCK, room // (row * steps) // _SMALLEST * _SMALLEST)))
        return block, max(1, min(steps, room // (row * block)))


def step_rows(x: Tensor) -> tuple[Tensor, int]:
    """Return ``x`` with every time step in one piece, and the distance of two steps (0 where all are the same)."""
    if x.is_contiguous():
        return x, x.stride(0)
    expected = 1
    for extent, stride in zip(reversed(x.shape[1:]), reversed(x.stride()[1:]), strict=True):
        if extent != 1 and stride != expected:
            x = x.contiguous()
            break
        expected *= extent
    return x, x.stride(0)


def _pointers(tensors: Sequence[Tensor | None], count: int) -> list[int]:
    return [0 if value is None else value.data_ptr() for value in tensors] if tensors else [0] * count


def _block(count: int, largest: int) -> int:
    share = -(-count // (_PIECES * _SMALLEST)) * _SMALLEST
    return max(_SMALLEST, min(largest, share))


def _threads(operations: int) -> int:
    return torch.get_num_threads() if operations >= _SERIAL else 1


@functools.cache
def _cache(level: int) -> int:
    """Return the size of a cache in bytes; 1 or 32 MiB where the system does not tell."""
    # not sysconf, which counts the last cache of the whole machine where only a share can be used
    try:
        text = Path(f"/sys/devices/system/cpu/cpu0/cache/index{level}/size").read_text().strip()
        return int(text.rstrip("KM")) << {"K": 10, "M": 20}[text[-1]]
    except (OSError, ValueError, KeyError):
        return _USUAL[level]


def _streams(out: Tensor) -> int:
    """Whether to write past the cache: where ``out`` alone would fill an eighth of the last one.

    Rows that are far apart are written at half the speed through it, because they compete for the same places.
    """
    return int(out.numel() * out.itemsize > _cache(3) // 8)
