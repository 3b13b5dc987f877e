"""The grid of a suite: its fields, how their levels are called, and the combinations of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from step.suite_file import SuiteFile, Where

_OPTIONS = 2  # a name with more options than these keeps only the ones that tell it from its namesakes


@dataclass(frozen=True)
class Level:
    """One value of a field of the grid.

    Attributes
    ----------
    name : str
        How it is called in labels and tables.
    value : any
        What the field is set to.
    at : tuple
        Where it stands in the file.
    keep : bool
        The field is left as the rest of the suite has it: an entry ``{label: ...}`` without a value.
    labelled : bool
        The author gave the name.
    """

    name: str
    value: Any
    at: Where
    keep: bool = False
    labelled: bool = False


Grid = dict[str, list[Level]]
"""Levels by field, in the order of the file."""


def read_grids(given: Any, overrides: Mapping[str, Any], file: SuiteFile) -> list[Grid]:
    """Read the ``grid`` key of a suite: a mapping from fields to lists, or a list of such mappings.

    Parameters
    ----------
    given : any
        What stands in the file.
    overrides : mapping
        Dotted field to value; takes the place of the field. A list becomes a field of the grid.
    file : SuiteFile
        For errors.
    """
    several = isinstance(given, list) and bool(given)
    grids = []
    for number, mapping in enumerate(given if several else [given or {}]):
        at: Where = ("grid", number) if several else ("grid",)
        if not isinstance(mapping, dict):
            file.fail(at, "'grid' is a mapping from fields to lists, or a list of such mappings")
        fields = {str(key): values for key, values in mapping.items() if str(key) not in overrides}
        fields |= {key: value for key, value in overrides.items() if isinstance(value, list)}
        grids.append({key: _levels(values, (*at, key), file) for key, values in fields.items()})
    return grids


def combinations(grid: Grid) -> Iterator[dict[str, Level]]:
    """Yield one level of every field, for all combinations."""
    for chosen in itertools.product(*grid.values()):
        yield dict(zip(grid, chosen, strict=True))


def factors(grids: list[Grid]) -> dict[str, list[Level]]:
    """Return the levels of every field but the seed over all grids, each once, in the order of the file."""
    found: dict[str, dict[str, Level]] = {}
    for grid in grids:
        for key, levels in grid.items():
            for level in levels if key != "seed" else ():
                found.setdefault(key, {}).setdefault(level.name, level)
    return {key: list(levels.values()) for key, levels in found.items()}


def label(chosen: Mapping[str, Level]) -> str:
    """Return what tells a network from the others of its suite; the seed is left out."""
    parts = []
    for key, level in chosen.items():
        if key == "seed":
            continue
        bare = level.labelled or isinstance(level.value, dict) or "." not in key
        parts.append(level.name if bare else f"{key.rsplit('.', 1)[1]}={level.name}")
    return ", ".join(parts)


def _levels(values: Any, at: Where, file: SuiteFile) -> list[Level]:
    if not isinstance(values, list) or not values:
        file.fail(at, "needs a list with at least one value")
    levels: dict[str, Level] = {}
    for number, entry in enumerate(values):
        place = (*at, number)
        level = (
            _labelled(entry, place, file)
            if isinstance(entry, dict) and "label" in entry and "name" not in entry
            else Level(_name(entry, values), entry, place)
        )
        before = levels.setdefault(level.name, level)
        if (before.value, before.keep) != (level.value, level.keep):
            file.fail(place, f"another entry of this field is called {level.name!r} too; give one of them a label")
    return list(levels.values())


def _labelled(entry: dict[Any, Any], at: Where, file: SuiteFile) -> Level:
    for key in entry:
        if key not in ("label", "value"):
            file.fail((*at, key), "an entry with a label is {label: ..., value: ...}; options belong into the value")
    if not isinstance(entry["label"], str) or not entry["label"].strip():
        file.fail((*at, "label"), "a label is a text")
    if "value" not in entry:
        return Level(entry["label"], None, at, keep=True, labelled=True)
    return Level(entry["label"], entry["value"], (*at, "value"), labelled=True)


def _name(value: Any, values: list[Any]) -> str:
    """Return a short name for a value among the values of its field."""
    if not isinstance(value, dict):
        return str(value)
    options = {k: v for k, v in value.items() if k != "name"}
    if len(options) > _OPTIONS:
        namesakes = [_options(other) for other in values if _component(other) == _component(value)]
        options = {k: v for k, v in options.items() if any(k not in other or other[k] != v for other in namesakes)}
    return " ".join([*filter(None, [_component(value)]), *(f"{k}={_short(v)}" for k, v in options.items())])


def _component(value: Any) -> str:
    if isinstance(value, dict) and "label" in value and "name" not in value:
        return _component(value.get("value"))
    return str(value.get("name", "")) if isinstance(value, dict) else str(value)


def _options(value: Any) -> dict[Any, Any]:
    return {k: v for k, v in value.items() if k != "name"} if isinstance(value, dict) else {}


def _short(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    inner = ", ".join(f"{k}={_short(v)}" for k, v in value.items() if k != "name")
    return f"{_component(value)}({inner})" if inner else _component(value)
