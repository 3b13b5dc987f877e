"""STEP: spiking networks and their conventional twins, trained, counted and priced on the same tasks.

>>> import step
>>> network = step.models.create("spikformer", image_size=8, channels=1, dim=64, depth=1, heads=4)
>>> results = step.run("quick")                      # what ``step run quick`` does, as a pandas table
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from step import learners, models
    from step.api import run

__all__ = ["learners", "models", "run"]


def __getattr__(name: str) -> Any:
    # Heavy parts load when used, so that `import step` and `step --help` stay fast.
    if name in ("models", "learners"):
        return importlib.import_module(f"step.{name}")
    if name == "run":
        return importlib.import_module("step.api").run
    raise AttributeError(f"module 'step' has no attribute {name!r}")
