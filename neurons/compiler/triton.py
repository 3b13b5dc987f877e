"""Triton for the whole loop over time: one program for each block of neurons, states in registers.

The backward kernel reads the input again and works the states out anew. What it needs beside its arguments is bounded:

* A small step keeps the states of a segment of steps in registers, and nothing else when the segment is the whole
  sequence. A longer one is cut into segments of ``SEGMENT`` steps, and a first pass notes the state at the start of
  each in memory: one state in eight steps, at most three eighths of the input with the three states allowed here.
* A large step, which would not fit in registers, keeps them in memory: segments of about sqrt(T) steps, the states of
  one segment and those at the start of each, so about 2 sqrt(T) steps of states.

Nothing here imports Triton: this is text, written wherever the neuron is traced, and used where there is a GPU.
"""

from __future__ import annotations

import torch

from neurons.compiler.graph import Ref
from neurons.compiler.trace import Trace
from neurons.compiler.triton_ops import HELPERS
from neurons.compiler.triton_step import Step, fill, literal

FORWARD, BACKWARD = "step_forward", "step_backward"

UNIT = 128
"""Neurons whose share of the gradient of a parameter is summed at once, whatever the size of a block."""
_UNROLL = 16
"""Steps up to which the loop over time is unrolled."""
_REGISTERS = 32
"""Values that the backward loop may hold for one neuron between its two passes over a segment."""
_SEGMENT = 8
"""Steps of a segment of a long sequence."""
_LARGE = 256
"""Operations of a step from which it is not unrolled: compiling would take long, and its states are a small matter."""

_PRELUDE = """
import triton
import triton.language as tl
from triton.language.extra import libdevice
"""
_SHARED = '''
@triton.jit
def step_narrow(v):
    """Round to the type of the tensors."""
    return v.to(tl.bfloat16)


@triton.jit
def step_total(q):
    """Sum the rows."""
    return tl.sum(q, axis=1)
'''

_FORWARD = f"""
@triton.jit(do_not_specialize=["T", "bucket"])
def {FORWARD}(
    $arguments
):
    offs = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = offs < n
    $parameters
    $start
    if STEPS > 0:
        for t in tl.static_range(STEPS):
            $step
    else:
        for t in range(T):
            $step
    $finish
"""

_BACKWARD = f"""
@triton.jit(do_not_specialize=["T", "bucket"])
def {BACKWARD}(
    $arguments
):
    offs = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = offs < n
    zero = tl.full((BLOCK,), 0, $real)
    $parameters
    $incoming
    $body
    $finish
"""

# The gradient needs no state: one pass.
_STATELESS = """
if LONG:
    for i in range(T):
        t = T - 1 - i
        $gradient
else:
    for t in tl.static_range(L - 1, -1, -1):
        $gradient
"""

# The states of a segment in registers.
_HELD = """
$start
if LONG:
    segments = (T + L - 1) // L
    for c in range(segments - 1):
        $mark
        for k in tl.static_range(L):
            t = c * L + k
            $again
    # another thread may read what this one wrote
    tl.debug_barrier()
    stop = tl.where(inside, T, 0)
    for i in range(segments):
        c = segments - 1 - i
        kept = ()
        for k in tl.static_range(L):
            t = c * L + k
            live = t < stop
            $keep_live
        for k in tl.static_range(L - 1, -1, -1):
            t = c * L + k
            live = t < stop
            $take
            $gradient_live
        $previous
else:
    kept = ()
    for t in tl.static_range(L):
        $keep
    for t in tl.static_range(L - 1, -1, -1):
        $take_short
        $gradient
"""

# The states of a segment in memory, behind those at the start of every segment.
_STORED = """
$start
segments = (T + L - 1) // L
track = scratch_ + tl.cast(segments, tl.int64) * $states * n
for c in range(segments - 1):
    $mark
    for t in range(c * L, c * L + L):
        $again
for i in range(segments):
    c = segments - 1 - i
    begin = c * L
    end = tl.minimum(begin + L, T)
    # another thread may read what this one wrote, here and below
    tl.debug_barrier()
    $previous_or_start
    for t in range(begin, end):
        $track
        $again
    tl.debug_barrier()
    for k in range(end - begin):
        t = end - 1 - k
        $back
        $gradient
"""


