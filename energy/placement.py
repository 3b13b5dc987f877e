"""Where a network lies on a chip of cores: which cores hold a layer, and how far spikes travel between them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from neurons.errors import OptionError

if TYPE_CHECKING:
    from energy.models.layer import Layer

HOPS = ("east", "west", "north", "south")


@dataclass(frozen=True)
class Mesh:
    """Cores in tiles, tiles in columns of a mesh.

    Tile t stands in column t // height, row t % height, as SANA-FE numbers them; a larger network continues in
    further columns to the east, as if chips stood side by side.

    Parameters
    ----------
    neurons, synapses : int
        What one core holds.
    tile_cores : int
        Cores of a tile.
    height : int
        Tiles of a column.
    """

    neurons: int
    synapses: int
    tile_cores: int
    height: int

    def __post_init__(self) -> None:
        for name in ("neurons", "synapses", "tile_cores", "height"):
            if getattr(self, name) < 1:
                raise OptionError(f"a mesh of cores needs {name} of at least 1, not {getattr(self, name)}")

    def cores(self, neurons: float, synapses: float) -> int:
        """Return the cores that so many neurons with so many stored synapses fill."""
        return max(1, math.ceil(neurons / self.neurons), math.ceil(synapses / self.synapses))

    def tiles(self, cores: range) -> np.ndarray:
        """Return column and row of each core, shape [cores, 2]."""
        tile = np.arange(cores.start, cores.stop) // self.tile_cores
        return np.stack([tile // self.height, tile % self.height], axis=1)

    def hops(self, source: range, target: range, neurons: float | None = None) -> dict[str, float]:
        """Return the mean hops of a packet by direction, from any neuron of ``source`` to any core of ``target``.

        Packets go along the row and along the column, so that hops are differences of columns and rows. Of so many
        ``neurons`` each core of the source has an equal number, the last what remains; all equal when left out.
        """
        load = np.ones(len(source))
        if neurons is not None and neurons > 0:
            full = math.ceil(neurons / len(source))
            load = np.clip(neurons - full * np.arange(len(source)), 0, full)
        means = []
        for here, there in zip(self.tiles(source).T, self.tiles(target).T, strict=True):
            places, index = np.unique(here, return_inverse=True)
            ends, found = np.unique(there, return_counts=True)
            share = np.outer(np.bincount(index, load) / load.sum(), found / found.sum())
            ahead = ends[None, :] - places[:, None]
            means += [float((np.maximum(ahead, 0) * share).sum()), float((np.maximum(-ahead, 0) * share).sum())]
        return dict(zip(HOPS, means, strict=True))


@dataclass(frozen=True)
class Placement:
    """Cores of every layer that computes.

    Attributes
    ----------
    mesh : Mesh
    cores : dict of str to range
        Cores by name of the layer: a product lies with the neurons that integrate it, where its synapses are stored.
    neurons : dict of str to float
        Neurons on those cores.
    """

    mesh: Mesh
    cores: dict[str, range]
    neurons: dict[str, float]

    @property
    def size(self) -> int:
        """Cores of the whole network."""
        return max((cores.stop for cores in self.cores.values()), default=0)

    def hops(self, sources: Iterable[Layer], target: Layer) -> dict[str, float]:
        """Return the mean hops of a spike into ``target``, weighed by the spikes that each source sends.

        Spikes from outside enter at tile 0.
        """
        there = self.cores[target.layer]
        known = [source for source in sources if source.layer in self.cores]
        if not known:
            return self.mesh.hops(range(1), there)
        spikes = [_known(source.nonzero_outputs) for source in known]
        total = sum(spikes)
        found = dict.fromkeys(HOPS, 0.0)
        for source, sent in zip(known, spikes, strict=True):
            share = sent / total if total else 1 / len(known)
            hops = self.mesh.hops(self.cores[source.layer], there, self.neurons[source.layer])
            found = {way: found[way] + share * mean for way, mean in hops.items()}
        return found


def place(layers: Sequence[Layer], mesh: Mesh) -> Placement:
    """Place layers on cores: populations in the order of execution, each on cores of its own, one after the other.

    A population is a layer of spiking neurons with the products that it integrates, or a product that no neuron
    integrates with one neuron for each output. It takes as many cores as its neurons or its stored weights fill, and
    spreads evenly over them. Limits of axons, and copies of the shared weights of a convolution, are not looked at.
    """
    populations: dict[str, list[Layer]] = {}
    for layer in layers:
        if layer.is_product:
            behind = layer.neuron_behind
            populations.setdefault(behind.layer if behind is not None else layer.layer, []).append(layer)
        elif layer.is_spiking:
            populations.setdefault(layer.layer, [])
    by_name = {layer.layer: layer for layer in layers}
    cores: dict[str, range] = {}
    neurons: dict[str, float] = {}
    start = 0
    for name, products in populations.items():
        # A product without neurons counts as one neuron for each of its outputs.
        number = _known(by_name[name].neurons) or max((_known(p.outputs) / p.T for p in products), default=0.0)
        taken = range(start, start + mesh.cores(number, sum(product.weights for product in products)))
        for member in (name, *(product.layer for product in products)):
            cores[member], neurons[member] = taken, number
        start = taken.stop
    return Placement(mesh, cores, neurons)


def _known(value: float) -> float:
    return value if value == value else 0.0
