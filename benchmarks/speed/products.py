"""Time event-driven products beside dense ones, at the layers of a Spikformer of 384 channels on 32x32 pixels.

Everybody gets the same random spikes, T x B = 32 maps or 2048 tokens, and all take turns. ``torch`` is what a layer of
torch does, ``dense`` the fastest dense product there is here, ``events`` includes the listing of the spikes. Times are
medians; ratios are medians over the turns. The last columns hold the rule by which products are chosen against what
was measured: cost of events in units of the dense cost.

python -m benchmarks.speed.products
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.speed.turns import in_turns
from neurons.errors import StepError
from neurons.products import cost, dense, events, kernel
from neurons.products.geometry import Geometry

LAYERS: dict[str, Geometry] = {
    "linear 384-384": Geometry(1, 2048, 1, 384, 384),
    "linear 384-1536": Geometry(1, 2048, 1, 384, 1536),
    "linear 1536-384": Geometry(1, 2048, 1, 1536, 384),
    "conv 48-96, 32x32": Geometry(32, 32, 32, 48, 96, (3, 3), (1, 1), (1, 1)),
    "conv 96-192, 32x32": Geometry(32, 32, 32, 96, 192, (3, 3), (1, 1), (1, 1)),
    "conv 192-384, 16x16": Geometry(32, 16, 16, 192, 384, (3, 3), (1, 1), (1, 1)),
    "conv 384-384, 8x8": Geometry(32, 8, 8, 384, 384, (3, 3), (1, 1), (1, 1)),
}
DENSITIES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
WAYS = ("product", "weight gradient")


@dataclass(frozen=True)
class Row:
    """One layer at one density, one way.

    Attributes
    ----------
    layer, way : str
    density : float
        Share of ones.
    torch, dense, events : float
        Milliseconds.
    over_torch, over_dense : float
        How many times faster events are.
    predicted : float
        Cost of events by the rule, in units of the dense cost.
    """

    layer: str
    way: str
    density: float
    torch: float
    dense: float
    events: float
    over_torch: float
    over_dense: float
    predicted: float

    @property
    def measured(self) -> float:
        """What ``predicted`` should be."""
        return 1 / self.over_dense


def measure(layer: str, density: float, *, values: bool = False, seconds: float = 1.0) -> list[Row]:
    """Time one layer at one density.

    Parameters
    ----------
    layer : str
        Among ``LAYERS``.
    density : float
    values : bool
        Whether events carry values other than one.
    seconds : float

    Raises
    ------
    StepError
        When there is no C compiler.
    """
    if not kernel.available():
        raise StepError("event-driven products need a C compiler (cc, gcc or clang), or STEP_KERNELS forbids them")
    g = LAYERS[layer]
    generator = torch.Generator().manual_seed(0)
    shape = (g.places, g.inputs) if g.taps == 1 else (g.batch, g.height, g.width, g.inputs)
    x = (torch.rand(shape, generator=generator) < density).float()
    if values:
        x *= torch.randint(1, 5, shape, generator=generator)
        x[..., 0] = 2.0
    weight = torch.randn(g.outputs, g.inputs, *g.kernel, generator=generator)
    gradient = torch.randn(g.places, g.outputs, generator=generator)
    tasks = (_linear if g.taps == 1 else _convolution)(x, weight, gradient, g)
    times = in_turns(tasks, seconds)
    rows = []
    for way, rule in zip(WAYS, (cost.forward, cost.gradient), strict=True):
        plain, best, ours = (times[way, name] for name in ("torch", "dense", "events"))
        ratios = [statistics.median(a / b for a, b in zip(each, ours, strict=True)) for each in (plain, best)]
        middle = [statistics.median(each) * 1e3 for each in (plain, best, ours)]
        predicted = rule(g, float(torch.count_nonzero(x)) / x.numel(), not values) / cost.dense(g)
        rows.append(Row(layer, way, density, middle[0], middle[1], middle[2], ratios[0], ratios[1], predicted))
    return rows


Tasks = dict[tuple[str, str], Callable[[], object]]


def _linear(x: Tensor, weight: Tensor, gradient: Tensor, g: Geometry) -> Tasks:
    flat = weight.view(g.outputs, g.inputs)
    lists = events(x).lists()
    return {
        (WAYS[0], "torch"): lambda: F.linear(x, flat),
        (WAYS[0], "dense"): lambda: dense.linear(x, flat, None),
        (WAYS[0], "events"): lambda: kernel.product(events(x).lists(), weight, None, g),
        (WAYS[1], "torch"): lambda: gradient.t() @ x,
        (WAYS[1], "dense"): lambda: dense.linear_weight_gradient(gradient, x),
        (WAYS[1], "events"): lambda: kernel.weight_gradient(lists, gradient, weight, g),
    }


def _convolution(x: Tensor, weight: Tensor, gradient: Tensor, g: Geometry) -> Tasks:
    maps = x.permute(0, 3, 1, 2)
    last = weight.contiguous(memory_format=torch.channels_last)
    back = gradient.view(g.batch, *g.map, g.outputs).permute(0, 3, 1, 2)
    lists = events(maps, channels=1).lists()
    return {
        (WAYS[0], "torch"): lambda: F.conv2d(maps, weight, None, g.stride, g.padding),
        (WAYS[0], "dense"): lambda: dense.convolution(maps, last, None, g),
        (WAYS[0], "events"): lambda: kernel.product(events(maps, channels=1).lists(), weight, None, g),
        (WAYS[1], "torch"): lambda: dense.convolution_gradients(back, maps, weight, g, (False, True)),
        (WAYS[1], "dense"): lambda: dense.convolution_gradients(back, maps, last, g, (False, True)),
        (WAYS[1], "events"): lambda: kernel.weight_gradient(lists, gradient, weight, g),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table for each way."""
    from rich.console import Console
    from rich.table import Table

    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.products", description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=1.0, help="for each layer and density")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--values", action="store_true", help="events carry values from 1 to 4")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    rows = [
        row
        for layer in LAYERS
        for density in DENSITIES
        for row in measure(layer, density, values=options.values, seconds=options.seconds)
    ]
    for way in WAYS:
        table = Table(title=f"{way}, {options.threads} thread(s)")
        for name in ("layer", "ones", "torch ms", "dense ms", "events ms", "x torch", "x dense", "rule", "measured"):
            table.add_column(name, justify="left" if name == "layer" else "right")
        for row in rows:
            if row.way == way:
                table.add_row(
                    row.layer, f"{row.density:.0%}", f"{row.torch:.2f}", f"{row.dense:.2f}", f"{row.events:.2f}",
                    f"{row.over_torch:.1f}", f"{row.over_dense:.1f}", f"{row.predicted:.2f}", f"{row.measured:.2f}",
                    end_section=row.density == DENSITIES[-1],
                )  # fmt: skip
        Console(width=120).print(table)


if __name__ == "__main__":
    main()
