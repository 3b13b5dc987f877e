"""What the file of a hardware profile must say, and how a wrong one is refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr, ValidationError, model_validator

from energy.hardware.strict_yaml import StrictLoader
from neurons.errors import DataError, suggest

Unit = Literal[
    "pJ", "pJ/access", "pJ/bit", "pJ/byte", "pJ/hop", "pJ/bit/hop", "W", "TFLOP/s", "TOP/s", "GB/s", "byte", "bit",
    "count",
]  # fmt: skip
"""Units of constants: ``pJ`` is for one operation, update or event; ``GB/s`` are 10^9 bytes a second."""
UNITS: tuple[str, ...] = get_args(Unit)

Number = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Text = Annotated[StrictStr, Field(min_length=1, pattern=r"\S")]

_RIGHT = {
    "value": "a finite number that is not negative",
    "source": "a text that says where the number stands",
    "confirmed": "true or false: whether the number was found in the source itself",
    "unit": f"one of {', '.join(UNITS)}",
    "title": "a text that says what the hardware is",
    "node_nm": "a positive number of nanometres",
    "event_driven": "true or false: whether silence saves work",
    "note": "a text",
    "constants": "a mapping of at least one constant",
}


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    value: Number
    source: Text
    confirmed: StrictBool = True
    unit: Unit = "pJ"


class Profile(BaseModel):
    """The content of a profile file."""

    model_config = ConfigDict(extra="forbid")

    title: Text
    node_nm: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] | None = None
    event_driven: StrictBool | None = None
    note: Text | None = None
    constants: Annotated[dict[Text, _Entry], Field(min_length=1)]

    @model_validator(mode="after")
    def _power_is_in_watts(self) -> Profile:
        power = self.constants.get("static_power")
        if power is not None and power.unit != "W":
            raise ValueError(f"constant 'static_power' must be in unit W, not {power.unit}")
        return self


def parse(name: str, text: str, where: str = "") -> Profile:
    """Return the profile that ``text`` holds.

    Parameters
    ----------
    name : str
    text : str
        YAML.
    where : str
        File that it came from, for messages.

    Raises
    ------
    DataError
        With one line that names profile, file and constant, and says what would be right.
    """
    profile = f"hardware profile {name!r}" + (f" ({where})" if where else "")
    try:
        content = yaml.load(text, Loader=StrictLoader)
    except yaml.YAMLError as error:
        told = error.problem if isinstance(error, yaml.MarkedYAMLError) and error.problem else str(error)
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        raise DataError(f"{profile}{line} is not YAML: {' '.join(told.split())}") from error
    if not isinstance(content, dict):
        raise DataError(f"{profile} must be a mapping with title and constants, not {content!r}")
    try:
        return Profile.model_validate(content)
    except ValidationError as error:
        raise DataError(_told(profile, error)) from error


def _told(profile: str, error: ValidationError) -> str:
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    if not place:
        return f"{profile}: {first['msg'].removeprefix('Value error, ')}"
    if place[0] == "constants" and len(place) > 1:
        where = f"constant {place[1]!r} of {profile}"
        if len(place) == 2:
            return f"{where} must be a mapping with value, source and, if you like, confirmed and unit"
        if place[2] == "[key]":
            return f"{where} must have a name that is a text"
        known: Any = _Entry.model_fields
    else:
        where, known = profile, Profile.model_fields
    key = place[2] if place[0] == "constants" and len(place) > 2 else place[0]
    if first["type"] == "extra_forbidden":
        return f"{where} has an unknown key {key!r}{suggest(key, known)}"
    if first["type"] == "missing":
        return f"{where} lacks {key!r}: {_RIGHT[key]}"
    return f"{where}: {key} must be {_RIGHT[key]}, not {first['input']!r}"