class Source:
    """The Triton source of one trace.

    Parameters
    ----------
    trace : Trace
    storage : torch.dtype
        Type of the tensors; arithmetic is in the type of the trace.
    frontier : dict of int to bool
        Static nodes that the core reads, and whether each is one number (otherwise one per channel).
    sums : dict of int to bool
        Core nodes to be summed over time, and whether over the neurons too.
    rest : list of float
        State at rest.
    """

    def __init__(
        self, trace: Trace, storage: torch.dtype, frontier: dict[int, bool], sums: dict[int, bool], rest: list[float]
    ) -> None:
        self.trace, self.frontier, self.sums, self.rest = trace, frontier, sums, rest
        self.step = Step(trace, storage, frontier)
        self.real, self.short = self.step.real, self.step.short
        self.states = len(rest)

    def text(self) -> str:
        """Return the source; Untraceable where Triton lacks something."""
        trace, sums = self.trace, [Ref(index) for index in self.sums]
        update, update_takes = self.step.function("step_update", "x", trace.outputs, 1)
        again, self._again_takes = self.step.function("step_again", "x", trace.outputs[1:], 0)
        roots = [*trace.input_gradients, *sums]
        gradient, self._gradient_takes = self.step.function("step_gradient", "g", roots, len(roots))
        size = len(self.trace.graph.live(trace.outputs, ("core",)))
        size_back = size + len(self.trace.graph.live(roots, ("core",)))
        stateless = not any(name.startswith("s") for name in self._gradient_takes)
        held = size_back < _LARGE and _REGISTERS // (self.states + 1) >= _SEGMENT
        unrolled = min(_UNROLL, _REGISTERS // (self.states + 1)) if held or stateless else 0
        body = _STATELESS if stateless else _HELD if held else _STORED
        limits = f"""
            # steps up to which time is unrolled, forward and backward; steps of a segment, 0 for about sqrt(T)
            UNROLL_FORWARD = {_UNROLL if size < _LARGE else 0}
            UNROLL_BACKWARD = {unrolled if size_back < _LARGE else 0}
            SEGMENT = {_SEGMENT if held or stateless else 0}
            # whether the backward kernel needs memory for states
            SCRATCH = {not stateless}
        """
        parts = [_PRELUDE, "\n".join(line.strip() for line in limits.strip().split("\n")), _SHARED, HELPERS]
        parts += [update, *([] if stateless else [again]), gradient]
        parts += [self._forward(update_takes), self._backward(body)]
        return "\n\n\n".join(part.strip("\n") for part in parts) + "\n"

    # the two kernels -----------------------------------------------------------------------------------------------

    def _load(self, at: str, mask: str = "inside") -> str:
        return f"tl.load({at} + offs, mask={mask}, other=0)" + (f".to({self.real})" if self.short else "")

    def _store(self, at: str, value: str, mask: str = "inside") -> str:
        return f"tl.store({at} + offs, {f'step_narrow({value})' if self.short else value}, mask={mask})"

    def _parameters(self) -> list[str]:
        """Read the frontier, single numbers and channels."""
        return [
            f"p{k} = tl.load(p{k}_)" if single else f"p{k} = tl.load(p{k}_ + (offs // inner{k}) % size{k})"
            for k, single in enumerate(self.frontier.values())
        ]

    def _frontier_arguments(self) -> list[str]:
        sizes = [() if single else (f"size{k}", f"inner{k}") for k, single in enumerate(self.frontier.values())]
        return [name for k, more in enumerate(sizes) for name in (f"p{k}_", *more)]

    def _start(self) -> list[str]:
        """Load the state that came in, or rest."""
        lines = []
        for j, value in enumerate(self.rest):
            lines += [f"s{j} = tl.full((BLOCK,), {literal(value, self.step.dtype)}, {self.real})"]
            lines += [f"if a{j}_ is not None:", f"    s{j} = {self._load(f'a{j}_')}"]
        return lines

    def _forward(self, takes: list[str]) -> str:
        states = range(self.states)
        arguments = ["x_", "xs", "out_", "T", "n", "bucket"]
        arguments += [f"{letter}{j}_" for letter in "az" for j in states] + self._frontier_arguments()
        step = [
            f"x = {self._load(_row('x_', 't', 'xs'))}",
            f"{', '.join(['y', *(f's{j}' for j in states)])} = step_update({', '.join(takes)})",
            self._store(_row("out_", "t", "n"), "y"),
        ]
        finish = [line for j in states for line in (f"if z{j}_ is not None:", f"    {self._store(f'z{j}_', f's{j}')}")]
        return fill(
            _FORWARD, arguments=_arguments(arguments, ["STEPS", "BLOCK"]), parameters=self._parameters(),
            start=self._start(), step=step, finish=finish,
        )  # fmt: skip

    def _backward(self, body: str) -> str:
        states = range(self.states)
        arguments = ["x_", "xs", "g_", "gs", "back_", "scratch_", "T", "n", "bucket"]
        arguments += [f"{letter}{j}_" for letter in "adf" for j in states] + self._frontier_arguments()
        arguments += [f"q{k}_" for k in range(len(self.sums))] + (["L"] if body is _STORED else [])
        constants = ["LONG", "BLOCK"] if body is _STORED else ["L", "LONG", "BLOCK"]
        incoming = [f"q{k} = tl.full((BLOCK,), 0, tl.float64)" for k in range(len(self.sums))]
        for j in states:
            incoming += [f"d{j} = zero", f"if d{j}_ is not None:", f"    d{j} = {self._load(f'd{j}_')}"]
        filled = fill(
            body, start=self._start(), states=str(self.states), gradient=self._gradient(body is not _HELD),
            gradient_live=self._gradient(False, "live"), again=self._again("inside"), keep=self._keep("inside", "t"),
            keep_live=self._keep("live", "k"), take=self._take("k"), take_short=self._take("t"),
            mark=[self._note("scratch_", "c", j) for j in states],
            previous=[self._recall("scratch_", "c - 1", j, "tl.where(inside, c, 0) > 0") for j in states],
            previous_or_start=["if i > 0:", *["    " + self._recall("scratch_", "c", j) for j in states]],
            track=[self._note("track", "t - begin", j) for j in states],
            back=[self._recall("track", "t - begin", j) for j in states],
        )  # fmt: skip
        finish = []
        for j in states:
            finish += [f"if f{j}_ is not None:", f"    {self._store(f'f{j}_', f'd{j}')}"]
        if any(self.sums.values()):
            finish += [f"units = tl.program_id(0) * (BLOCK // {UNIT}) + tl.arange(0, BLOCK // {UNIT})"]
        for k, whole in enumerate(self.sums.values()):
            if whole:
                rows = f"tl.reshape(tl.where(inside, q{k}, 0.0), (BLOCK // {UNIT}, {UNIT}))"
                finish += [f"tl.store(q{k}_ + units, step_total({rows}), mask=units * {UNIT} < n)"]
            else:
                finish += [f"tl.store(q{k}_ + offs, q{k}.to({self.real}), mask=inside)"]
        return fill(
            _BACKWARD, arguments=_arguments(arguments, constants), real=self.real, parameters=self._parameters(),
            incoming=incoming, body=filled.strip("\n").split("\n"), finish=finish,
        )  # fmt: skip

    def _again(self, mask: str) -> list[str]:
        """Advance the states by the step ``t``."""
        names = ", ".join(f"s{j}" for j in range(self.states))
        advance = [f"{names} = step_again({', '.join(self._again_takes)})"] if self.states else []
        return [f"x = {self._load(_row('x_', 't', 'xs'), mask)}", *advance]

    def _keep(self, mask: str, k: str) -> list[str]:
        """Hold input and states of a step, and go on unless it is the last of its segment."""
        load, *advance = self._again(mask)
        held = ", ".join(["x", *(f"s{j}" for j in range(self.states))])
        return [load, f"kept = kept + ({held},)", f"if {k} < L - 1:", *("    " + line for line in advance)]

    def _take(self, k: str) -> list[str]:
        width = self.states + 1
        return [f"{name} = kept[{k} * {width} + {i}]" for i, name in enumerate(["x", *_letters("s", self.states)])]

    def _gradient(self, load: bool, mask: str = "inside") -> list[str]:
        """Go back over the step ``t``."""
        states, sums = range(self.states), range(len(self.sums))
        lines = [f"x = {self._load(_row('x_', 't', 'xs'))}"] if load and "x" in self._gradient_takes else []
        lines += ["g = zero", "if g_ is not None:", f"    g = {self._load(_row('g_', 't', 'gs'), mask)}"]
        results = ["y", *_letters("e", self.states), *_letters("r", len(self.sums))]
        lines += [f"{', '.join(results)} = step_gradient({', '.join(self._gradient_takes)})"]
        lines += [self._store(_row("back_", "t", "n"), "y", mask)]
        if mask == "inside":
            lines += [f"d{j} = e{j}" for j in states] + [f"q{k} += r{k}.to(tl.float64)" for k in sums]
        else:  # steps after the last one leave no trace
            lines += [f"d{j} = tl.where({mask}, e{j}, d{j})" for j in states]
            lines += [f"q{k} += tl.where({mask}, r{k}.to(tl.float64), 0.0)" for k in sums]
        return lines

    def _place(self, pointer: str, row: str, j: int) -> str:
        return f"{pointer} + (tl.cast({row}, tl.int64) * {self.states} + {j}) * n + offs"

    def _note(self, pointer: str, row: str, j: int) -> str:
        return f"tl.store({self._place(pointer, row, j)}, s{j}, mask=inside)"

    def _recall(self, pointer: str, row: str, j: int, mask: str = "inside") -> str:
        return f"s{j} = tl.load({self._place(pointer, row, j)}, mask={mask}, other=0)"


def _letters(letter: str, count: int) -> list[str]:
    return [f"{letter}{j}" for j in range(count)]


def _row(pointer: str, t: str, stride: str) -> str:
    return f"{pointer} + tl.cast({t}, tl.int64) * {stride}"


def _arguments(plain: list[str], constants: list[str]) -> list[str]:
    return [f"{name}," for name in plain] + [f"{name}: tl.constexpr," for name in constants]
