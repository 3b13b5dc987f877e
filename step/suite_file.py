"""A suite's YAML file with the line of every value, so that an error can say where it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import yaml

from energy.hardware.strict_yaml import StrictLoader
from neurons.errors import OptionError

Where = tuple[str | int, ...]
"""Keys and positions from the root of the file down to a value."""


class SuiteError(OptionError):
    """A suite file that cannot be used; the message has the file, the line and the path in it."""


class SuiteFile:
    """The data of a suite file, and the line of every path."""

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

    def fail(self, at: Sequence[str | int], message: str) -> NoReturn:
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
