"""What is known of a running neuron that is made of products, such as a recurrent cell."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor

from neurons import Neuron


@dataclass
class Inside:
    """A running neuron that is made of products: each is a layer of its own, all other arithmetic is the neuron's.

    Parameters
    ----------
    path : str
    steps, rows : int
        Time steps of its input, and rows of one step: samples times the positions that share the neuron.

    Attributes
    ----------
    calls : int
        How deep its ``forward`` and ``run`` stand in each other.
    arithmetic : Counter
        Operations that belong to no product.
    keys : dict
        Its products by the place of their weights: one that is called at every step of a loop over time, or for some
        steps at a time, is one layer.
    held : list of Tensor
        Weights that were worked out on the way, so that no others come to lie in their place.
    """

    path: str
    steps: int
    rows: int
    calls: int = 1
    arithmetic: Counter[str] = field(default_factory=Counter)
    keys: dict[tuple[int, int, int], str] = field(default_factory=dict)
    held: list[Tensor] = field(default_factory=list)

    @classmethod
    def of(cls, path: str, neuron: Neuron, x: Tensor) -> Self:
        """Begin with the input [T, B, ...] of a neuron, whose ``axis`` says where the channels are."""
        width = x.shape[getattr(neuron, "axis", -1)] if x.dim() > 2 else 1
        return cls(path, x.shape[0], x.shape[1] * max(1, x.shape[2:].numel() // width))

    def key(self, module: str, name: str, weight: Tensor, parameters: set[int]) -> str:
        """Return the layer of a product with a weight; ``parameters`` are the places of what outlives the neuron."""
        storage = weight.untyped_storage().data_ptr()
        place = (storage, int(weight.storage_offset()), weight.numel())
        known = self.keys.get(place)
        if known is None:
            alike = sum(key.rpartition("-")[0] == f"{module}.{name}" for key in self.keys.values())
            known = self.keys[place] = f"{module}.{name}-{alike + 1}"
            if storage not in parameters:
                self.held.append(weight)
        return known

    def steps_of(self, shape: torch.Size, B: int) -> int:
        """Return how many time steps a tensor holds: [t, B, ...] or [B, ...], B also times the positions.

        0 where the sizes do not tell.
        """
        first, rows = shape[0], self.rows
        step = first in (rows, B)
        if len(shape) > 2 and shape[1] in (rows, B) and (first == self.steps or (first < self.steps and not step)):
            return first
        if step:
            return 1
        return first // rows if first % rows == 0 and first // rows <= self.steps else 0
