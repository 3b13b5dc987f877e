"""The Triton loops, ready to be called: tensors in, tensors out.

Importing this imports Triton.
"""

from __future__ import annotations

import contextlib
import functools
import linecache
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import triton
import triton.testing
from torch import Tensor

from neurons.compiler.choice import interpreted
from neurons.compiler.graph import Untraceable
from neurons.compiler.kernel import step_rows
from neurons.compiler.program import Program
from neurons.compiler.triton import BACKWARD, FORWARD, UNIT

_SHAPES = ((128, 4), (256, 4), (512, 4), (1024, 8))
"""Neurons and warps of a block among which the fastest is looked for: one to four neurons for each thread."""

OPTIONS = {"enable_fp_fusion": False}
"""Options of every launch. Triton and ptxas would contract a product and a sum into one operation, which rounds once
where the eager loop rounds twice: enough to move a potential across its threshold and flip a spike."""


class TritonKernel:
    """The Triton loops of one neuron.

    Parameters
    ----------
    program : Program

    Raises
    ------
    Untraceable
        When the program has no Triton.
    """

    def __init__(self, program: Program) -> None:
        if not program.triton:
            raise Untraceable(program.lacking)
        self.program = program
        self.states = len(program.rest)
        self.arithmetic: torch.dtype = getattr(torch, program.arithmetic)
        self.interpreted = interpreted()
        names = load(program)
        self._unroll = names["UNROLL_FORWARD"], names["UNROLL_BACKWARD"]
        self._segment, self._scratch = names["SEGMENT"], names["SCRATCH"]
        # a large step takes long to compile, and arithmetic, not memory, is what it waits for
        self._forward = _launcher(names[FORWARD], _SHAPES if self._unroll[0] else _SHAPES[:1])
        self._backward = _launcher(names[BACKWARD], _SHAPES if self._unroll[1] else _SHAPES[:1])

    def forward(self, x: Tensor, state: Sequence[Tensor], tensors: Sequence[Tensor], keep: bool) -> list[Tensor]:
        """Return the output [T, B, ...] and, when ``keep``, the last states [B, ...]."""
        x, stride = step_rows(x)
        steps, count = x.shape[0], x.numel() // x.shape[0]
        out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        last = [torch.empty(x.shape[1:], dtype=x.dtype, device=x.device) for _ in range(self.states)] if keep else []
        arguments = {"x_": x, "xs": stride, "out_": out, "T": steps, "n": count, "bucket": _bucket(count)}
        arguments |= self._per_state("a", [value.contiguous() for value in state]) | self._per_state("z", last)
        arguments |= self._frontier(self.program.values(tensors), self.program.before, x.device)
        arguments["STEPS"] = steps if steps <= self._unroll[0] else 0
        self._launch(self._forward, count, arguments)
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
        values = program.values(tensors)
        new = functools.partial(torch.empty, device=x.device)
        back = new(x.shape, dtype=x.dtype)
        first = [new(shape, dtype=x.dtype) for _ in state]
        long, length, rows = self._segments(steps)
        arguments = {
            "x_": x, "xs": stride, "g_": gradient, "gs": gradient_stride, "back_": back, "T": steps, "n": count,
            "bucket": _bucket(count), "scratch_": new((rows, count), dtype=self.arithmetic) if rows else None,
            "L": length, "LONG": long,
        }  # fmt: skip
        incoming = [None if value is None else value.contiguous() for value in gradient_state]
        arguments |= self._per_state("a", [value.contiguous() for value in state])
        arguments |= self._per_state("d", incoming) | self._per_state("f", first)
        arguments |= self._frontier(values, program.between, x.device)
        sums = [
            new(-(-count // UNIT), dtype=torch.float64) if whole else new(shape, dtype=self.arithmetic)
            for _, whole in program.sums
        ]
        arguments |= {f"q{k}_": value for k, value in enumerate(sums)}
        self._launch(self._backward, count, arguments)
        return [back, *first, *program.tensor_gradients(sums, values, tensors, needs)]

    def _segments(self, steps: int) -> tuple[bool, int, int]:
        """Return whether there are several segments, their steps, and the rows of memory that they need."""
        if steps <= self._unroll[1]:
            return False, steps, 0
        length = self._segment or math.isqrt(steps - 1) + 1
        rows = -(-steps // length) + (0 if self._segment else length)
        return True, length, rows * self.states if self._scratch else 0

    def _per_state(self, letter: str, values: Sequence[Tensor | None]) -> dict[str, Any]:
        return {f"{letter}{j}_": values[j] if values else None for j in range(self.states)}

    def _frontier(self, values: dict[int, Tensor], nodes: list[int], device: torch.device) -> dict[str, Any]:
        """Return what the loop is told of the parameters."""
        arguments: dict[str, Any] = {}
        held = self.program.channels(values, nodes, device)
        for k, (value, (_, size, inner)) in enumerate(zip(held, self.program.frontier, strict=True)):
            arguments |= {f"p{k}_": value} | ({f"size{k}": size, f"inner{k}": inner} if size != 1 else {})
        return arguments

    def _launch(self, kernel: Any, count: int, arguments: dict[str, Any]) -> None:
        if self.interpreted:
            from neurons.compiler.triton_interpreter import launch

            launch(kernel, (-(-count // UNIT),), {**arguments, "BLOCK": UNIT})
            return
        device = arguments["x_"].device
        with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
            kernel[lambda chosen: (-(-count // chosen["BLOCK"]),)](**arguments, **OPTIONS)


def load(program: Program) -> dict[str, Any]:
    """Return the names that the Triton source of a program defines."""
    # Triton asks Python for the text of a kernel, so it is filed where Python looks for that.
    file = f"<step kernel {program.key}>"
    linecache.cache[file] = (len(program.triton), None, program.triton.splitlines(keepends=True), file)
    names: dict[str, Any] = {"__name__": f"step_kernel_{program.key}"}
    exec(compile(program.triton, file, "exec"), names)
    if interpreted():
        from neurons.compiler.triton_interpreter import stand_in

        stand_in(names)
    return names


def _launcher(kernel: Any, shapes: Sequence[tuple[int, int]]) -> Any:
    """Return a kernel that finds its best block by trying, once for every size of problem."""
    if interpreted():
        return kernel
    tried = [triton.Config({"BLOCK": block}, num_warps=warps) for block, warps in shapes]
    # lengths that are unrolled are tried one by one, the others together
    key = ["bucket", "STEPS"] if "STEPS" in kernel.arg_names else ["bucket", "L", "LONG"]
    measure: Callable[..., Any] = functools.partial(triton.testing.do_bench, warmup=2, rep=10)
    return triton.autotune(tried, key=key, do_bench=measure)(kernel)


def _bucket(count: int) -> int:
    """Return the next power of two: batches of nearly the same size share what was found by trying."""
    return 1 << (count - 1).bit_length()
