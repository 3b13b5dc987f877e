"""C for the whole loop over time: blocks of neurons that fit in cache, time outside, neurons inside.

The backward loop reads the input again and works the states out anew, block by block: what ``L`` steps at a time need
on the way back (see ``cut``) is kept in a scratch buffer that fits in cache; a sequence longer than that is cut into
segments, and a first pass notes the state at the start of each. Additions and products are never contracted or
reordered, so that the backward loop meets the very numbers of the forward loop and these are the numbers of the eager
loop.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from neurons.compiler.cpu_parts import BFLOAT16, BLOCKS, PLAIN, PRELUDE
from neurons.compiler.cut import values_to_keep
from neurons.compiler.graph import Graph, Node, Ref, Untraceable
from neurons.compiler.ops import CONDITION, ELEMENTWISE, HELPERS, Call, literal
from neurons.compiler.trace import Trace

BLOCK = 256
"""Neurons that one block holds at most."""

_CALLS = 16
"""Uses of a helper up to which it is written into the loops."""

FEW = 8
"""Steps up to which the hardware follows all rows at once."""

FORWARD, BACKWARD = "step_forward", "step_backward"

_CTYPES = {torch.float32: "float", torch.float64: "double", torch.bool: "int"}


class Source:
    """The C source of one trace.

    Parameters
    ----------
    trace : Trace
    storage : torch.dtype
        Type of the tensors; arithmetic is in the type of the trace.
    frontier : dict of int to bool
        Static nodes that the core reads, and whether each is one number (otherwise one per channel).
    sums : dict of int to bool
        Core nodes to be summed over time, and whether over the neurons too.
    """

    def __init__(self, trace: Trace, storage: torch.dtype, frontier: dict[int, bool], sums: dict[int, bool]) -> None:
        self.graph: Graph = trace.graph
        self.trace = trace
        self.storage = storage
        self.frontier = frontier
        self.sums = sums
        self.states = len(trace.inputs) - 1
        self.dtype = self.graph[trace.inputs[0]].dtype
        self.names: dict[int, str] = {ref.index: f"s{i - 1}" for i, ref in enumerate(trace.inputs)}
        self.names[trace.inputs[0].index] = "x"
        self.names |= {ref.index: f"d{i - 1}" for i, ref in enumerate(trace.gradients)}
        self.names[trace.gradients[0].index] = "g"
        self.names |= {i: f"p{k}" + ("" if single else "[i]") for k, (i, single) in enumerate(frontier.items())}
        self.kept = self._values_to_keep()

    def text(self) -> str:
        """Return the source."""
        real = _CTYPES[self.dtype]
        store = "uint16_t" if self.storage == torch.bfloat16 else real
        types = f"typedef {real} real;\ntypedef {store} store;\n#define BLOCK {BLOCK}\n"
        types += f"#define ROW {len(self.kept)}\n#define FEW {FEW}\n#define AHEAD (T > FEW ? 8 : 4)\n"
        loads = BFLOAT16 if self.storage == torch.bfloat16 else PLAIN
        loops = self._forward() + self._backward()
        parts = (PRELUDE, types, loads, BLOCKS, _helpers(loops), loops)
        text = "\n".join(part.strip("\n") for part in parts) + "\n"
        # a function that only fetches ahead would be found to have no effect, and its calls dropped
        return text.replace("static inline", "static inline __attribute__((always_inline))")

    def _values_to_keep(self) -> list[int]:
        """Return what the way back needs of the way there: nothing where it depends on no state."""
        roots = [*self.trace.input_gradients, *[Ref(index) for index in self.sums]]
        states = {ref.index for ref in self.trace.inputs[1:]}
        if not states & set(self.graph.live(roots, ("core",))):
            return []
        return values_to_keep(self.graph, roots, self.trace.gradients, self.dtype)

    # one operator, one line -------------------------------------------------------------------------------------

    def _operand(self, value: Ref | bool | int | float | None, compute: torch.dtype, cast: bool = True) -> str:
        f = "f" if compute == torch.float32 else ""
        if value is None:
            return ""
        number = self.graph.value(value)
        if number is not None:
            return literal(number, f) if cast and compute != torch.bool else str(int(number))
        assert isinstance(value, Ref)
        node = self.graph[value]
        text = self.names[value.index]
        if node.kind == "static":
            if node.dtype == torch.bool:
                return f"({text} != 0)"
            return f"({_ctype(compute)}){text}" if compute != self.dtype and cast else text
        return f"(({_ctype(compute)}){text})" if cast and node.dtype != compute else text

    def _line(self, index: int) -> str:
        node = self.graph[index]
        compute = node.compute
        condition = CONDITION.get(node.name)
        raw = [self.graph.value(value) for value in node.args]
        a = [self._operand(value, compute, cast=i != condition) for i, value in enumerate(node.args)]
        call = Call(a, raw, dict(node.kwargs), "f" if compute == torch.float32 else "")
        self.names[index] = f"n{index}"
        if node.name == "_to_copy":
            source = self._operand(node.args[0], compute, cast=False)
            truth = isinstance(node.args[0], Ref) and self.graph[node.args[0]].dtype == torch.bool
            if node.dtype == torch.bool:
                expression = f"({source}) != 0"
            elif truth:  # a choice, not a conversion: one instruction less
                expression = f"{source} ? 1 : 0"
            else:
                expression = f"({_ctype(node.dtype)})({source})"
        else:
            expression = ELEMENTWISE[node.name](call)
        return f"const {_ctype(node.dtype)} n{index} = {expression};"

    def _body(self, roots: list[Ref], given: list[int] | None = None) -> list[str]:
        nodes = self.graph.live(roots, ("core",), given or ())
        return [self._line(index) for index in nodes if self.graph[index].op != "input"]

    def _value(self, ref: Ref) -> str:
        return self._operand(ref, self.dtype)

    # the two functions -------------------------------------------------------------------------------------------

    def _parameters(self, start: int) -> list[str]:
        """Read the frontier: single numbers at once, channels into a row for each block."""
        lines = []
        for k, single in enumerate(self.frontier.values()):
            at = start + 3 * k
            if single:
                lines.append(f"const real p{k} = *(const real *)a[{at}];")
            else:
                lines.append(f"const real *c{k} = (const real *)a[{at}];")
                lines.append(f"const int64_t size{k} = a[{at + 1}], inner{k} = a[{at + 2}];")
        return lines

    def _gather(self) -> list[str]:
        lines = []
        for k, single in enumerate(self.frontier.values()):
            if not single:
                lines.append(f"real p{k}[BLOCK] __attribute__((aligned(64)));")
                lines.append(f"step_gather(p{k}, c{k}, lo, w, size{k}, inner{k});")
        return lines

    def _start(self, to: str, first: int) -> list[str]:
        """Load the state that came in, or rest, into rows named by ``to``."""
        lines = []
        for j in range(self.states):
            row = to.format(j=j)
            lines.append(f"{{ const store *in = (const store *)a[{first + j}]; real *row = {row};")
            lines.append("  if (in) for (int64_t i = 0; i < w; ++i) row[i] = step_load(in[lo + i]);")
            lines.append(f"  else for (int64_t i = 0; i < w; ++i) row[i] = (real)rest[{j}]; }}")
        return lines

    def _forward(self) -> str:
        states, outputs = range(self.states), self.trace.outputs
        body = self._body(outputs)
        step = [
            "const real x = step_load(xt[i]);", *[f"const real s{j} = v{j}[i];" for j in states], *body,
            f"ot[i] = step_store({self._value(outputs[0])});",
            *[f"v{j}[i] = step_round({self._value(outputs[1 + j])});" for j in states],
        ]  # fmt: skip
        return _indent(f"""
