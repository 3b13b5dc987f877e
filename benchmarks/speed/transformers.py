"""Time whole spiking transformers: a training step and inference, beside SpikingJelly's with the same weights.

No time is shown before all have answered alike. All take turns. The share of spikes is shown, because ours uses it.
"""

from __future__ import annotations

import math
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.speed.transformer_contestants import (
    CASES,
    EAGER,
    OURS,
    PLAIN,
    Contestant,
    Create,
    contestants,
    disagreement,
    firing_rate,
    images_of,
    sizes,
)
from benchmarks.speed.turns import in_turns
from neurons.errors import OptionError, StepError, suggest

_ALIKE = 1e-6
"""Largest difference of outputs in float64, in standard deviations. In float32 a potential that meets its threshold
within rounding may fall on either side."""


@dataclass(frozen=True)
class Row:
    """One implementation of one network; medians over the turns.

    Attributes
    ----------
    network, name : str
    train, infer : float
        Seconds of a training step (forward, loss, backward, AdamW) and of a forward pass without gradient.
    memory : float
        MiB that the first two training steps take at most: what a fresh process grows by, or the peak on a GPU. NaN
        where it was not measured.
    first : float
        Seconds of the first forward pass and training step, with whatever is compiled or read from a cache.
    difference : float
        Largest difference of the outputs to the first implementation in float32, in standard deviations: spikes that
        rounding decides.
    """

    network: str
    name: str
    train: float
    infer: float
    memory: float
    first: float
    difference: float


@dataclass(frozen=True)
class Result:
    """What was found of one network.

    Attributes
    ----------
    rows : list of Row
    rate : float
        Share of non-zeros among the outputs of all neurons in inference.
    shares : dict
        Share of each kind of operator in the time of a training step and of inference of the first implementation.
    """

    rows: list[Row]
    rate: float
    shares: dict[str, dict[str, float]]


def measure(
    name: str,
    create: Create,
    *,
    batch: int = 8,
    only: Sequence[str] | None = None,
    seconds: float = 60.0,
    device: str = "cpu",
    memory: bool = True,
    progress: Callable[[str], None] = lambda text: None,
) -> Result:
    """Time the implementations of one network.

    Parameters
    ----------
    name : str
        One of ``CASES``.
    create : callable
        ``step.models.create``.
    batch : int
    only : sequence of str, optional
        Implementations; all but ``COMPILED``, which takes minutes before its first result, when left out.
    seconds : float
        About how long all turns together take.
    device : str
        ``"cpu"`` or ``"cuda"``.
    memory : bool
        Whether to measure memory too.
    progress : callable
        Told what is going on.

    Raises
    ------
    OptionError
        An unknown network or implementation.
    StepError
        When two implementations answer differently.
    """
    if name not in CASES:
        raise OptionError(f"there is no network {name!r} to time{suggest(name, CASES)}")
    names = list(only or (OURS, PLAIN, EAGER))
    case = CASES[name]
    progress(f"{name}: building")
    runs = contestants(case, create, names, device=device)
    images = images_of(sizes(case, create), batch, seed=100).to(device)
    labels = torch.arange(batch, device=device) % 10
    answers, first = {}, {}
    for each, run in runs.items():
        progress(f"{name}: first call of {each}")
        start = time.perf_counter()
        try:
            answers[each] = run.infer(images)
            run.train(images, labels)
            _wait(device)
        except Exception as error:
            if isinstance(error, StepError):
                raise
            reason = str(error).strip().split("\n")[0]
            raise StepError(f"{each} fails at {name}: {reason}; leave it out with --only") from error
        first[each] = time.perf_counter() - start
    for each in names:
        progress(f"{name}: comparing {each}")
        if not (value := disagreement(case, create, each)) < _ALIKE:
            raise StepError(f"{each} answers otherwise than {PLAIN} ({value:.1g} s.d.): its time means nothing")
    reference = next(iter(answers.values()))
    difference = {each: float((answer - reference).abs().max() / reference.std()) for each, answer in answers.items()}
    tasks: dict[tuple[str, str], Callable[[], object]] = {}
    for each, run in runs.items():
        tasks[each, "infer"] = partial(run.infer, images)
    for each, run in runs.items():
        tasks[each, "train"] = partial(run.train, images, labels)
    progress(f"{name}: timing {len(runs)} implementations in turns")
    times = in_turns(tasks, seconds, rounds=3, synchronise=lambda: _wait(device))
    middle = {key: statistics.median(values) for key, values in times.items()}
    grown = dict.fromkeys(names, math.nan)
    for each in names if memory else ():
        progress(f"{name}: memory of {each}")
        grown[each] = peak(name, each, create, batch, device)
    progress(f"{name}: where the time goes")
    leading = runs[names[0]]
    rate = firing_rate(next(iter(contestants(case, create, [PLAIN], device=device).values())).network, images)
    rows = [
        Row(name, each, middle[each, "train"], middle[each, "infer"], grown[each], first[each], difference[each])
        for each in names
    ]
    return Result(rows, rate, where_time_goes(leading, images, labels))


