"""Activity over time: how many spikes each value carries in all steps, which channels stay silent, each step alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from energy.operands import Cell


class Activity:
    """Collects what can only be said when all time steps of a batch have been seen.

    Parameters
    ----------
    by_step : bool
        Keep the counts of every step too.
    """

    def __init__(self, by_step: bool = False) -> None:
        self.by_step = by_step
        self._steps: dict[tuple[str, int], dict[str, float]] = {}
        self._sums: dict[str, Tensor] = {}
        self._active: dict[str, Tensor] = {}
        self._calls: dict[str, int] = {}
        self._counts: dict[str, Tensor] = {}
        self._silent: dict[str, list[int]] = {}

    def spikes(
        self, key: str, x: Tensor, values: Callable[[], Tensor], steps: int, T: int, samples: int, cell: Cell,
        channels: int | None = None,
    ) -> None:  # fmt: skip
        """Add the spikes of one call of a layer.

        Parameters
        ----------
        key : str
        x : Tensor
            What the layer read or sent; time is the slowest dimension, then the batch.
        values : callable
            Returns its spikes or sums of spikes, where they are not known from another layer that read the same.
        steps, T, samples : int
            Time steps that this call holds, those of the batch, and its samples.
        cell : Cell
            Of ``x``: keeps what is found for the next layer that reads it.
        channels : int, optional
            Dimension of ``x`` that holds the channels, where there is one: 1 for maps, -1 for tokens.
        """
        if x.numel() % (steps * samples):
            return
        if channels is not None:
            inner = x.shape[2:].numel() if channels == 1 else 1
            width, form = x.shape[channels], (x.shape, x.stride(), channels)
            if x.numel() % (steps * samples * width * inner) == 0:  # otherwise it is not [T, B, ...]
                if form not in cell.active:
                    cell.active[form] = values().reshape(steps, samples, -1, width, inner).sum((0, 2, 4))
                active, seen = cell.active[form], self._active.get(key)
                self._active[key] = active if seen is None or seen.shape != active.shape else seen + active
        if steps == T:
            if cell.counts is None:
                cell.counts = _histogram(values().reshape(steps, -1).sum(0))
            self._add_counts(key, cell.counts)
            return
        total = values().reshape(steps, -1).sum(0)
        before = self._sums.get(key)
        if before is not None and before.shape == total.shape:
            total = before + total
        elif before is not None:
            self._add_counts(key, _histogram(before))
        self._sums[key] = total

    def step(self, key: str, values: Mapping[str, Any], steps: int, T: int) -> None:
        """Add counts of each step of one call: a tensor or list with an entry for each of the ``steps``."""
        first = self._calls.get(key, 0)
        self._calls[key] = first + steps
        for offset in range(steps):
            row = self._steps.setdefault((key, (first + offset) % T), {})
            for name, counts in values.items():
                row[name] = row.get(name, 0.0) + float(counts[offset])

    def close(self, names: Mapping[str, str]) -> None:
        """End a batch; ``names`` says which layers turned out to be one layer in a loop over time."""
        for sums in (self._sums, self._active):
            for key in [key for key in sums if names.get(key, key) != key]:
                name, part = names[key], sums.pop(key)
                whole = sums.get(name)
                sums[name] = part if whole is None or whole.shape != part.shape else whole + part
        for key, total in self._sums.items():
            self._add_counts(key, _histogram(total))
        for key, active in self._active.items():
            told = self._silent.setdefault(key, [0, 0])
            told[0] += int((active == 0).sum())
            told[1] += active.numel()
        self._sums.clear()
        self._active.clear()
        loops: dict[str, list[str]] = {}
        for key, name in names.items():
            loops.setdefault(name, []).append(key)
        for name, keys in loops.items():
            for step, key in enumerate(keys):
                row = self._steps.pop((key, 0), {})
                old = self._steps.setdefault((name, step), {}) if row else {}
                for column, value in row.items():
                    old[column] = old.get(column, 0.0) + value
        self._calls.clear()

    def _add_counts(self, key: str, counts: Tensor) -> None:
        before = self._counts.get(key)
        if before is not None:
            size = max(len(before), len(counts))
            counts = _padded(before, size) + _padded(counts, size)
        self._counts[key] = counts

    def silent_channels(self, key: str) -> float:
        """Return the share of channels of a layer's input without a spike in a sample; NaN where unknown."""
        silent, channels = self._silent.get(key, (0, 0))
        return silent / channels if channels else float("nan")

    def count_rows(self, samples: int) -> list[dict[str, Any]]:
        """Return the rows of the table ``counts``."""
        return [
            {"layer": key, "spikes": spikes, "values": float(values) / samples}
            for key, counts in self._counts.items()
            for spikes, values in enumerate(counts.tolist())
            if values
        ]

    def step_rows(self, samples: int) -> list[dict[str, Any]]:
        """Return the rows of the table ``steps``."""
        return [
            {"layer": key, "step": step, **{name: value / samples for name, value in row.items()}}
            for (key, step), row in self._steps.items()
        ]


def _histogram(total: Tensor) -> Tensor:
    small = total.numel() == 0 or float(total.max()) < 256
    return torch.bincount(total.to(torch.uint8 if small else torch.int64))


def _padded(counts: Tensor, size: int) -> Tensor:
    return torch.nn.functional.pad(counts, (0, size - len(counts)))
