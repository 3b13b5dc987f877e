"""Answers by the nearest mean of a class instead of the read-out (Rebuffi et al., iCaRL, CVPR 2017, section 2.1)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.protocols import Batches
from step.learners.base import to_device
from step.learners.continual.methods.base import Outputs, Tensors


class Prototypes:
    """Mean features of every class, as they were when its task was over.

    Features are what the read-out sees, averaged over time and scaled to length 1. iCaRL works the means out anew from
    stored samples; without a store, means of old classes stay as they were while the network goes on changing.

    Parameters
    ----------
    network : nn.Module
    readout : str
        Path of the read-out.
    classes : int
    """

    def __init__(self, network: nn.Module, readout: str, classes: int, device: torch.device) -> None:
        self.network = network
        self.layer = network.get_submodule(readout)
        width = self.layer.weight.flatten(1).shape[1]  # type: ignore[operator,union-attr]
        self.sums = torch.zeros(classes, width, device=device)
        self.counts = torch.zeros(classes, device=device)

    @torch.no_grad()
    def learn(self, train: Batches) -> None:
        """Take in the samples of a task; those of a class that an earlier task had join its mean."""
        device = self.sums.device
        for x, labels in replace(train, shuffle=False, augment=None).epoch():
            labels = labels.to(device)
            self.sums.index_add_(0, labels, self._features(to_device(x, device)))
            self.counts.index_add_(0, labels, torch.ones(len(labels), device=device))

    @torch.no_grad()
    def scores(self, x: Tensor, outputs: Outputs) -> Tensor | None:
        """Return minus the squared distance of x [T, B, ...] from each mean, [B, C]; -inf for classes without one.

        None where no class of the range has a mean.
        """
        known = self.counts > 0
        if not bool(known[outputs[0] : outputs[1]].any()):
            return None
        means = functional.normalize(self.sums / self.counts.clamp(min=1)[:, None], dim=-1)
        distance = torch.cdist(self._features(x), means).square()
        return (-distance).masked_fill(~known, -torch.inf)

    def _features(self, x: Tensor) -> Tensor:
        """Return the features [B, n] of x [T, B, ...], in eval mode."""
        self.network.eval()
        with self._seen() as seen:
            self.network(x)
        rows = torch.cat([given.reshape(-1, self.sums.shape[1]) for given in seen])
        return functional.normalize(rows.view(-1, x.shape[1], rows.shape[1]).mean(0), dim=-1)

    @contextmanager
    def _seen(self) -> Iterator[list[Tensor]]:
        seen: list[Tensor] = []
        handle = self.layer.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
        try:
            yield seen
        finally:
            handle.remove()

    def tensors(self) -> Tensors:
        """Return sums and counts."""
        return {"sums": self.sums, "counts": self.counts}

    def restore(self, tensors: Tensors) -> None:
        """Take back what :meth:`tensors` gave."""
        self.sums.copy_(tensors["sums"])
        self.counts.copy_(tensors["counts"])
