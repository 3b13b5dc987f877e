"""Does it compile, are the kernels right, and how much faster are they?"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from neurons import compiler
from neurons.base import Neuron, State
from neurons.conformance.result import Result, Verdict
from neurons.conformance.subject import Subject, describe, eager, where
from neurons.errors import OptionError

_Run = tuple[list[Tensor], tuple[Tensor | None, ...]]

_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-8}
_ROUNDED = 0.01
"""Share of neurons in which float32 may decide otherwise: two orders of the same sum, and the threshold between."""
_BATCH = 11
"""Samples; times 7 neurons, a number that no vector divides."""
_SPEED_SHAPE = (16, 32, 1024)
_SPEED_TIME = 0.5


def traces(subject: Subject) -> Result:
    """Does the step compile to one fused loop, and why not?"""
    reason = compiler.why_not(subject.fresh(), subject.current())
    if reason is None:
        return Result("traces", "yes", "one fused loop over time, forward and backward", required=False)
    verdict: Verdict = "not applicable" if os.environ.get("STEP_KERNELS") == "eager" else "no"
    return Result("traces", verdict, f"{reason}; it runs in the eager loop", required=False)


def kernels(subject: Subject) -> Iterator[tuple[str, Callable[[Subject], Result]]]:
    """Yield one check for each place where a kernel can run: the CPU, a GPU, Triton's interpreter."""
    for device in ["cpu"] + ["cuda"] * torch.cuda.is_available():
        name = f"kernel on {device}"
        yield name, lambda s, device=device, name=name: _kernel(s, name, device)  # type: ignore[misc]
    if os.environ.get("TRITON_INTERPRET") == "1" and os.environ.get("STEP_KERNELS") != "triton":
        yield "kernel in triton", _interpreted


def _interpreted(subject: Subject) -> Result:
    name = "kernel in triton"
    with _environment("STEP_KERNELS", "triton"):
        try:
            compiler.why_not(subject.fresh(), subject.current())
        except OptionError as error:
            return Result(name, "not applicable", str(error))
        return _kernel(subject, name, "cpu", T=4)


@contextmanager
def _environment(key: str, word: str) -> Iterator[None]:
    before = os.environ.get(key)
    os.environ[key] = word
    try:
        yield
    finally:
        if before is None:
            del os.environ[key]
        else:
            os.environ[key] = before


def _kernel(subject: Subject, name: str, device: str, T: int = 12) -> Result:
    compared: list[str] = []
    for dtype in (torch.float32, torch.float64):
        neuron, x = subject.fresh(dtype, device), subject.current(T, _BATCH, dtype=dtype).to(device)
        reason = compiler.why_not(neuron, x)
        if reason is not None:
            if compared:
                continue
            return Result(name, "not applicable", reason)
        with torch.no_grad():
            start = eager(neuron, subject.current(3, _BATCH, seed=1, dtype=dtype).to(device))[1]
        for state in (None, start):
            try:
                right = _both(neuron, x, state, kernel=False)
            except Exception as error:  # said again where the gradient is checked
                return Result(name, "not applicable", f"the loop over step, its reference, raises {describe(error)}")
            wrong = _compare(neuron, _both(neuron, x, state, kernel=True), right, dtype, list(state or {}))
            if wrong:
                origin = "from rest" if state is None else "from a state"
                return Result(name, "no", f"{str(dtype).removeprefix('torch.')}, {origin}: {wrong}")
        compared.append(str(dtype).removeprefix("torch."))
    parts = ", ".join(["x", *subject.neuron.state, *[key for key, _ in subject.neuron.named_parameters()]])
    return Result(name, "yes", f"output, last state and gradients ({parts}) as in the loop; {', '.join(compared)}")


def _elementwise(subject: Subject) -> bool:
    return all(value.dim() == 0 for value in (*subject.neuron.parameters(), *subject.neuron.buffers()))


