"""A suite: a base spec and a grid over any of its fields, as YAML on disk."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from energy.hardware.strict_yaml import StrictLoader
from neurons.errors import OptionError, UnknownNameError, suggest
from step.grid import Level, combinations, factors, label, read_grids
from step.plots import Plot, read_plots
from step.published import Published, read_published
from step.spec import NO_MODEL, NO_NEURON, Spec, SpecError
from step.suite_file import SuiteError, SuiteFile, Where

__all__ = ["Cell", "Suite", "SuiteError", "load_suite", "parse_override", "suite_names"]

_KEYS = ("title", "description", "base", "grid", "compare", "plots", "published")


class Cell(NamedTuple):
    """One combination of the grid.

    Attributes
    ----------
    levels : dict
        Name of the level by field of the grid, the seed left out.
    seed : int
    run : str
        Id of its run. Combinations that resolve to the same spec share one.
    """

    levels: dict[str, str]
    seed: int
    run: str


@dataclass(frozen=True)
class Suite:
    """A set of runs.

    Attributes
    ----------
    name : str
        File name without suffix.
    title, description : str
    specs : list of Spec
        All runs of the grid, each once.
    labels : dict
        Run id to what tells its network from the others of the suite, as written in the grid (seeds left out).
    cells : list of Cell
        All combinations of the grid, in its order.
    factors : dict
        Field of the grid to the names of its levels, the seed left out.
    baselines : dict
        Field whose effects are looked at to the name of the level that the others are compared with.
    published : list of Published
        Tables of others that are quoted beside the results.
    plots : list of Plot
        The metric against numbers of the grid, as the suite asks for it.
    """

    name: str
    title: str
    specs: list[Spec]
    labels: dict[str, str]
    cells: list[Cell] = field(default_factory=list)
    factors: dict[str, list[str]] = field(default_factory=dict)
    baselines: dict[str, str] = field(default_factory=dict)
    published: list[Published] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    description: str = ""
    source: Path | None = field(default=None, compare=False)


def suite_names() -> list[str]:
    """Return the names of the suites that come with STEP."""
    folder = resources.files("benchmarks") / "suites"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_suite(name: str | Path, overrides: Mapping[str, Any] | None = None) -> Suite:
    """Load and validate a suite.

    Parameters
    ----------
    name : str or Path
        Name of a suite that comes with STEP, or the path of a YAML file.
    overrides : mapping, optional
        Dotted field to value; takes the place of that field in base and grid. A list is a grid over its items.

    Raises
    ------
    SuiteError
        One line with file, line, path and what would be right.
    UnknownNameError
        When there is no such suite.
    """
    path = _find(str(name))
    file = SuiteFile(path)
    data, overrides = file.data, overrides or {}
    for key in data:
        if key not in _KEYS:
            file.fail((key,), f"no such key{suggest(str(key), _KEYS)}")
    base = copy.deepcopy(data.get("base"))
    if not isinstance(base, dict):
        file.fail(("base",), "a suite needs 'base', a mapping of fields of a run")
    for key, value in overrides.items():
        if not isinstance(value, list):
            _set(base, key, value, file, ("base",))
    grids = read_grids(data.get("grid"), overrides, file)
    specs: dict[str, Spec] = {}
    labels: dict[str, str] = {}
    cells = []
    for chosen in (chosen for grid in grids for chosen in combinations(grid)):
        spec = _spec(base, chosen, file)
        specs.setdefault(spec.id, spec)
        labels.setdefault(spec.id, label(chosen) or _main(spec))
        cells.append(Cell({k: level.name for k, level in chosen.items() if k != "seed"}, spec.seed, spec.id))
    _unique(specs, labels, file)
    levels = factors(grids)
    return Suite(
        name=path.stem,
        title=str(data.get("title", path.stem)),
        description=str(data.get("description", "")),
        specs=list(specs.values()),
        labels=labels,
        cells=cells,
        factors={key: [level.name for level in found] for key, found in levels.items()},
        baselines=_baselines(data.get("compare"), levels, overrides, file),
        published=read_published(data.get("published", []), file),
        plots=read_plots(data.get("plots", []), levels, file),
        source=path,
    )


def _spec(base: Mapping[str, Any], chosen: Mapping[str, Level], file: SuiteFile) -> Spec:
    merged = copy.deepcopy(dict(base))
    # `model` before `model.depth`, whichever stands first in the file
    for key, level in sorted(chosen.items(), key=lambda item: item[0].count(".")):
        if not level.keep:
            _set(merged, key, copy.deepcopy(level.value), file, level.at)
    try:
        return Spec.parse(merged)
    except SpecError as error:
        file.fail(_blame(error.path, chosen), error.message)


def _main(spec: Spec) -> str:
    """Return the name of what a run is about, where its suite varies nothing else."""
    if spec.neuron["name"] != NO_NEURON:
        return str(spec.neuron["name"])
    return str((spec.learner if spec.model["name"] == NO_MODEL else spec.model)["name"])


def _unique(specs: Mapping[str, Spec], labels: Mapping[str, str], file: SuiteFile) -> None:
    """Refuse two networks under one label: their results would be averaged as if they were seeds of one."""
    networks: dict[str, str] = {}
    for run, spec in specs.items():
        network = spec.model_copy(update={"seed": 0}).id
        if networks.setdefault(labels[run], network) != network:
            file.fail(("grid",), f"two networks are called {labels[run]!r}; give one of their entries a label")


def _baselines(
    given: Any, levels: Mapping[str, list[Level]], overrides: Mapping[str, Any], file: SuiteFile
) -> dict[str, str]:
    """Return the level that each factor is compared with: the first of the grid unless the suite names another."""
    several = {key: found for key, found in levels.items() if len(found) > 1}
    if given is None:
        return {key: found[0].name for key, found in several.items()}
    if not isinstance(given, (list, dict)):
        file.fail(("compare",), "a list of fields of the grid, or a mapping from such fields to their baseline levels")
    chosen = {}
    for place, key in enumerate(given):
        at: Where = ("compare", key) if isinstance(given, dict) else ("compare", place)
        if key == "seed":
            file.fail(at, "seeds are what effects are judged against, no factor")
        if key not in levels and key not in overrides:
            file.fail(at, f"the grid has no field {key!r}{suggest(str(key), levels)}")
        if key not in several:  # narrowed to one level by the command line, or by the file itself
            if key not in overrides:
                file.fail(at, f"the grid has only one level of {key!r}")
            continue
        chosen[key] = several[key][0].name
        if isinstance(given, dict) and given[key] is not None and key not in overrides:
            chosen[key] = _level(given[key], several[key], at, file)
    return chosen


def _level(wanted: Any, levels: list[Level], at: Where, file: SuiteFile) -> str:
    for level in levels:
        if str(wanted) == level.name or (not level.keep and wanted == level.value):
            return level.name
    file.fail(at, f"no level {str(wanted)!r} in the grid{suggest(str(wanted), [level.name for level in levels])}")


def _find(name: str) -> Path:
    packaged = Path(str(resources.files("benchmarks") / "suites" / f"{name}.yaml"))
    if name.endswith((".yaml", ".yml")) or "/" in name:
        if not Path(name).is_file():
            raise UnknownNameError(f"suite file {name} does not exist")
        return Path(name)
    if packaged.is_file():
        return packaged
    raise UnknownNameError(f"unknown suite {name!r}{suggest(name, suite_names())} (or give the path of a .yaml file)")


def _set(tree: dict[str, Any], dotted: str, value: Any, file: SuiteFile, at: Where) -> None:
    *parents, last = dotted.split(".")
    for parent in parents:
        below: Any = tree.get(parent)
        if isinstance(below, str):  # `neuron: lif` and a grid over neuron.tau
            below = tree[parent] = {"name": below}
        if not isinstance(below, dict):
            file.fail(at, f"{dotted!r} needs a mapping at {parent!r} in base")
        tree = below
    tree[last] = value


def _blame(path: str, chosen: Mapping[str, Level]) -> Where:
    """Return where in the file the failing field was written: in the grid if a grid field covers it, else in base."""
    # `model.depth` before `model`: the more special field is the one that was set last
    for key, level in sorted(chosen.items(), key=lambda item: -item[0].count(".")):
        if not level.keep and (path == key or path.startswith(f"{key}.")):
            return (*level.at, *filter(None, path[len(key) + 1 :].split(".")))
    return ("base", *path.split("."))


def parse_override(text: str) -> tuple[str, Any]:
    """Parse ``field.path=value``, the value being YAML."""
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise OptionError(f"--set takes FIELD=VALUE, for example learner.epochs=5, not {text!r}")
    try:
        return key, yaml.load(value, Loader=StrictLoader)
    except yaml.YAMLError:
        raise OptionError(f"--set {key}: {value!r} is not a YAML value") from None
