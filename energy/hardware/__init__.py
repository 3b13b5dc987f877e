"""Hardware profiles: constants in pJ with a source for every number, one YAML file each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

from neurons.errors import DataError, OptionError, UnknownNameError, suggest


@dataclass(frozen=True)
class Constant:
    """One number.

    Parameters
    ----------
    value : float
        In ``unit``.
    source : str
    confirmed : bool
        False when the number was not found in the source itself.
    unit : str
        pJ unless the profile says otherwise.
    """

    value: float
    source: str
    confirmed: bool = True
    unit: str = "pJ"


@dataclass(frozen=True)
class Hardware:
    """Constants of one technology.

    Parameters
    ----------
    name, title : str
    constants : mapping of str to Constant
    node_nm : float, optional
    """

    name: str
    title: str
    constants: Mapping[str, Constant]
    node_nm: float | None = None
    used: set[str] = field(default_factory=set, compare=False, repr=False)
    """Constants that were looked up: what a price rests on."""

    def __getitem__(self, constant: str) -> float:
        """Return a constant in its unit, and note that it was used.

        Raises
        ------
        OptionError
            When the profile does not have it.
        """
        if constant not in self.constants:
            raise OptionError(f"hardware {self.name!r} has no constant {constant!r}{suggest(constant, self.constants)}")
        self.used.add(constant)
        return self.constants[constant].value

    def __contains__(self, constant: str) -> bool:
        return constant in self.constants

    def scaled(self, constant: str, factor: float) -> Hardware:
        """Return the profile with one constant multiplied: what would a price be if that number were another?"""
        old = self.constants[constant]
        changed = {**self.constants, constant: replace(old, value=old.value * factor)}
        return replace(self, constants=changed, used=set())


def names() -> list[str]:
    """Return the names of the profiles that come with the package."""
    return sorted(
        f.name.removesuffix(".yaml") for f in resources.files(__package__).iterdir() if f.name.endswith(".yaml")
    )


def load(hardware: str | Path | Hardware) -> Hardware:
    """Return a profile by name, or from a YAML file of one's own.

    Raises
    ------
    UnknownNameError
        For a name that is neither a profile nor a file.
    DataError
        For a file that is not a profile: a constant without a source, or a negative one.
    """
    if isinstance(hardware, Hardware):
        return replace(hardware, used=set())
    if str(hardware) in names():
        text = resources.files(__package__).joinpath(f"{hardware}.yaml").read_text(encoding="utf-8")
        return _parse(str(hardware), text)
    path = Path(hardware)
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return _parse(path.stem, path.read_text(encoding="utf-8"))
    raise UnknownNameError(f"unknown hardware {str(hardware)!r}{suggest(str(hardware), names())}; or give a .yaml file")


def _parse(name: str, text: str) -> Hardware:
    import yaml

    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise DataError(f"hardware profile {name!r} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or not isinstance(content.get("constants"), dict):
        raise DataError(f"hardware profile {name!r} needs a mapping 'constants'")
    constants = {key: _constant(name, key, entry) for key, entry in content["constants"].items()}
    return Hardware(name, str(content.get("title", name)), constants, content.get("node_nm"))


def _constant(profile: str, key: str, entry: Any) -> Constant:
    where = f"constant {key!r} of hardware profile {profile!r}"
    if not isinstance(entry, dict) or set(entry) - {"value", "source", "confirmed", "unit"} or not entry.get("source"):
        raise DataError(f"{where} must be a mapping with value, source and, if you like, confirmed and unit")
    value = entry.get("value")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        raise DataError(f"{where} must be a number that is not negative, not {value!r}")
    unit = str(entry.get("unit", "pJ"))
    return Constant(float(value), str(entry["source"]), bool(entry.get("confirmed", True)), unit)