def peak(name: str, implementation: str, create: Create, batch: int, device: str = "cpu") -> float:
    """Return the MiB that two training steps of one implementation take at most, in a fresh process."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_grow, (name, implementation, create, batch, device, torch.get_num_threads()))


def _grow(name: str, implementation: str, create: Create, batch: int, device: str, threads: int) -> float:
    torch.set_num_threads(threads)
    case = CASES[name]
    run = contestants(case, create, [implementation], device=device)[implementation]
    images = images_of(sizes(case, create), batch, seed=100).to(device)
    labels = torch.arange(batch, device=device) % 10
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated() / 2**20
    else:
        before = peak_resident()
    for _ in range(2):
        run.train(images, labels)
    return (torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else peak_resident()) - before


def peak_resident() -> float:
    """Return the MiB that this process has had in memory at most."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux the other figure still holds the peak of the process that started this one
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


KINDS = {
    "matrix products": (
        "mm", "addmm", "bmm", "baddbmm", "convolution", "mkldnn_convolution", "convolution_backward", "_linear",
        "linear", "matmul", "step_product", "step_gradient", "step_list", "step_count", "_linear_pointwise",
    ),
    "norms": ("native_batch_norm", "native_batch_norm_backward", "norm_statistics", "norm_backward", "var_mean"),
    "neurons": ("multi_step", "multi_step_backward"),
    "copies": ("copy_", "clone", "contiguous", "cat", "_to_copy", "as_strided"),
    "pooling": ("max_pool2d_with_indices", "max_pool2d_with_indices_backward"),
    "sums and products by element": ("add", "add_", "mul", "mul_", "sum", "mean", "div", "sub", "fill_", "zero_"),
    "optimiser": ("_foreach_add_", "_foreach_mul_", "_foreach_lerp_", "_foreach_addcmul_", "_foreach_sqrt",
                  "_foreach_div_", "_foreach_addcdiv_", "_fused_adamw_"),
}  # fmt: skip
"""Operators by what they are for, as the profiler names them."""


def where_time_goes(run: Contestant, images: Tensor, labels: Tensor) -> dict[str, dict[str, float]]:
    """Return the share of each kind of operator in the time of a training step and of a forward pass.

    Parameters
    ----------
    run : Contestant
    images : Tensor, shape [B, C, H, W]
    labels : Tensor of int64, shape [B]
    """
    from torch.profiler import ProfilerActivity, profile

    found = {}
    for what, task in (("train", lambda: run.train(images, labels)), ("infer", lambda: run.infer(images))):
        task()
        with profile(activities=[ProfilerActivity.CPU]) as told:
            task()
        shares = dict.fromkeys([*KINDS, "rest"], 0.0)
        for event in told.key_averages():
            operator = event.key.rpartition("::")[2]
            kind = next((kind for kind, names in KINDS.items() if operator in names), "rest")
            shares[kind] += event.self_cpu_time_total
        total = sum(shares.values())
        found[what] = {kind: value / total for kind, value in shares.items()}
    return found
