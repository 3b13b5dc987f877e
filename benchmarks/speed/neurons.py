"""Time one leaky integrate-and-fire layer: compiled, eager, SpikingJelly and snnTorch.

Everybody gets the same float32 input, uniform on [0, 1), and as far as the interface allows the same neuron:
v <- v / 2 + x, a spike where v >= 1, then v <- v - 1; arctangent surrogate. snnTorch resets one step late. There is
no linear layer: only the neuron is timed. Spikes and gradients are compared first, and no time is shown for a neuron
that computes something else. The implementations take turns, so that what else the machine does meets all of them.

    python -m benchmarks.speed.neurons
    python -m benchmarks.speed.neurons --shape 4,64,16384 --seconds 10 --threads 2
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neurons import SpikingNeuron, compiler
from neurons.errors import StepError
from neurons.loop import run_steps

SHAPES = ((4, 64, 16384), (16, 32, 4096), (100, 16, 1024), (500, 16, 512))
BETA = 0.5
ALPHA = 2.0

Forward = Callable[[Tensor], Tensor]


class Leaky(SpikingNeuron):
    """h = v / 2 + x; s = H(h - 1); v = h - s."""

    state = {"v": 0.0}

    def __init__(self) -> None:
        super().__init__(reset="soft", detach_reset=False, surrogate={"name": "arctan", "alpha": ALPHA})

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        h = BETA * v + x
        s = self.spike(h - self.threshold)
        return s, self.reset(h, s)


def compiled() -> Forward:
    """The fused loop of the neuron compiler."""
    neuron = Leaky()

    def forward(x: Tensor) -> Tensor:
        found = compiler.run(neuron, x, keep=False)
        if found is None:
            raise StepError(f"the neuron does not compile: {compiler.why_not(neuron, x)}")
        return found[0]

    return forward


def eager() -> Forward:
    """The loop over ``step`` in torch, which is the reference."""
    neuron = Leaky()
    return lambda x: run_steps(neuron.step, x, [torch.zeros_like(x[0])])[0]


def spikingjelly() -> Forward:
    """LIFNode over all steps at once."""
    from spikingjelly.activation_based import functional, neuron, surrogate

    node = neuron.LIFNode(
        tau=1 / (1 - BETA), decay_input=False, v_reset=None, surrogate_function=surrogate.ATan(ALPHA), step_mode="m"
    )

    def forward(x: Tensor) -> Tensor:
        functional.reset_net(node)
        return node(x)  # type: ignore[no-any-return]

    return forward


def snntorch() -> Forward:
    """Leaky in the loop of its documentation; it resets one step late."""
    import snntorch
    from snntorch import surrogate

    node = snntorch.Leaky(beta=BETA, spike_grad=surrogate.atan(ALPHA))

    def forward(x: Tensor) -> Tensor:
        memory, out = node.reset_mem(), []
        for step in x:
            spikes, memory = node(step, memory)
            out.append(spikes)
        return torch.stack(out)

    return forward


IMPLEMENTATIONS: dict[str, Callable[[], Forward]] = {
    "compiled": compiled, "eager": eager, "spikingjelly": spikingjelly, "snntorch": snntorch,
}  # fmt: skip
DIFFERENT = {"snntorch"}
"""Those that cannot be given the same neuron."""


@dataclass(frozen=True)
class Row:
    """One implementation at one shape.

    Medians and best times in ms, MiB kept for the backward pass, share of the copy bandwidth. Where other work keeps
    the cores busy, the best times still say something.
    """

    shape: tuple[int, ...]
    name: str
    forward: float
    both: float
    best_forward: float
    best_both: float
    held: float
    share_forward: float
    share_both: float


def measure(shape: tuple[int, int, int], seconds: float, names: Sequence[str]) -> list[Row]:
    """Time the implementations in turns for about ``seconds`` seconds.

    Raises
    ------
    StepError
        When an implementation of the same neuron gives other spikes or gradients than the eager loop.
    """
    torch.manual_seed(0)
    x = torch.rand(shape)
    gradient = torch.rand(shape)
    leaf = x.clone().requires_grad_()
    target = torch.empty_like(x)
    forwards = {name: IMPLEMENTATIONS[name]() for name in names}

    def infer(forward: Forward) -> None:
        with torch.no_grad():
            forward(x)

    def train(forward: Forward) -> None:
        leaf.grad = None
        forward(leaf).backward(gradient)  # type: ignore[no-untyped-call]

    _compare(forwards, leaf, gradient)
    held = {name: _held(forward, leaf) for name, forward in forwards.items()}
    times: dict[tuple[str, str], list[float]] = {("copy", ""): []}
    tasks: dict[tuple[str, str], Callable[[], object]] = {("copy", ""): lambda: target.copy_(x)}
    for name, forward in forwards.items():
        tasks[name, "forward"] = lambda forward=forward: infer(forward)  # type: ignore[misc]
        tasks[name, "both"] = lambda forward=forward: train(forward)  # type: ignore[misc]
    deadline = time.perf_counter() + seconds
    rounds = 0
    while rounds < 5 or time.perf_counter() < deadline:
        rounds += 1
        for key, task in tasks.items():
            task()  # brings caches and threads back to this task
            start = time.perf_counter()
            task()
            times.setdefault(key, []).append(time.perf_counter() - start)
    middle = {key: statistics.median(values) for key, values in times.items()}
    size = x.numel() * x.itemsize
    copy = 2 * size / middle["copy", ""]
    return [
        Row(
            shape, name, middle[name, "forward"] * 1e3, middle[name, "both"] * 1e3,
            min(times[name, "forward"]) * 1e3, min(times[name, "both"]) * 1e3, held[name] / 2**20,
            2 * size / middle[name, "forward"] / copy, 5 * size / middle[name, "both"] / copy,
        )
        for name in forwards
    ]  # fmt: skip


def _compare(forwards: dict[str, Forward], leaf: Tensor, gradient: Tensor) -> None:
    reference = None
    for name in sorted(forwards, key=lambda name: name != "eager"):
        out = forwards[name](leaf)
        (found,) = torch.autograd.grad(out, leaf, gradient)
        if reference is None:
            reference = out.detach(), found
        elif name not in DIFFERENT:
            same = torch.equal(out, reference[0]) and torch.allclose(found, reference[1], rtol=1e-5, atol=1e-6)
            if not same:
                raise StepError(f"{name} computes another neuron than the eager loop; its time would mean nothing")


def _held(forward: Forward, leaf: Tensor) -> int:
    """Return the bytes that autograd keeps for the backward pass."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = forward(leaf)
    del out
    return sum(kept.values())


