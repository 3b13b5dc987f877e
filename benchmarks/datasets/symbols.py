"""Sequences of symbols of different lengths, kept as bytes and spread out to one-hot when a batch is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from benchmarks.datasets.base import Indices
from neurons.errors import OptionError, ShapeError

Coding = Literal["one-hot", "index"]
CODINGS: tuple[Coding, ...] = ("one-hot", "index")


@dataclass(frozen=True, eq=False)
class SymbolSplit:
    """Labelled sequences of symbols; a sample is [T, C], what follows the end of a shorter one is 0.

    One-hot, C is ``symbols`` and symbol s is a 1 in channel s. As ``index``, C is 1 and symbol s is the number
    (s + 1) / ``symbols``.

    Parameters
    ----------
    content : numpy.ndarray of uint8, shape [bytes]
        The symbols of all samples, in memory or in a file (``numpy.memmap``).
    parts : Tensor of int64, shape [N, P, 2]
        Where in ``content`` each of the P parts of a sample starts, and how many symbols it has.
    labels : Tensor of int64, shape [N]
        Class of each sample, from 0.
    symbols : int
        Number of symbols, the separator included.
    steps : int
        Time steps T of the longest sample that may come.
    separator : int, optional
        Symbol between two parts; needed where there are several.
    coding : {"one-hot", "index"}
        How a symbol becomes numbers.

    Raises
    ------
    ShapeError
        When the parts do not lie in the content, or a sample is longer than ``steps`` or empty.
    OptionError
        For an unknown coding.
    """

    content: np.ndarray
    parts: Tensor
    labels: Tensor
    symbols: int
    steps: int
    separator: int | None = None
    coding: Coding = "one-hot"

    def __post_init__(self) -> None:
        check_coding(self.coding)
        if self.parts.dim() != 3 or self.parts.shape[2] != 2 or len(self.parts) != len(self.labels):
            raise ShapeError(
                f"parts must be [N, P, 2] with N labels, not {list(self.parts.shape)} with {len(self.labels)}"
            )
        if self.parts.shape[1] > 1 and self.separator is None:
            raise ShapeError(f"{self.parts.shape[1]} parts need a separator between them")
        if len(self) == 0:
            return
        if int(self.parts.min()) < 0 or int(self.parts.sum(2).max()) > len(self.content):
            raise ShapeError(f"parts must lie in the {len(self.content)} bytes of the content")
        if not 1 <= int(self.lengths.min()) <= int(self.lengths.max()) <= self.steps:
            raise ShapeError(
                f"samples must have 1 to {self.steps} symbols, not {int(self.lengths.min())} to "
                f"{int(self.lengths.max())}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def channels(self) -> int:
        """Numbers of a step."""
        return self.symbols if self.coding == "one-hot" else 1

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape [T, C] of a sample."""
        return (self.steps, self.channels)

    @cached_property
    def lengths(self) -> Tensor:
        """Symbols of each sample, int64 [N]."""
        return self.parts[:, :, 1].sum(1) + self.parts.shape[1] - 1

    def tokens(self, index: int) -> np.ndarray:
        """Return the symbols of one sample, int64 [length]."""
        pieces: list[np.ndarray] = []
        for start, count in self.parts[index].tolist():
            if pieces:
                pieces.append(np.array([self.separator]))
            pieces.append(self.content[start : start + count])
        return np.concatenate(pieces).astype(np.int64)

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Return the samples at ``indices`` as float32 [B, T, C], and their labels."""
        chosen = torch.arange(len(self))[indices].tolist()
        x = torch.zeros(len(chosen), *self.sample_shape)
        for row, index in zip(x, chosen, strict=True):
            tokens = torch.from_numpy(self.tokens(index))
            if self.coding == "one-hot":
                row[torch.arange(len(tokens)), tokens] = 1
            else:
                row[: len(tokens), 0] = (tokens + 1) / self.symbols
        return x, self.labels[indices]

    def batches(self, chunks: Iterable[Indices]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the samples and labels at each of ``chunks``."""
        return map(self.batch, chunks)

    def subset(self, indices: Indices) -> SymbolSplit:
        """Return the split that holds only the samples at ``indices``, in that order."""
        return replace(self, parts=self.parts[indices], labels=self.labels[indices])

    def training(self, seed: int, epoch: int) -> SymbolSplit:
        """Return this split: symbols are read in training as they are in testing."""
        return self


def joined(samples: Iterable[bytes]) -> tuple[np.ndarray, Tensor]:
    """Return the content and the parts [N, 1, 2] of samples that are one part each."""
    kept = list(samples)
    counts = torch.tensor([len(sample) for sample in kept], dtype=torch.int64)
    starts = counts.cumsum(0) - counts
    return np.frombuffer(b"".join(kept), np.uint8), torch.stack([starts, counts], 1).unsqueeze(1)


def check_coding(coding: str) -> None:
    """Raise an OptionError for a coding that does not exist."""
    if coding not in CODINGS:
        raise OptionError(f"dataset.coding is one of {', '.join(CODINGS)}, not {coding!r}")