void {FORWARD}(const int64_t *a, const double *rest) {{
const store *x_ = (const store *)a[0];
store *out = (store *)a[2];
const int64_t xs = a[1], T = a[3], n = a[4], m = a[5], threads = a[6], stream = a[7];
(void)rest; (void)threads;
{_join(self._parameters(8 + 2 * self.states))}
#pragma omp parallel for schedule(static) num_threads(threads) if(threads > 1)
for (int64_t lo = 0; lo < n; lo += m) {{
const int64_t w = n - lo < m ? n - lo : m;
store done[BLOCK] __attribute__((aligned(64)));
{_join(f"real v{j}[BLOCK] __attribute__((aligned(64)));" for j in states)}
{_join(self._gather())}
{_join(self._start("v{j}", 8))}
for (int64_t t = 0; t < T; ++t) {{
const store *xt = x_ + t * xs + lo;
store *ot = stream ? done : out + t * n + lo;
if (t + AHEAD < T) step_fetch(xt + AHEAD * xs, w, T);
else if (lo + 2 * m <= n && t + AHEAD < 2 * T) step_fetch(x_ + (t + AHEAD - T) * xs + lo + m, m, T);
#pragma omp simd
for (int64_t i = 0; i < w; ++i) {{
{_join(step)}
}}
if (stream) step_stream(out + t * n + lo, done, w);
}}
{_join(self._finish("v{j}", 8 + self.states))}
if (stream) step_fence();
}}
}}
""")

    def _finish(self, row: str, first: int) -> list[str]:
        lines = []
        for j in range(self.states):
            lines.append(f"if (a[{first + j}]) {{ store *to = (store *)a[{first + j}] + lo;")
            lines.append(f"  for (int64_t i = 0; i < w; ++i) to[i] = step_store({row.format(j=j)}[i]); }}")
        return lines

    def _backward(self) -> str:
        states, trace, size, first = range(self.states), self.trace, self.states, 13
        advance = ["const real x = step_load(xt[i]);", *[f"const real s{j} = v{j}[i];" for j in states]]
        moved = [f"v{j}[i] = step_round({self._value(trace.outputs[1 + j])});" for j in states]
        sums = [Ref(index) for index in self.sums]
        again = [*advance, *self._body([*trace.outputs[1:], *[Ref(index) for index in self.kept]])]
        again += [f"at[{k} * m + i] = (real){self.names[index]};" for k, index in enumerate(self.kept)]
        if self.kept:
            inputs = [self._kept(k, index) for k, index in enumerate(self.kept)]
        else:
            inputs = ["const real x = step_load(xt[i]);"]
        back = [
            *inputs, "const real g = gt ? step_load(gt[i]) : 0;", *[f"const real d{j} = e{j}[i];" for j in states],
            *self._body([*trace.input_gradients, *sums], self.kept),
            f"ot[i] = step_store({self._value(trace.input_gradients[0])});",
            *[f"e{j}[i] = {self._value(trace.input_gradients[1 + j])};" for j in states],
            *[f"q{k}[i] += (double)({self._value(ref)});" for k, ref in enumerate(sums)],
        ]  # fmt: skip
        rows = [f"real e{j}[BLOCK] __attribute__((aligned(64)));" for j in states]
        rows += [f"double q{k}[BLOCK] __attribute__((aligned(64)));" for k in range(len(sums))]
        rows += [f"for (int64_t i = 0; i < w; ++i) q{k}[i] = 0;" for k in range(len(sums))]
        for j in states:
            rows.append(f"{{ const store *in = (const store *)a[{first + size + j}];")
            rows.append(f"  if (in) for (int64_t i = 0; i < w; ++i) e{j}[i] = step_load(in[lo + i]);")
            rows.append(f"  else for (int64_t i = 0; i < w; ++i) e{j}[i] = 0; }}")
        at = first + 3 * size + 3 * len(self.frontier)
        ends = []
        for k, whole in enumerate(self.sums.values()):
            if whole:
                ends.append("{ double total = 0;")
                ends.append(f"  for (int64_t i = 0; i < w; ++i) total += q{k}[i];")
                ends.append(f"  ((double *)a[{at + k}])[lo / m] = total; }}")
            else:
                ends.append(f"for (int64_t i = 0; i < w; ++i) ((real *)a[{at + k}])[lo + i] = (real)q{k}[i];")
        return _indent(f"""