def table(rows: Sequence[Row]) -> str:
    """Return rows as a Markdown table; the ratios say how many times longer than the compiled loop."""
    lines = [
        "| T, B, N | implementation | forward ms | forward + backward ms | ratio | best ms | MiB held | of copy |",
        "|---|---|---|---|---|---|---|---|",
    ]
    ours = {row.shape: row for row in rows if row.name == "compiled"}
    for row in rows:
        best = ours.get(row.shape)
        ratios = (row.forward / best.forward, row.both / best.both) if best else (math.nan, math.nan)
        lines.append(
            f"| {', '.join(map(str, row.shape))} | {row.name} | {row.forward:.2f} | {row.both:.2f} "
            f"| {ratios[0]:.1f} / {ratios[1]:.1f} | {row.best_forward:.2f} / {row.best_both:.2f} | {row.held:.0f} "
            f"| {row.share_forward:.0%} / {row.share_both:.0%} |"
        )
    return "\n".join(lines)


def _shape(text: str) -> tuple[int, int, int]:
    steps, batch, neurons = map(int, text.split(","))
    return steps, batch, neurons


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--shape", action="append", type=_shape, help="T,B,N; may be given several times")
    parser.add_argument("--seconds", type=float, default=5.0, help="time for each shape")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", action="append", choices=IMPLEMENTATIONS, help="implementations to time")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows: list[Row] = []
    for shape in arguments.shape or SHAPES:
        rows += measure(shape, arguments.seconds, arguments.only or list(IMPLEMENTATIONS))
    print(f"{arguments.threads} threads, torch {torch.__version__}; medians of turns; share of copy: 2 or 5 passes")
    print(table(rows))


if __name__ == "__main__":
    main()
