"""Samples of earlier tasks that are kept: their images, labels, and among which outputs they are told apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from step.learners.continual.methods.base import Outputs, Tensors


class Kept(NamedTuple):
    """Some kept samples.

    Attributes
    ----------
    images : Tensor, shape [B, ...]
        As the data set gave them.
    labels : Tensor of int64, shape [B]
    outputs : Tensor of int64, shape [B, 2]
        Half-open range of the outputs among which each was told apart when it came.
    logits : Tensor, shape [B, C]
        What the network answered then.
    """

    images: Tensor
    labels: Tensor
    outputs: Tensor
    logits: Tensor


class Memory:
    """A store of at most ``size`` samples, on the CPU.

    Parameters
    ----------
    size : int
    balanced : bool
        What a full store does with a new sample. False: reservoir sampling (Vitter, ACM Trans. Math. Softw. 1985), by
        which every sample that came is kept with the same probability. True: class-balancing reservoir sampling
        (Chrysakis and Moens, ICML 2020), by which the largest class gives way.
    """

    def __init__(self, size: int, balanced: bool = False) -> None:
        self.size = size
        self.balanced = balanced
        self.kept: Kept | None = None
        self._seen: Counter[int] = Counter()
        self._full: set[int] = set()

    def __len__(self) -> int:
        return 0 if self.kept is None else len(self.kept.labels)

    def add(self, images: Tensor, labels: Tensor, outputs: Outputs, logits: Tensor, generator: torch.Generator) -> None:
        """Let samples [B, ...] pass by one after the other; some stay."""
        ranges = torch.tensor(outputs).expand(len(labels), 2)
        new = Kept(images.detach().cpu(), labels.cpu(), ranges, logits.detach().cpu())
        classes = [] if self.kept is None else self.kept.labels.tolist()
        rows: dict[int, int] = {}  # which new sample ends up at each place
        for row, label in enumerate(new.labels.tolist()):
            place = self._place(label, classes, generator)
            if place is not None:
                classes[place : place + 1] = [label]
                rows[place] = row
        if not rows:
            return
        old = self.kept or Kept(*(part[:0] for part in new))
        merged = [torch.cat([a, a.new_empty(len(classes) - len(a), *a.shape[1:])]) for a in old]
        places, sources = torch.tensor(list(rows)), torch.tensor(list(rows.values()))
        for whole, part in zip(merged, new, strict=True):
            whole[places] = part[sources]
        self.kept = Kept(*merged)

    def _place(self, label: int, classes: list[int], generator: torch.Generator) -> int | None:
        """Return where a new sample goes; None for nowhere."""
        self._seen[label] += 1
        if len(classes) < self.size:
            return len(classes)
        if not self.balanced:
            drawn = _below(self._seen.total(), generator)
            return drawn if drawn < self.size else None
        counts = Counter(classes)
        largest = max(counts.values())
        self._full |= {c for c, count in counts.items() if count == largest}
        if label in self._full:
            if _below(self._seen[label], generator) >= counts[label]:
                return None
            places = [place for place, c in enumerate(classes) if c == label]
        else:
            places = [place for place, c in enumerate(classes) if counts[c] == largest]
        return places[_below(len(places), generator)]

    def draw(self, count: int, generator: torch.Generator) -> Kept | None:
        """Return so many samples, drawn at random without repetition, or all; None from an empty store."""
        if self.kept is None:
            return None
        chosen = torch.randperm(len(self), generator=generator)[:count]
        return Kept(*(part[chosen] for part in self.kept))

    def tensors(self) -> Tensors:
        """Return the samples as tensors."""
        return {} if self.kept is None else self.kept._asdict()

    def facts(self) -> dict[str, Any]:
        """Return how many of each class came, and which classes have been the largest, as JSON has it."""
        return {"seen": sorted(self._seen.items()), "full": sorted(self._full)}

    def restore(self, tensors: Tensors, facts: dict[str, Any]) -> None:
        """Take back what :meth:`tensors` and :meth:`facts` gave."""
        self.kept = Kept(**tensors) if tensors else None
        self._seen = Counter(dict(facts["seen"]))
        self._full = set(facts["full"])


def loss_of_each(labels: Tensor, outputs: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the cross-entropy of outputs [T, B, C], averaged over time, each sample among outputs of its own [B, 2].

    The loss comes for every sample, [B].
    """

    def loss(y: Tensor) -> Tensor:
        scores = y.mean(0)
        place = torch.arange(scores.shape[1], device=scores.device)
        closed = (place < outputs[:, :1]) | (place >= outputs[:, 1:])
        return functional.cross_entropy(scores.masked_fill(closed, -torch.inf), labels, reduction="none")

    return loss


def ranges_now(kept: Tensor, outputs: Outputs) -> Tensor:
    """Return among which outputs kept samples are told apart in a later task, [B, 2].

    Where the outputs of the task hold those of a sample (tasks share the outputs, or their classes compete), they are
    its own now; where tasks have heads of their own, a sample keeps those of its task.
    """
    now = torch.tensor(outputs).expand_as(kept)
    inside = (kept[:, :1] >= outputs[0]) & (kept[:, 1:] <= outputs[1])
    return torch.where(inside, now, kept)


def _below(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=generator))
