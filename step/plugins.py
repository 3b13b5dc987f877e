"""Plugins: a local Python file whose ``register`` calls add names to the registries."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

from neurons.errors import OptionError, StepError


def load_plugin(path: Path) -> ModuleType:
    """Run a plugin file once and return it as a module.

    Raises
    ------
    OptionError
        When the file is missing or fails, with the line that failed.
    """
    path = path.resolve()
    if not path.is_file():
        raise OptionError(f"plugin {path} does not exist")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    name = f"step_plugin_{digest[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise OptionError(f"plugin {path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    module.__step_plugin__ = digest  # type: ignore[attr-defined]
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except StepError:
        del sys.modules[name]
        raise
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        line = next(
            (f.lineno for f in _frames(error) if f.filename == str(path)), getattr(error, "lineno", None) or "?"
        )
        raise OptionError(f"plugin {path}, line {line}: {type(error).__name__}: {error}") from None
    return module


def _frames(error: BaseException) -> list[traceback.FrameSummary]:
    return list(reversed(traceback.extract_tb(error.__traceback__)))