void {BACKWARD}(const int64_t *a, const double *rest) {{
const store *x_ = (const store *)a[0], *g_ = (const store *)a[2];
store *out = (store *)a[4];
const int64_t xs = a[1], gs = a[3], T = a[5], n = a[6], m = a[7], L = a[8], threads = a[9], stream = a[10];
char *scratch = (char *)a[11];
const int64_t room = a[12], segments = (T + L - 1) / L;
(void)rest; (void)threads; (void)scratch; (void)room; (void)xs; (void)x_;
{_join(self._parameters(first + 3 * size))}
#pragma omp parallel for schedule(static) num_threads(threads) if(threads > 1)
for (int64_t lo = 0; lo < n; lo += m) {{
const int64_t w = n - lo < m ? n - lo : m;
store done[BLOCK] __attribute__((aligned(64)));
{_join(rows)}
{_join(self._gather())}
{self._marks([*advance, *self._body(trace.outputs[1:]), *moved], first)}
for (int64_t c = segments - 1; c >= 0; --c) {{
const int64_t begin = c * L, end = T < begin + L ? T : begin + L;
{self._replay([*again, *moved])}
for (int64_t t = end - 1; t >= begin; --t) {{
{"const real *at = track + (t - begin) * ROW * m;" if self.kept else "const store *xt = x_ + t * xs + lo;"}
const store *gt = g_ ? g_ + t * gs + lo : 0;
store *ot = stream ? done : out + t * n + lo;
const int64_t far = t - begin - AHEAD;
if (far >= 0) {{ if (gt) step_fetch(gt - AHEAD * gs, w, T); }}
else if (c > 0) step_fetch(x_ + (begin - L + ~far) * xs + lo, w, T);
else if (lo + 2 * m <= n && ~far < T) step_fetch(x_ + ~far * xs + lo + m, m, T);
#pragma omp simd
for (int64_t i = 0; i < w; ++i) {{
{_join(back)}
}}
if (stream) step_stream(out + t * n + lo, done, w);
}}
}}
{_join(self._finish("e{j}", first + 2 * size))}
{_join(ends)}
if (stream) step_fence();
}}
}}
""")

    def _kept(self, k: int, index: int) -> str:
        """Read what was kept of a node; its name is the one that the body of the loop knows."""
        node = self.graph[index]
        value = f"at[{k} * m + i]" + (" != 0" if node.dtype == torch.bool else "")
        name = self.names.get(index, f"n{index}")
        return f"const {_ctype(node.dtype)} {name} = {value};"

    def _marks(self, advance: list[str], first: int) -> str:
        """Run through all segments but the last and note the states at the start of each."""
        if not self.kept:
            return ""
        states = range(self.states)
        copies = [f"memcpy(marks + (c * {self.states} + {j}) * m, v{j}, sizeof(real) * (size_t)w);" for j in states]
        return f"""
