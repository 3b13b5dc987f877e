"""Activity over time: how many spikes each value carries in all steps, which channels stay silent, each step alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


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
        self._sums: dict[str, tuple[Tensor, int | None]] = {}
        self._calls: dict[str, int] = {}
        self._counts: dict[str, Tensor] = {}
        self._silent: dict[str, list[int]] = {}

    def spikes(self, key: str, values: Tensor, steps: int, samples: int, channels: int | None = None) -> None:
        """Add the spikes of one call of a layer.

        Parameters
        ----------
        key : str
        values : Tensor
            Spikes or sums of spikes; time is the slowest dimension, then the batch.
        steps, samples : int
            Time steps that this call holds, and samples of the batch.
        channels : int, optional
            Dimension of ``values`` that holds the channels, where there is one: 1 for maps, -1 for tokens.
        """
        if values.numel() % (steps * samples):
            return
        shape = values.shape
        total = values.reshape(steps, -1).sum(0) if steps > 1 else values.reshape(-1)
        if channels is not None:
            inner = shape[2:].numel() if channels == 1 else 1
            if total.numel() % (samples * shape[channels] * inner):
                channels = None  # not [T, B, ...]: there is no telling whose channels these are
            else:
                total = total.reshape(samples, -1, shape[channels], inner)
        before = self._sums.get(key)
        if before is not None and before[0].shape == total.shape:
            total = before[0] + total
        elif before is not None:
            self._close(key, key)
        self._sums[key] = (total, channels)

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
        for key in list(self._sums):
            name = names.get(key, key)
            if name != key and name in self._sums and self._sums[name][0].shape == self._sums[key][0].shape:
                self._sums[name] = (self._sums[name][0] + self._sums.pop(key)[0], self._sums[name][1])
        for key in list(self._sums):
            self._close(key, names.get(key, key))
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

    def _close(self, key: str, name: str) -> None:
        total, channels = self._sums.pop(key)
        counts = torch.bincount(total.reshape(-1).to(torch.int64))
        before = self._counts.get(name)
        if before is not None:
            size = max(len(before), len(counts))
            counts = _padded(before, size) + _padded(counts, size)
        self._counts[name] = counts
        if channels is not None:
            silent = total.sum(dim=(1, 3)) == 0
            told = self._silent.setdefault(name, [0, 0])
            told[0] += int(silent.sum())
            told[1] += silent.numel()

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


def _padded(counts: Tensor, size: int) -> Tensor:
    return torch.nn.functional.pad(counts, (0, size - len(counts)))
