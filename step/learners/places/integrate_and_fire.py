"""Layers of amplitudes deployed as integrate-and-fire neurons, as LENS runs on its chip."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from neurons.base import SpikingNeuron
from neurons.errors import OptionError
from step.learners.places.layers import linear
from step.learners.places.tempo import Layer

_SALT = 1 << 56
"""Keeps the noise of queries apart from what is drawn for modules."""


class FlooredIF(SpikingNeuron):
    """Integrate-and-fire with a floor: h = max(v + x, floor); s = H(h - threshold); v = h - s threshold.

    One spike a time step at most; what is left above the threshold is kept for the next one.

    Parameters
    ----------
    threshold : float
    floor : float
        Lowest membrane potential, at most 0. Speck has one (-1 in the simulation of LENS).
    """

    state = {"v": 0.0}

    def __init__(self, threshold: float = 1.0, floor: float = -1.0) -> None:
        super().__init__(threshold=threshold, reset="soft")
        if floor > 0:
            raise OptionError(f"floor must be at most 0, the potential at rest, not {floor}")
        self.floor = floor

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        h = (v + x).clamp(min=self.floor)
        s = self.spike(h - self.threshold)
        return s, self.reset(h, s)

    def extra_repr(self) -> str:
        return f"floor={self.floor}, {super().extra_repr()}"


class UnboundedIF(SpikingNeuron):
    """Integrate-and-fire without a floor, reset by subtraction: rates become clip(mean input / threshold, 0, 1)."""

    state = {"v": 0.0}

    def __init__(self, threshold: float = 1.0) -> None:
        super().__init__(threshold=threshold, reset="soft")

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        h = v + x
        s = self.spike(h - self.threshold)
        return s, self.reset(h, s)


class Deployment(nn.Module):
    """Modules of feature and output layers as integrate-and-fire neurons.

    Parameters
    ----------
    features : sequence of Layer
        Weights [features, inputs] and thresholds [features] of each module; thresholds of the rule become a constant
        input of their negative.
    outputs : sequence of Tensor, each [places, features]
    thresholds : tuple of float
        Spike thresholds of features and of outputs: 10 and 2 on Speck, 1 and 1 in the simulation.
    normalised : bool
        Whether weights are multiplied by the threshold behind them, so that a firing rate is the amplitude it stands
        for. As they are, rates become amplitudes divided by thresholds, and answers need as many more time steps.
    floor : float, optional
        Lowest membrane potential, in units of the potential. With a floor, noise alone lets a neuron fire whose mean
        input is below 0, the more the nearer the floor is to rest; without one, rates become amplitudes.
    """

    def __init__(
        self,
        features: Sequence[Layer],
        outputs: Sequence[Tensor],
        thresholds: tuple[float, float] = (1.0, 1.0),
        normalised: bool = True,
        floor: float | None = -1.0,
    ) -> None:
        super().__init__()
        self.thresholds = thresholds
        gains = thresholds if normalised else (1.0, 1.0)
        self.features = nn.ModuleList(
            linear(gains[0] * f.weight, -gains[0] * f.threshold if bool(f.threshold.any()) else None) for f in features
        )
        self.outputs = nn.ModuleList(linear(gains[1] * weight) for weight in outputs)
        self.feature_neurons, self.output_neurons = (
            nn.ModuleList(UnboundedIF(level) if floor is None else FlooredIF(level, floor) for _ in features)
            for level in thresholds
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return spikes of the places [T, B, P] for spikes [T, B, inputs]."""
        return torch.cat([spikes for spikes, _ in self.modules_of(x)], dim=-1)

    def answers(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return spike counts and last potentials in units of the threshold, both [B, P], for spikes [T, B, inputs]."""
        counts, potentials = [], []
        for spikes, potential in self.modules_of(x):
            counts.append(spikes.sum(0))
            potentials.append(potential / self.thresholds[1])
        return torch.cat(counts, dim=-1), torch.cat(potentials, dim=-1)

    def modules_of(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return output spikes [T, B, places] and last potentials [B, places] of each module."""
        found = []
        parts = zip(self.features, self.feature_neurons, self.outputs, self.output_neurons, strict=True)
        for feature, feature_neuron, output, output_neuron in parts:
            assert isinstance(output_neuron, SpikingNeuron)
            spikes, state = output_neuron.run(output(feature_neuron(feature(x))))
            found.append((spikes, state["v"]))
        return found


def most_spikes(counts: Tensor, potentials: Tensor) -> Tensor:
    """Return counts with ties broken by the last potential: more spikes always win, then the higher potential.

    Parameters
    ----------
    counts : Tensor
        Whole numbers.
    potentials : Tensor
        In units of the threshold; added as a share strictly between 0 and 1 that rises with the potential.
    """
    return counts + 0.5 + 0.49 * potentials / (1.0 + potentials.abs())


def bernoulli(rows: Tensor, steps: int, seed: int, first: int) -> Tensor:
    """Return spikes [steps, B, inputs] that come with probability x at every time step, for rows x [B, inputs].

    Parameters
    ----------
    rows : Tensor, shape [B, inputs]
        Values in [0, 1].
    steps : int
    seed : int
    first : int
        Number of the first query. What is drawn for a query depends on the seed and its number only.
    """
    drawn = torch.empty(steps, *rows.shape)
    for number in range(len(rows)):
        generator = torch.Generator().manual_seed(_SALT + (seed << 24) + first + number)
        drawn[:, number] = torch.rand(steps, rows.shape[1], generator=generator)
    return (drawn < rows).to(rows.dtype)
