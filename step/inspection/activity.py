"""Counting how often every neuron of a network is active, batch by batch; no spikes are kept."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from neurons import Neuron, neurons_in
from neurons.errors import ShapeError
from step.inspection.data import BINS, NEARLY, Layer


@dataclass
class Activity:
    """Counts of one layer.

    Attributes
    ----------
    active : Tensor of int64, shape of one sample and step
        At how many steps of how many samples each neuron was active.
    pairs : list of Tensor of int32, shape [T, B]
        How many neurons were active at each step of each sample, a batch at a time.
    spikes : float
        Spikes of all neurons in all samples.
    """

    name: str
    neuron: Neuron
    attention: str
    positions: tuple[int, ...]
    active: Tensor
    pairs: list[Tensor] = field(default_factory=list)
    spikes: float = 0.0

    def add(self, y: Tensor) -> None:
        """Count one batch of outputs [T, B, ...]."""
        if y.shape[2:] != self.active.shape:
            raise ShapeError(
                f"layer {self.name!r} gave {list(self.active.shape)} for one sample and step, then {list(y.shape[2:])}"
            )
        active = is_active(y, self.neuron)
        # sums of truth values in 64 bits take twenty times as long
        self.active += active.flatten(0, 1).sum(0, dtype=torch.int32)
        self.pairs.append(active.flatten(2).sum(2, dtype=torch.int32).cpu())
        if not self.neuron.conventional:
            binary = self.neuron.output == "binary"
            self.spikes += float(
                self.pairs[-1].sum() if binary else y.abs().sum(dtype=torch.float64) / _unit(self.neuron)
            )

    def summary(self) -> Layer:
        """Return the numbers of this layer."""
        pairs = torch.cat(self.pairs, 1).double()
        steps, samples = pairs.shape
        whole, neurons = steps * samples, self.active.numel()
        active = self.active.cpu()
        rates = active.double() / whole
        # the smallest bin whose upper edge is not below the rate; whole numbers, so that no rate is rounded across it
        bins = (active * BINS + whole - 1).div(whole, rounding_mode="floor") - 1
        per_sample = pairs.mean(0) / neurons
        dead, full = active == 0, active == whole
        conventional = self.neuron.conventional
        return Layer(
            name=self.name,
            neuron=getattr(self.neuron, "registered_name", type(self.neuron).__name__),
            conventional=conventional,
            shape=tuple(active.shape),
            rate=float(rates.mean()),
            spread=float(per_sample.std(correction=0)),
            spikes=math.nan if conventional else self.spikes / samples / neurons,
            silent_samples=float((per_sample == 0).double().mean()),
            dead=int(dead.sum()),
            nearly=int((rates > NEARLY).sum()),
            saturated=int(full.sum()),
            channels=neurons // max(1, math.prod(active.shape[axis] for axis in self.positions)),
            dead_channels=int(self._all(dead).sum()),
            saturated_channels=int(self._all(full).sum()),
            by_step=tuple((pairs.mean(1) / neurons).tolist()),
            histogram=tuple(torch.bincount(bins[~dead].flatten(), minlength=BINS).tolist()),
            attention=self.attention,
        )

    def _all(self, what: Tensor) -> Tensor:
        """Reduce neurons to channels: those of which it holds at every position."""
        return what.all(dim=self.positions) if self.positions else what


def is_active(y: Tensor, neuron: Neuron) -> Tensor:
    """Return where a neuron is active: its output is not zero; of a conventional one, positive."""
    return y > 0 if neuron.conventional else y != 0


def sends_spikes(neuron: Neuron) -> bool:
    """Whether a layer has a rate: all but those that hand on real values over time, such as leaky integrators."""
    return neuron.conventional or neuron.output != "real"


class Watch:
    """Counts the layers of a network while it runs.

    Parameters
    ----------
    network : nn.Module
    attentions : mapping of str to nn.Module
        Attentions of the network by path.
    """

    def __init__(self, network: nn.Module, attentions: dict[str, nn.Module]) -> None:
        self.network = network
        self.attentions = attentions
        self.layers: dict[str, Activity] = {}
        self._calls: Counter[str] = Counter()

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count what runs inside; one forward pass of the network at a time."""
        self._calls.clear()
        handles = [
            neuron.register_forward_hook(self._hook(path, neuron))
            for path, neuron in neurons_in(self.network)
            if sends_spikes(neuron)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, path: str, neuron: Neuron) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def count(module: nn.Module, inputs: tuple[Tensor, ...], y: Tensor) -> None:
            self._calls[path] += 1
            # a neuron that runs twice in one pass stands at two places of the network
            name = path if self._calls[path] == 1 else f"{path}-{self._calls[path]}"
            if name not in self.layers:
                inside = attention_of(path, self.attentions)
                positions = _positions(tuple(y.shape[2:]), neuron, self.attentions.get(inside))
                zeros = torch.zeros(y.shape[2:], dtype=torch.int64, device=y.device)
                self.layers[name] = Activity(name, neuron, inside, positions, zeros)
            self.layers[name].add(y.detach())

        return count


def attention_of(path: str, attentions: dict[str, nn.Module]) -> str:
    """Return the path of the innermost attention that a module stands in; empty outside of one."""
    return max((name for name in attentions if path.startswith(f"{name}.")), key=len, default="")


def is_map(shape: tuple[int, ...], attention: nn.Module | None) -> bool:
    """Whether one sample and step of a layer is a map [C, H, W], not tokens by head [heads, N, d]."""
    if len(shape) != 3:
        return False
    grid = getattr(attention, "grid", None)
    return grid is None or shape[1:] == tuple(grid)


def _positions(shape: tuple[int, ...], neuron: Neuron, attention: nn.Module | None) -> tuple[int, ...]:
    """Return the axes of one sample along which weights are shared: pixels of maps, tokens of [N, C]."""
    if is_map(shape, attention):
        return 1, 2
    return {2: (0,), 3: (1,)}.get(len(shape), tuple(range(1, len(shape))))


def _unit(neuron: Neuron) -> float:
    """Return what one spike is worth in the output: 1, or the step of a normalised count."""
    step = getattr(neuron, "step_size", 1.0)
    return float(step) if neuron.output == "quantised" else 1.0
