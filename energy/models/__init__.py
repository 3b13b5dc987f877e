"""Energy models: one file for each, all with the same face."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from energy.hardware import Hardware
from energy.models import op_count, step_memory, typed_horowitz  # noqa: F401  (they register themselves)
from energy.models.base import PARTS, EnergyModel, Price, energy_models
from energy.record import Record

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["PARTS", "EnergyModel", "Price", "energy_models", "price"]


def price(
    record: Record, model: str | EnergyModel = "op-count", hardware: str | Path | Hardware = "45nm", **options: Any
) -> DataFrame:
    """Return the energy of one inference in pJ under one model: one row for each layer.

    Parameters
    ----------
    record : Record
    model : str or EnergyModel
        Registered name, or a model made before.
    hardware : str or path
        Name of a profile, or a YAML file of one's own.
    **options
        Options of the model, when it is given by name.
    """
    chosen = energy_models.create(model, **options) if isinstance(model, str) else model
    return chosen.price(record, hardware)
