"""The C of the products, ready to be called: tensors in, tensors out."""

from __future__ import annotations

import ctypes
import functools
import os

import torch
from torch import Tensor

from neurons.compiler import cache
from neurons.compiler.buffers import buffers
from neurons.products.geometry import Geometry, rows_of, slice_of
from neurons.products.source import TEXT, WIDE

_SERIAL = 1 << 16
"""Vectors below which one thread is faster than two: some 30 microseconds."""
_PART = 64
"""Pixels that are looked at in one piece."""
_RUN, _SAMPLED = 64, 1 << 15
"""Numbers that a sample takes in one piece, and in all."""


@functools.cache
def library() -> ctypes.CDLL | None:
    """Return the compiled loops, or None where there is no C compiler or ``STEP_KERNELS`` asks for eager loops."""
    try:
        found = cache.load(TEXT)
    except (cache.NoCompilerError, OSError):
        return None
    for name in ("step_count", "step_list", "step_product", "step_gradient"):
        function = getattr(found, name)
        function.argtypes, function.restype = [ctypes.c_void_p], None
    found.step_sample.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]
    found.step_sample.restype = ctypes.c_int64
    return found


def available() -> bool:
    """Whether the loops can run here."""
    return os.environ.get("STEP_KERNELS", "") in ("", "c") and library() is not None


def _loops() -> ctypes.CDLL:
    found = library()
    assert found is not None
    return found


def _threads(vectors: float) -> int:
    return torch.get_num_threads() if vectors >= _SERIAL else 1


def _call(name: str, *arguments: int) -> None:
    function, given = getattr(_loops(), name), (ctypes.c_int64 * len(arguments))(*arguments)
    if torch.autograd._profiler_enabled():  # it sees operators of torch only
        with torch.profiler.record_function(name):
            function(given)
    else:
        function(given)


def sample(x: Tensor) -> float:
    """Return the share of non-zeros in evenly spaced pieces of ``x``, which lies in one piece in memory."""
    count = x.numel()
    if count < 2 * _SAMPLED:
        return float(torch.count_nonzero(x)) / max(count, 1)
    skip = count // (_SAMPLED // _RUN) | 1  # odd, so that all channels are met
    seen = (count - _RUN) // skip + 1
    return int(_loops().step_sample(x.data_ptr(), count, skip)) / (seen * _RUN)


