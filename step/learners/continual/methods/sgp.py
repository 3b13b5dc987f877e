"""Scaled gradient projection (Saha and Roy, Continual learning with scaled gradient projection, AAAI 2023)."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from step.learners.continual.methods.base import methods
from step.learners.continual.methods.gpm import GPM, GPMConfig
from step.learners.continual.methods.parts import SubspacePart


class SGPConfig(GPMConfig):
    """Options of scaled gradient projection."""

    subspace: SubspacePart = Field({"name": "svd", "importance": 10.0}, validate_default=True)
    """How the subspace of each layer is learned; its ``importance`` is the paper's alpha."""

    @model_validator(mode="after")
    def _scaled(self) -> Self:
        if self.subspace["importance"] is None:
            raise ValueError("sgp scales by importance: give subspace.importance, for example 10, or take method: gpm")
        return self


@methods.register("sgp")
class SGP(GPM):
    """Scaled gradient projection (Saha and Roy, 2023): GPM whose directions count by how much activity they carry.

    Along minor directions weights may still change, so that later tasks learn more.
    """

    Config = SGPConfig
