"""Hardware profiles: constants with a source for every number, one YAML file each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from neurons.errors import DataError, OptionError, UnknownNameError, suggest

if TYPE_CHECKING:
    from energy.hardware.profile import Profile

__all__ = ["Constant", "Hardware", "load", "names"]


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
    """Constants of one technology or chip.

    Parameters
    ----------
    name, title : str
    constants : mapping of str to Constant
    node_nm : float, optional
    event_driven : bool, optional
        Whether silence saves work; None where that is not for the hardware to say (constants of a process).
    note : str
        What the figures include or leave out.
    """

    name: str
    title: str
    constants: Mapping[str, Constant]
    node_nm: float | None = None
    event_driven: bool | None = None
    note: str = ""
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
        """Return the profile with one constant multiplied: what would a price be if that number were another?

        Raises
        ------
        OptionError
            When the profile does not have it, or for a negative factor.
        """
        if constant not in self.constants:
            raise OptionError(f"hardware {self.name!r} has no constant {constant!r}{suggest(constant, self.constants)}")
        if not 0 <= factor < float("inf"):
            raise OptionError(f"a constant is multiplied by a finite factor that is not negative, not by {factor}")
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

    A file has a ``title``, perhaps ``node_nm``, ``event_driven`` and ``note``, and ``constants``: for each a ``value``
    and its ``source``, perhaps ``confirmed: false`` and a ``unit``.

    Raises
    ------
    UnknownNameError
        For a name that is neither a profile nor a file.
    DataError
        For a file that is not a profile: a constant without a source, a negative one, a key that stands twice.
    """
    if isinstance(hardware, Hardware):
        return replace(hardware, used=set())
    if str(hardware) in names():
        return replace(_shipped(str(hardware)), used=set())
    from energy.hardware.profile import parse  # imports pydantic and YAML

    path = Path(hardware)
    if path.suffix in (".yaml", ".yml") and path.is_file():
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"hardware profile {path.stem!r} ({path}) is not a readable text file: {error}") from error
        return _made(path.stem, parse(path.stem, text, str(path)))
    raise UnknownNameError(f"unknown hardware {str(hardware)!r}{suggest(str(hardware), names())}; or give a .yaml file")


@lru_cache
def _shipped(name: str) -> Hardware:
    from energy.hardware.profile import parse

    return _made(name, parse(name, resources.files(__package__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")))


def _made(name: str, profile: Profile) -> Hardware:
    constants = {key: Constant(**entry.model_dump()) for key, entry in profile.constants.items()}
    return Hardware(
        name, profile.title, constants, profile.node_nm, event_driven=profile.event_driven, note=profile.note or ""
    )