/* rows of m numbers: what is kept of every step of one segment, then the states at the start of every segment */
real *track = (real *)(scratch + omp_get_thread_num() * room), *marks = track + L * ROW * m;
{_join(f"real v{j}[BLOCK] __attribute__((aligned(64)));" for j in states)}
{_join(self._start("v{j}", first))}
for (int64_t c = 0; c < segments - 1; ++c) {{
{_join(copies)}
for (int64_t t = c * L; t < (c + 1) * L; ++t) {{
const store *xt = x_ + t * xs + lo;
if (t + AHEAD < T) step_fetch(xt + AHEAD * xs, w, T);
#pragma omp simd
for (int64_t i = 0; i < w; ++i) {{
{_join(advance)}
}}
}}
}}
"""

    def _replay(self, again: list[str]) -> str:
        """Run through one segment and keep what its way back needs."""
        if not self.kept:
            return ""
        copies = [f"memcpy(v{j}, marks + (c * {self.states} + {j}) * m, sizeof(real) * (size_t)w);"
                  for j in range(self.states)]  # fmt: skip
        return f"""
if (c < segments - 1) {{
{_join(copies)}
}}
for (int64_t t = begin; t < end; ++t) {{
const store *xt = x_ + t * xs + lo;
real *at = track + (t - begin) * ROW * m;
const int64_t far = end - 1 - t - AHEAD;
if (far >= 0) step_fetch(xt + AHEAD * xs, w, T);
else if (g_ && end + far >= begin) step_fetch(g_ + (end + far) * gs + lo, w, T);
#pragma omp simd
for (int64_t i = 0; i < w; ++i) {{
{_join(again)}
}}
}}
"""


def _helpers(loops: str) -> str:
    """Return the helper functions, written into the loops where they are used seldom, else called for whole vectors.

    Written out dozens of times, as the gates of Hodgkin and Huxley would have it, they take the compiler ten seconds.
    """
    text = HELPERS
    for name in ("step_expf", "step_expm1f", "step_erff", "step_tanhf"):
        if loops.count(f"{name}(") > _CALLS:
            shared = "#pragma omp declare simd notinbranch\nstatic __attribute__((noinline)) float"
            text = text.replace(f"static inline float {name}(", f"{shared} {name}(")
    return text


def _ctype(dtype: torch.dtype) -> str:
    if dtype not in _CTYPES:
        raise Untraceable(f"its step computes in {dtype}")
    return _CTYPES[dtype]


def check(node: Node) -> None:
    """Refuse a node that cannot be written in C, before the compiler is called."""
    _ctype(node.dtype)
    _ctype(node.compute)


def _join(lines: Iterable[str]) -> str:
    return "\n".join(lines)


def _indent(text: str) -> str:
    """Indent by the depth of braces, so that a reader of the cache finds C that a person could have written."""
    depth, lines = 0, []
    for line in text.strip("\n").split("\n"):
        if not line.strip():
            continue
        bare = line if line.startswith("#") else "  " * (depth - line.startswith("}")) + line
        lines.append(bare)
        depth += line.count("{") - line.count("}")
    return "\n".join(lines)
