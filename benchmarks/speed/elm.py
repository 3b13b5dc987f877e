"""Time the ELM neuron: a training step and inference, beside its released loops and recurrent layers of torch.

All read 700 channels of random spikes, 2 % of them ones, and are read out at the last step into 20 classes. A training
step is forward, cross-entropy, backward and Adamax. Ours and the released loops have the same weights, and no time is
shown before outputs and gradients agree. A population of neurons, all with parameters of their own, is timed by its
recurrence alone, beside a loop of batched products. All take turns; ratios are medians over the turns.

Denormal numbers are flushed to zero for everybody. The gradients of LSTM and GRU vanish over hundreds of steps from a
loss at the last one, and arithmetic with what is left of them would be most of their time.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.speed.elm_contestants import (
    CLASSES,
    INPUTS,
    ReleasedLoop,
    batched_loop,
    layer_like,
    neuron,
    parameters,
)
from benchmarks.speed.turns import in_turns
from neurons.denormals import flushed
from neurons.elm import ELM
from neurons.elm.recurrence import MLP, memory
from neurons.errors import OptionError, StepError

SHAPES = ((200, 8), (200, 64), (1000, 8))
"""[T, B] that are timed when none is given."""
POPULATION = (1000, 8, 57, 9)
"""T, B, N and M of the population: N and M are the best at 77,000 parameters on SHD-Adding (arXiv 2605.12049)."""
DENSITY = 0.02
OURS, SEVERAL, BATCHED = "step", "step, population", "loop of batched products"
LOOPS = {"v1": "released loop, v1", "v2": "released loop, v2"}
LAYERS: dict[str, Callable[[int, int], nn.Module]] = {"torch LSTM": nn.LSTM, "torch GRU": nn.GRU}
_ALIKE = 1e-3
"""Largest difference of outputs and gradients, by the largest of each: rounding grows over a thousand steps."""


@dataclass(frozen=True)
class Row:
    """One implementation at one shape.

    Attributes
    ----------
    name : str
    steps, batch, parameters : int
    train, infer : float
        Milliseconds of a training step and of a forward pass without gradient; medians over the turns.
    train_ratio, infer_ratio : float
        How many times longer than ours; medians over the turns.
    held : float
        MiB kept for the backward pass, the input included.
    """

    name: str
    steps: int
    batch: int
    parameters: int
    train: float
    infer: float
    train_ratio: float
    infer_ratio: float
    held: float


@dataclass(frozen=True)
class _Run:
    train: Callable[[], object]
    infer: Callable[[], object]
    loss: Callable[[], Tensor]
    parameters: int


def measure(shape: Sequence[int], *, seconds: float = 10.0, rounds: int = 3) -> list[Row]:
    """Time one neuron at one shape.

    Parameters
    ----------
    shape : sequence of int
        T and B.
    seconds : float
        About how long all turns together take.
    rounds : int
        Turns at least.

    Returns
    -------
    list of Row
        Ours first.

    Raises
    ------
    OptionError
        A shape that is none.
    StepError
        When a loop computes something else than ours.
    """
    if len(shape) != 2 or min(shape) < 1:
        raise OptionError(f"a shape is T,B, two whole numbers of at least 1, not {tuple(shape)}")
    steps, batch = shape
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(steps, batch, INPUTS, generator=generator) < DENSITY).float()
    labels = torch.randint(0, CLASSES, (batch,), generator=generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        modules: dict[str, nn.Module] = {OURS: neuron("v2")}
        for version, name in LOOPS.items():
            ours = neuron(version)
            modules[name] = loop = ReleasedLoop(ours)
            _compare(name, ours, loop, x, labels)
        for name, kind in LAYERS.items():
            modules[name] = layer_like(modules[OURS], kind)
    return _timed({name: _run(module, x, labels) for name, module in modules.items()}, steps, batch, seconds, rounds)


def measure_population(shape: Sequence[int] = POPULATION, *, seconds: float = 10.0, rounds: int = 3) -> list[Row]:
    """Time the recurrence of many neurons with parameters of their own, forward and backward.

    Parameters
    ----------
    shape : sequence of int
        T, B, N and M; the hidden layer has 2 M.
    seconds, rounds
        As for :func:`measure`.

    Raises
    ------
    OptionError, StepError
    """
    if len(shape) != 4 or min(shape) < 1:
        raise OptionError(f"a population is T,B,N,M, four whole numbers of at least 1, not {tuple(shape)}")
    steps, batch, count, size = shape
    generator = torch.Generator().manual_seed(0)

    def some(*shape: int, by: float = 1.0) -> Tensor:
        return torch.randn(*shape, generator=generator) * by

    weights = (some(count, 2 * size, size, by=size**-0.5), some(count, size, 2 * size, by=(2 * size) ** -0.5))
    mlp = MLP(weights, (some(count, size, by=0.1),))
    u, m, gradient = (
        some(steps, batch, count, 2 * size),
        torch.zeros(batch, count, size),
        some(steps, batch, count, size),
    )
    tau = torch.logspace(0, 2.7, size).expand(count, size)
    decay, gain = torch.exp(-1 / tau), 1 - torch.exp(-5 / tau)
    leaves = [value.requires_grad_() for value in (u, *mlp.weights, *mlp.biases)]

    def run(function: Callable[..., object]) -> _Run:
        def forward() -> Tensor:
            found = function(u, m, decay, gain, mlp)
            assert isinstance(found, Tensor)
            return found

        def infer() -> None:
            with torch.no_grad():
                forward()

        def train() -> tuple[Tensor, ...]:
            return torch.autograd.grad(forward(), leaves, gradient)

        return _Run(train, infer, forward, sum(value.numel() for value in leaves[1:]))

    runs = {SEVERAL: run(memory), BATCHED: run(batched_loop)}
    found = [[each.loss().detach(), *torch.autograd.grad(each.loss(), leaves, gradient)] for each in runs.values()]
    _alike(BATCHED, *found)
    return _timed(runs, steps, batch, seconds, rounds)


def _outputs(module: nn.Module, x: Tensor) -> Tensor:
    """Return the outputs at the last step [B, classes]."""
    found: Tensor = module.last(x) if isinstance(module, ELM) else module(x)[-1]
    return found


def _run(module: nn.Module, x: Tensor, labels: Tensor) -> _Run:
    optimiser = torch.optim.Adamax(module.parameters(), lr=1e-6)

    def loss() -> Tensor:
        return F.cross_entropy(_outputs(module, x), labels)

    def train() -> None:
        optimiser.zero_grad()
        loss().backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    def infer() -> None:
        with torch.no_grad():
            _outputs(module, x)

    return _Run(train, infer, loss, parameters(module))


def _compare(name: str, ours: ELM, loop: ReleasedLoop, x: Tensor, labels: Tensor) -> None:
    pairs: list[list[Tensor]] = [
        [ours.synapse_weight, *ours.mlp.parameters(), *ours.w_y.parameters()],
        [loop.synapses, *loop.first.parameters(), *loop.second.parameters(), *loop.read_out.parameters()],
    ]
    found = []
    both: tuple[nn.Module, ...] = (ours, loop)
    for module, leaves in zip(both, pairs, strict=True):
        out = _outputs(module, x)
        found.append([out.detach(), *torch.autograd.grad(F.cross_entropy(out, labels), leaves)])
    _alike(name, *found)


def _alike(name: str, ours: list[Tensor], theirs: list[Tensor]) -> None:
    for value, wanted in zip(ours, theirs, strict=True):
        if not float((value - wanted).abs().max()) <= _ALIKE * float(wanted.abs().max()):
            raise StepError(f"{name} computes something else than the ELM neuron of STEP; its time would mean nothing")


def _held(run: _Run) -> int:
    """Return the bytes that autograd keeps for the backward pass."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        found = run.loss()
    del found
    return sum(kept.values())


def _timed(runs: dict[str, _Run], steps: int, batch: int, seconds: float, rounds: int) -> list[Row]:
    tasks: dict[tuple[str, str], Callable[[], object]] = {}
    for name, run in runs.items():
        tasks[name, "train"], tasks[name, "infer"] = run.train, run.infer
    with flushed():
        times = in_turns(tasks, seconds, rounds=rounds)
    first = next(iter(runs))

    def ratio(name: str, way: str) -> float:
        return statistics.median(a / b for a, b in zip(times[name, way], times[first, way], strict=True))

    return [
        Row(
            name, steps, batch, run.parameters,
            statistics.median(times[name, "train"]) * 1e3, statistics.median(times[name, "infer"]) * 1e3,
            ratio(name, "train"), ratio(name, "infer"), _held(run) / 2**20,
        )
        for name, run in runs.items()
    ]  # fmt: skip
