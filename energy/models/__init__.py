"""Energy models: one file for each, all with the same face."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from energy.hardware import Hardware
from energy.models import (  # noqa: F401  (they register themselves)
    bit_budget,
    dampfhoffer,
    device_table,
    event_chip,
    lemaire,
    neurobench,
    neuromc,
    op_count,
    roofline,
    spikesim,
    spikingbrain,
    spikingjelly,
    step_memory,
    syops,
    typed_horowitz,
    yan,
)
from energy.models.base import MEMORY_PARTS, PARTS, EnergyModel, Price, energy_models
from energy.models.layer import Layer
from energy.record import Record
from neurons.errors import OptionError, suggest

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["MEMORY_PARTS", "PARTS", "Choice", "EnergyModel", "Layer", "Price", "energy_models", "price", "standard"]


@dataclass(frozen=True)
class Choice:
    """One line of a comparison: a model with its options on one hardware.

    Attributes
    ----------
    label : str
    model : EnergyModel
    hardware : str or path, optional
        The model's own profile when left out.
    """

    label: str
    model: EnergyModel
    hardware: str | Path | None = None


def standard(
    models: Iterable[str | EnergyModel | Choice] | None = None, hardware: str | Path | Hardware | None = None
) -> list[Choice]:
    """Return every variant of the named models (of all registered ones when left out), in order of their names.

    A name may be that of a model, which stands for all its variants, or the label of one variant. Where ``hardware``
    is asked for, a model with a variant for each of several chips stands once.
    """
    choices: list[Choice] = []
    for each in energy_models.names() if models is None else models:
        if isinstance(each, Choice):
            choices.append(each)
        elif isinstance(each, EnergyModel):
            choices.append(Choice(_name(type(each)), each))
        else:
            choices += _variants(each)
    return choices if hardware is None else _on_one(choices)


def _on_one(choices: list[Choice]) -> list[Choice]:
    kinds: dict[type[EnergyModel], list[Choice]] = {}
    for choice in choices:
        kinds.setdefault(type(choice.model), []).append(choice)
    return [
        choice for kind, found in kinds.items()
        for choice in (found if any(each.hardware is None for each in found) else [Choice(_name(kind), kind())])
    ]  # fmt: skip


def _name(kind: type[EnergyModel]) -> str:
    return str(getattr(kind, "registered_name", kind.__name__))


def _variants(name: str) -> list[Choice]:
    plain, _, suffix = name.partition(" ")
    cls: Any = energy_models.get(plain)
    variants = cls.variants
    wanted = [suffix] if suffix else list(variants)
    if suffix and suffix not in variants:
        raise OptionError(f"energy model {plain!r} has no variant {suffix!r}{suggest(suffix, variants)}")
    found = []
    for variant in wanted:
        options = dict(variants[variant])
        hardware = options.pop("hardware", None)
        found.append(Choice(f"{plain} {variant}".strip(), energy_models.create(plain, **options), hardware))
    return found


def price(
    record: Record,
    model: str | EnergyModel = "op-count",
    hardware: str | Path | Hardware | None = None,
    *,
    seconds: float | None = None,
    **options: Any,
) -> DataFrame:
    """Return the energy of one inference in pJ under one model: one row for each layer.

    Parameters
    ----------
    record : Record
    model : str or EnergyModel
        Registered name, or a model made before.
    hardware : str or path, optional
        Name of a profile, or a YAML file of one's own; the model's own profile when left out.
    seconds : float, optional
        Time of one inference, over which the static power of the hardware is charged.
    **options
        Options of the model, when it is given by name.
    """
    chosen = energy_models.create(model, **options) if isinstance(model, str) else model
    return chosen.price(record, hardware, seconds=seconds)
