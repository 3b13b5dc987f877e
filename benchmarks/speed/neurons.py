"""Time one neuron layer: STEP's fused loop beside the eager loop, ``torch.compile`` and other libraries.

Everybody gets the same float32 input, uniform on [0, 2), as far as the library allows the same neuron, and a random
gradient for the backward pass. There is no linear layer: only the neuron is timed. What claims to be the same neuron
is compared with the eager loop first, and no time is shown for one that computes something else. All take turns, so
that what else the machine does meets all of them.

The floor is measured in the same turns: a copy of the input (what a forward pass must read and write), and that copy
and a sum of two such tensors into a third (what forward and backward must), all in memory that is already there.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.speed.layers import CONTESTANTS, NEURONS, SLOW, Contestant
from benchmarks.speed.turns import in_turns
from neurons.errors import OptionError, StepError, suggest

SHAPES = ((4, 64, 16384), (16, 32, 4096), (100, 16, 1024), (500, 16, 512))
"""[T, B, N] that are timed when none is given."""
OURS = "step, fused"
REFERENCE = "step, eager"


@dataclass(frozen=True)
class Row:
    """One implementation at one shape; times are medians over the turns, in milliseconds.

    Attributes
    ----------
    neuron, name : str
    shape : tuple of int
        [T, B, N].
    differs : str
        What it computes otherwise than the others; empty when it is the same neuron.
    forward, both : float
        Forward without gradient, and forward with backward.
    best_forward, best_both : float
        The shortest turn: where other work keeps the cores busy, it still says something.
    held : float
        MiB kept for the backward pass, the input included.
    first : float
        Seconds of the first forward and backward pass: compilation, or a look into the cache.
    copy : float
        Measured bandwidth of a copy of the input, in GB/s, reads and writes counted.
    floor_forward, floor_both : float
        How many times the floor the median takes.
    """

    neuron: str
    name: str
    shape: tuple[int, ...]
    differs: str
    forward: float
    both: float
    best_forward: float
    best_both: float
    held: float
    first: float
    copy: float
    floor_forward: float
    floor_both: float


def chosen(names: Sequence[str] | None, known: Sequence[str], what: str, usual: Sequence[str]) -> list[str]:
    """Return what was asked for, or the usual; an unknown name is an error."""
    for name in names or ():
        if name not in known:
            raise OptionError(f"there is no {what} {name!r} to time{suggest(name, known)}")
    return list(names or usual)


def contestants(kind: str, names: Sequence[str] | None = None) -> dict[str, Contestant]:
    """Return those that have the neuron ``kind`` here, the eager loop always among them."""
    usual = [name for name in CONTESTANTS if name not in SLOW]
    wanted = chosen(names, list(CONTESTANTS), "implementation", usual)
    found = {}
    for name, make in CONTESTANTS.items():
        if name in wanted or name == REFERENCE:
            made = make(kind)
            if made is not None:
                found[name] = made
    return found


def measure(
    kind: str,
    shape: tuple[int, ...],
    names: Sequence[str] | None = None,
    *,
    seconds: float = 5.0,
    device: str = "cpu",
    progress: Callable[[str], None] = lambda text: None,
) -> list[Row]:
    """Time the implementations of one neuron at one shape.

    Parameters
    ----------
    kind : str
        One of ``NEURONS``.
    shape : tuple of int
        [T, B, N].
    names : sequence of str, optional
        Implementations; all that are quick to start when left out.
    seconds : float
        About how long all turns together take.
    device : str
        ``"cpu"`` or ``"cuda"``.
    progress : callable
        Told what is going on.

    Raises
    ------
    OptionError
        An unknown neuron or implementation, or a shape that is none.
    StepError
        When an implementation of the same neuron gives other spikes or gradients than the eager loop.
    """
    chosen([kind], list(NEURONS), "neuron", ())
    if len(shape) != 3 or min(shape) < 1:
        raise OptionError(f"a shape is T,B,N, three whole numbers of at least 1, not {shape}")
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(shape, generator=generator) * 2).to(device)
    gradient = torch.rand(shape, generator=generator).to(device)
    runs = {name: _Run(each, x, gradient) for name, each in contestants(kind, names).items()}
    first, held = {}, {}
    for name, run in runs.items():
        progress(f"{kind} {shape}: first call of {name}")
        start = time.perf_counter()
        try:
            run.train()
            _wait(device)
        except Exception as error:
            if isinstance(error, StepError):
                raise
            reason = str(error).strip().split("\n")[0]
            raise StepError(f"{name} fails at {kind} {shape}: {reason}; leave it out with --only") from error
        first[name] = time.perf_counter() - start
        held[name] = run.held()
    progress(f"{kind} {shape}: comparing")
    _compare(kind, runs)
    progress(f"{kind} {shape}: timing {len(runs)} implementations in turns")
    spikes, back = torch.empty_like(x), torch.empty_like(x)

    def floor_both() -> None:
        spikes.copy_(x)
        torch.add(x, gradient, out=back)

    tasks: dict[tuple[str, str], Callable[[], object]] = {
        ("floor", "forward"): lambda: spikes.copy_(x),
        ("floor", "both"): floor_both,
    }
    for name, run in runs.items():
        tasks[name, "forward"], tasks[name, "both"] = run.infer, run.train
    times = in_turns(tasks, seconds, synchronise=lambda: _wait(device))
    middle = {key: statistics.median(values) for key, values in times.items()}
    copy = 2 * x.numel() * x.itemsize / middle["floor", "forward"] / 1e9
    return [
        Row(
            kind, name, tuple(shape), runs[name].contestant.differs,
            middle[name, "forward"] * 1e3, middle[name, "both"] * 1e3,
            min(times[name, "forward"]) * 1e3, min(times[name, "both"]) * 1e3,
            held[name] / 2**20, first[name], copy,
            middle[name, "forward"] / middle["floor", "forward"], middle[name, "both"] / middle["floor", "both"],
        )
        for name in sorted(runs, key=lambda name: name != OURS)
    ]  # fmt: skip


class _Run:
    """One implementation with its input."""

    def __init__(self, contestant: Contestant, x: Tensor, gradient: Tensor) -> None:
        self.contestant = contestant
        self.x = contestant.arrange(x)
        self.leaf = self.x.clone().requires_grad_()
        self.gradient = gradient if self.x.shape == gradient.shape else contestant.arrange(gradient)
        for value in contestant.parameters:
            value.data = value.data.to(x.device)

    def infer(self) -> None:
        with torch.no_grad():
            self.contestant.forward(self.x)

    def train(self) -> None:
        self.leaf.grad = None
        for value in self.contestant.parameters:
            value.grad = None
        self.contestant.forward(self.leaf).backward(self.gradient)  # type: ignore[no-untyped-call]

    def results(self) -> list[Tensor]:
        """Return spikes and all gradients."""
        out = self.contestant.forward(self.leaf)
        return [out.detach(), *torch.autograd.grad(out, [self.leaf, *self.contestant.parameters], self.gradient)]

    def held(self) -> int:
        """Return the bytes that autograd keeps for the backward pass."""
        kept: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            out = self.contestant.forward(self.leaf)
        del out
        return sum(kept.values())


def _compare(kind: str, runs: dict[str, _Run]) -> None:
    reference = runs[REFERENCE].results()
    for name, run in runs.items():
        if run.contestant.differs:
            continue
        spikes, *gradients = run.results()
        for value, wanted in zip(gradients, reference[1:], strict=True):
            scale = float(wanted.abs().max())
            if not torch.equal(spikes, reference[0]) or not float((value - wanted).abs().max()) <= 1e-4 * scale:
                raise StepError(f"{name} computes another {kind} than the eager loop; its time would mean nothing")


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
