"""LENS: VPRTempo's rule made small, and deployed as spiking neurons."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from step.learners.base import learners
from step.learners.places.base import PlaceConfig
from step.learners.places.inputs import need_map, rows_of_queries
from step.learners.places.integrate_and_fire import Deployment, bernoulli, most_spikes
from step.learners.places.tempo import Layer
from step.learners.places.vprtempo import Range, VPRTempo, VPRTempoConfig

if TYPE_CHECKING:
    import energy

_AT_ONCE = 16
"""Queries that are run at once when operations are counted."""


class LENSConfig(VPRTempoConfig):
    """Settings of LENS; the defaults are those of its package (Hines et al., Science Robotics 2025)."""

    answer: Literal["spiking", "rate"] = "spiking"
    """Whether places are answered by spikes of integrate-and-fire neurons or by amplitudes, which stand for rates."""
    steps: int = Field(250, ge=1)
    """Time steps of a spiking answer."""
    spike_thresholds: Range = (1.0, 1.0)
    """Spike thresholds of features and outputs: 1 in simulation, 10 and 2 on the chip."""
    normalised: bool = True
    """Whether weights are multiplied by those thresholds, so that rates are amplitudes."""
    floor: float | None = Field(-1.0, le=0)
    """Lowest membrane potential; null for none."""
    ties: Literal["potential", "first"] = "potential"
    """Which of the places with most spikes wins: that with the highest last membrane potential, or the first."""

    epochs: int = Field(128, ge=1)
    rate: float = Field(0.01, gt=0)
    threshold_rate: float = Field(0.02, ge=0)
    connections: Range = (0.35, 0.75)
    thresholds: Range = (0.0, 0.75)
    targets: Range = (0.4, 0.6)
    ceiling: float = Field(1.0, gt=0)
    clipped_error: bool = True

    @model_validator(mode="after")
    def _spikes_as_learned(self) -> Self:
        if self.answer == "spiking" and self.read != "clamped":
            raise ValueError(f"read: a spiking answer has its own read-out; read {self.read!r} needs answer 'rate'")
        if min(self.spike_thresholds) <= 0:
            raise ValueError(f"spike_thresholds must be positive, not {self.spike_thresholds}")
        return self


@learners.register("lens")
class LENS(VPRTempo):
    """LENS (Hines et al., Science Robotics 2025): a small VPRTempo that answers with spikes.

    It learns on amplitudes as :class:`~step.learners.places.vprtempo.VPRTempo` does, with calmer constants and an
    output error that only raises weights. To answer, both layers become integrate-and-fire neurons: a value in [0, 1]
    is the probability of an input spike at every time step, and the place with most spikes wins.

    The published model takes 10 x 10 pixels, ``view(pick=8)`` of 80 x 80 event counts, with ``gamma`` for the map only;
    giving it to queries, too, is better.

    Parameters
    ----------
    network, config, seed, checkpoint_file, progress
        See :class:`~step.learners.places.base.PlaceLearner`.
    """

    Config: ClassVar[type[PlaceConfig]] = LENSConfig
    config: LENSConfig
    _deployed: Deployment

    def similarity(self, queries: Tensor, first: int = 0) -> Tensor:
        if self.config.answer == "rate":
            return super().similarity(queries, first)
        need_map(bool(self._sizes), self._name)
        rows = rows_of_queries(queries, self._feature.weight.shape[2])
        with torch.no_grad():
            counts, potentials = self._deployed.answers(bernoulli(rows, self.config.steps, self.seed, first))
        return (most_spikes(counts, potentials) if self.config.ties == "potential" else counts).T.contiguous()

    def measure(self, queries: Tensor) -> energy.Record:
        if self.config.answer == "rate":
            return super().measure(queries)
        need_map(bool(self._sizes), self._name)
        import energy

        rows = rows_of_queries(queries, self._feature.weight.shape[2])
        starts = range(0, len(rows), _AT_ONCE)
        spikes = (bernoulli(rows[i : i + _AT_ONCE], self.config.steps, self.seed, i) for i in starts)
        return energy.measure(self._deployed, spikes, data="queries")

    def _settled(self) -> None:
        super()._settled()
        if self.config.answer == "rate":
            return
        layers = [Layer(*parts) for parts in zip(self._feature.weight, self._feature.threshold, strict=True)]
        outputs = [weight[:size] for weight, size in zip(self._output.weight, self._sizes, strict=True)]
        chosen = self.config
        self._deployed = Deployment(layers, outputs, chosen.spike_thresholds, chosen.normalised, chosen.floor)
