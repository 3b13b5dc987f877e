"""A suite: a base spec and a grid over any of its fields, as YAML on disk."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from energy.hardware.strict_yaml import StrictLoader
from neurons.errors import OptionError, UnknownNameError, suggest
from step.spec import Spec, SpecError


class SuiteError(OptionError):
    """A suite file that cannot be used; the message has the file, the line and the path in it."""


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
    """

    name: str
    title: str
    specs: list[Spec]
    labels: dict[str, str]
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
    tree = _Tree(path)
    data = tree.data
    for key in data:
        if key not in ("title", "description", "base", "grid"):
            tree.fail((key,), f"no such key{suggest(str(key), ['title', 'description', 'base', 'grid'])}")
    base, grid = data.get("base"), data.get("grid") or {}
    if not isinstance(base, dict):
        tree.fail(("base",), "a suite needs 'base', a mapping of fields of a run")
    if not isinstance(grid, dict):
        tree.fail(("grid",), "'grid' is a mapping from fields to lists")
    base, grid = copy.deepcopy(base), dict(grid)
    for key, value in (overrides or {}).items():
        grid.pop(key, None)
        if isinstance(value, list):
            grid[key] = value
        else:
            _set(base, key, value, tree, ("base",))
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            tree.fail(("grid", key), "needs a list with at least one value")
    specs: dict[str, Spec] = {}
    labels: dict[str, str] = {}
    for choice in itertools.product(*(list(enumerate(values)) for values in grid.values())):
        chosen = dict(zip(grid, choice, strict=True))
        merged = copy.deepcopy(base)
        for key, (_, value) in chosen.items():
            _set(merged, key, copy.deepcopy(value), tree, ("grid", key))
        try:
            spec = Spec.parse(merged)
        except SpecError as error:
            tree.fail(_blame(error.path, chosen), error.message)
        specs.setdefault(spec.id, spec)
        labels.setdefault(spec.id, _label({key: value for key, (_, value) in chosen.items()}, spec))
    return Suite(
        name=path.stem,
        title=str(data.get("title", path.stem)),
        description=str(data.get("description", "")),
        specs=list(specs.values()),
        labels=labels,
        source=path,
    )


def _label(chosen: Mapping[str, Any], spec: Spec) -> str:
    parts = []
    for key, value in chosen.items():
        if isinstance(value, dict):
            options = [f"{k}={v.get('name', v) if isinstance(v, dict) else v}" for k, v in value.items() if k != "name"]
            parts.append(" ".join([str(value.get("name", "")), *options]))
        elif key != "seed":
            parts.append(str(value) if "." not in key else f"{key.rsplit('.', 1)[1]}={value}")
    return ", ".join(parts) or str(spec.neuron["name"])


def _find(name: str) -> Path:
    packaged = Path(str(resources.files("benchmarks") / "suites" / f"{name}.yaml"))
    if name.endswith((".yaml", ".yml")) or "/" in name:
        if not Path(name).is_file():
            raise UnknownNameError(f"suite file {name} does not exist")
        return Path(name)
    if packaged.is_file():
        return packaged
    raise UnknownNameError(f"unknown suite {name!r}{suggest(name, suite_names())} (or give the path of a .yaml file)")


def _set(tree: dict[str, Any], dotted: str, value: Any, source: _Tree, at: tuple[str, ...]) -> None:
    *parents, last = dotted.split(".")
    for parent in parents:
        below: Any = tree.get(parent)
        if isinstance(below, str):  # `neuron: lif` and a grid over neuron.tau
            below = tree[parent] = {"name": below}
        if not isinstance(below, dict):
            source.fail(at, f"{dotted!r} needs a mapping at {parent!r} in base")
        tree = below
    tree[last] = value


def _blame(path: str, chosen: Mapping[str, tuple[int, Any]]) -> tuple[str | int, ...]:
    """Return where in the file the failing field was written: in the grid if a grid field covers it, else in base."""
    for key, (index, _) in chosen.items():
        if path == key or path.startswith(f"{key}."):
            return ("grid", key, index, *path[len(key) + 1 :].split(".")) if path != key else ("grid", key, index)
    return ("base", *path.split("."))


class _Tree:
    """A YAML file: its data, and the line of every path, for messages."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            text = path.read_text(encoding="utf-8")
            self.root = yaml.compose(text, Loader=StrictLoader)
            self.data = yaml.load(text, Loader=StrictLoader)
        except UnicodeDecodeError:
            raise SuiteError(f"{path} is not a text file; a suite is YAML") from None
        except yaml.MarkedYAMLError as error:
            line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
            raise SuiteError(f"{path}{line}: not valid YAML: {error.problem}") from None
        except yaml.YAMLError as error:
            raise SuiteError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
        if not isinstance(self.data, dict):
            raise SuiteError(f"{path}: a suite is a YAML mapping with 'title', 'base' and 'grid'")

    def fail(self, at: Sequence[str | int], message: str) -> Any:
        """Raise a SuiteError that names the file, the line and the path."""
        node: yaml.Node | None = self.root
        line = None
        for part in at:
            found = _child(node, part)
            if found is None:
                break
            node, line = found
        where = f", line {line}" if line else ""
        dotted = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in at).lstrip(".")
        raise SuiteError(f"{self.path}{where}, {dotted}: {message}")


def _child(node: yaml.Node | None, part: str | int) -> tuple[yaml.Node, int] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == part:
                return value, key.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part].start_mark.line + 1
    return None


def parse_override(text: str) -> tuple[str, Any]:
    """Parse ``field.path=value``, the value being YAML."""
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise OptionError(f"--set takes FIELD=VALUE, for example learner.epochs=5, not {text!r}")
    try:
        return key, yaml.load(value, Loader=StrictLoader)
    except yaml.YAMLError:
        raise OptionError(f"--set {key}: {value!r} is not a YAML value") from None