class Counted:
    """Bits of the non-zeros of a map, and how many there are.

    Parameters
    ----------
    x : Tensor
        Float32, in one piece in memory, pixels outside, channels inside.
    pixels, width, channels : int
        Pixels of all maps, of one row of a map, and numbers of a pixel.
    """

    def __init__(self, x: Tensor, pixels: int, width: int, channels: int) -> None:
        self._x, self._pixels, self._width, self._channels = x, pixels, width, channels
        self.slice = slice_of(channels)
        slices = -(-channels // self.slice)
        parts = -(-pixels // _PART)
        self._bits = torch.empty(pixels * -(-channels // 16), dtype=torch.int16)
        self._start = torch.empty(pixels * slices + 1, dtype=torch.int32)
        totals = torch.empty(parts, dtype=torch.int64)
        others = torch.empty(parts, dtype=torch.int64)
        self._threads = _threads(pixels * channels / 16)
        _call("step_count", *self._arguments(totals), others.data_ptr(), *self._sizes())
        self._firsts = torch.zeros(parts + 1, dtype=torch.int64)
        torch.cumsum(totals, 0, out=self._firsts[1:])
        self.count = int(self._firsts[-1])
        self.binary = not bool(others.any())

    def _arguments(self, totals: Tensor) -> list[int]:
        return [self._x.data_ptr(), self._bits.data_ptr(), self._start.data_ptr(), totals.data_ptr()]

    def _sizes(self) -> list[int]:
        return [self._pixels, self._channels, self.slice, _PART, self._threads]

    def lists(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return where the list of every pixel starts, the lists, and the values unless all of them are one."""
        names = torch.empty(max(self.count, 1), dtype=torch.int32)
        values = None if self.binary else torch.empty(max(self.count, 1))
        _call(
            "step_list", *self._arguments(self._firsts), 0, *self._sizes(),
            names.data_ptr(), _pointer(values), self._width,
        )  # fmt: skip
        return self._start, names, values


Lists = tuple[Tensor, Tensor, Tensor | None]


def product(lists: Lists, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Return the product, shape [places, outputs]; ``weight`` [N, C, kh, kw] in one piece, either memory format."""
    g = geometry
    weight, channels_last = _one_piece(weight)
    bias = None if bias is None else bias.contiguous()
    out = buffers.empty((g.places, g.outputs), torch.float32)
    packed = buffers.empty((g.panels * g.blocks * g.rows * WIDE + 16,), torch.float32)
    shift = -packed.data_ptr() % 64
    threads = _threads(lists[1].numel() * g.taps * g.outputs / 16)
    room = -(-g.blocks * g.chunk * 12 // 64) * 64 + g.chunk * WIDE * 4 + 64
    scratch = torch.empty(threads * room + 64, dtype=torch.uint8)
    state = torch.zeros(g.panels, dtype=torch.int32)
    rows = rows_of(g, channels_last)
    _call(
        "step_product", *_shape(lists, g, threads), weight.data_ptr(), _pointer(bias), out.data_ptr(),
        rows.data_ptr(), packed.data_ptr() + shift, _aligned(scratch), room // 64 * 64,
        g.span, g.blocks, g.rows, g.chunk, g.groups, state.data_ptr(),
    )  # fmt: skip
    return out


def weight_gradient(lists: Lists, gradient: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """Return the gradient of the weights in the memory format of ``weight``; ``gradient`` [places, outputs]."""
    g = geometry
    _, channels_last = _one_piece(weight)
    out = torch.empty_like(weight, memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    count = lists[1].numel()
    jobs = buffers.empty((g.tiles * g.inputs * 3,), torch.int32)
    names = buffers.empty((count,), torch.int32)
    values = None if lists[2] is None else buffers.empty((count,), torch.float32)
    state = torch.zeros(1 + g.panels * g.gradient_groups, dtype=torch.int32)
    threads = _threads(count * g.taps * g.outputs / 16)
    rows, columns = g.tile
    places = (rows + (g.kernel[0] - 1) // g.stride[0]) * (columns + (g.kernel[1] - 1) // g.stride[1])
    held = -(-g.inputs // g.gradient_groups) * g.taps * WIDE
    sums = buffers.empty((g.panels * g.gradient_groups * g.splits * held + 16,), torch.float32)
    panels = torch.empty(threads * (places * WIDE + -(-g.inputs // 16) * 16) + 16)
    _call(
        "step_gradient", *_shape(lists, g, threads), gradient.data_ptr(), out.data_ptr(),
        jobs.data_ptr(), names.data_ptr(), _pointer(values), state.data_ptr(), _aligned(panels), _aligned(sums),
        rows, columns, g.gradient_groups, g.splits, int(channels_last),
    )  # fmt: skip
    return out


def _shape(lists: Lists, g: Geometry, threads: int) -> list[int]:
    start, names, values = lists
    return [
        start.data_ptr(), names.data_ptr(), _pointer(values), g.batch, g.height, g.width, g.inputs, g.slice,
        g.outputs, *g.kernel, *g.stride, *g.padding, *g.map, threads,
    ]  # fmt: skip


def _one_piece(weight: Tensor) -> tuple[Tensor, bool]:
    """Return the weights in one piece, and whether their channels lie innermost."""
    if weight.is_contiguous():
        return weight, False
    if weight.is_contiguous(memory_format=torch.channels_last):
        return weight, True
    return weight.contiguous(), False


def _pointer(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _aligned(tensor: Tensor) -> int:
    return -(-tensor.data_ptr() // 64) * 64