def _compare(neuron: Neuron, found: _Run, reference: _Run, dtype: torch.dtype, given: list[str]) -> str:
    """Return where the kernel and the loop differ, the states ``given`` included; empty when they agree."""
    (values, gradients), (right, right_gradients) = found, reference
    keys = list(neuron.state)
    same = torch.ones_like(right[0][0], dtype=torch.bool)
    if neuron.output not in ("real", "quantised"):
        same = (values[0] == right[0]).all(0)
        share = 1 - float(same.double().mean())
        if share > (_ROUNDED if dtype == torch.float32 else 0):
            return f"the output differs {where(values[0], right[0])}, in {share:.1%} of the neurons"
    named = [("the output", values[0], right[0])]
    named += [(f"the last state {key!r}", a, b) for key, a, b in zip(keys, values[1:], right[1:], strict=True)]
    places = ["x", *given]
    parameters = [key for key, _ in neuron.named_parameters()]
    for key, a, b in zip(places + parameters, gradients, right_gradients, strict=True):
        if b is None:
            continue
        if a is None:
            return f"the gradient of {key} is missing"
        if key in places or same.all():  # one neuron that decided otherwise moves the sum over all
            named.append((f"the gradient of {key}", a, b))
    for key, a, b in named:
        if a.shape != b.shape:
            return f"{key} has the shape {list(a.shape)} instead of {list(b.shape)}"
        if a.shape[-same.dim() :] == same.shape:
            a, b = a[..., same] if a.dim() > same.dim() else a[same], b[..., same] if b.dim() > same.dim() else b[same]
        if not b.numel():
            continue
        far = (a - b).abs().max()
        if not far <= _TOLERANCE[dtype] * max(float(b.abs().max()), 1e-3):
            return f"{key} is off by {float(far):.2g}, where the largest is {float(b.abs().max()):.2g}"
    return ""


def _both(neuron: Neuron, x: Tensor, state: State | None, kernel: bool) -> _Run:
    """Return output and last states, then the gradients of the input, the state if given, and the parameters."""
    leaf = x.detach().clone().requires_grad_()
    start = None if state is None else {key: value.detach().clone().requires_grad_() for key, value in state.items()}
    if kernel:
        found = compiler.run(neuron, leaf, None if start is None else list(start.values()))
        if found is None:
            raise RuntimeError("compiler.run returned None although why_not gave no reason")
        values = [found[0], *found[1]]
    else:
        output, last = eager(neuron, leaf, start)
        values = [output, *last.values()]
    generator = torch.Generator().manual_seed(3)
    wanted = [value for value in values if value.requires_grad]
    incoming = [torch.randn(v.shape, generator=generator, dtype=torch.float64).to(v) for v in wanted]
    leaves = [leaf, *(start or {}).values(), *neuron.parameters()]
    gradients = torch.autograd.grad(wanted, leaves, incoming, allow_unused=True)
    return [value.detach() for value in values], gradients


def speed(subject: Subject) -> Result:
    """How much faster is the kernel than the eager loop? Both in turns, the median of the ratios."""
    name = "speed"
    T, batch, width = _SPEED_SHAPE
    fits = subject.width == 7 and _elementwise(subject)
    x = torch.randn(T, batch, width if fits else subject.width, generator=torch.Generator().manual_seed(0))
    x = subject.gain * (1.5 * x + 0.5)
    neuron = subject.fresh()
    reason = compiler.why_not(neuron, x)
    if subject.own_run or reason is not None:
        return Result(name, "not applicable", f"there is only one way to run it: {reason}")
    ways: tuple[Callable[[Tensor], Tensor], ...] = (neuron, lambda given: eager(neuron, given)[0])
    ratios = []
    for backward in (False, True):
        for way in ways:
            _time(way, x, backward)
        found: list[float] = []
        end = time.perf_counter() + _SPEED_TIME / 2
        while len(found) < 3 or (time.perf_counter() < end and len(found) < 25):
            fast, slow = (_time(way, x, backward) for way in ways)
            found.append(slow / fast)
        ratios.append(statistics.median(found))
    said = f"forward {ratios[0]:.1f}, forward and backward {ratios[1]:.1f} times as fast as the eager loop"
    return Result(name, "measured", f"{said} (T, B, N = {', '.join(map(str, x.shape))})")


def _time(way: Callable[[Tensor], Tensor], x: Tensor, backward: bool) -> float:
    leaf = x.requires_grad_() if backward else x.detach()
    start = time.perf_counter()
    if backward:
        way(leaf).sum().backward()
        leaf.grad = None
    else:
        with torch.no_grad():
            way(leaf)
    return time.perf_counter() - start
