"""What ``step list`` and ``step doctor`` show."""

from __future__ import annotations

import importlib
import os
from importlib import resources
from pathlib import Path

import yaml

import neurons
from neurons.errors import DataError
from neurons.surrogate import surrogates
from step.machine import PACKAGES, compiler, installed, machine
from step.suite import suite_names

_PACKAGES_BY_KIND = {
    "neurons": "neurons",
    "encoders": "encoders",
    "datasets": "benchmarks.datasets",
    "models": "step.models",
    "learners": "step.learners",
    "protocols": "benchmarks.protocols",
    "energy": "energy",
}


def rows(kind: str) -> list[tuple[str, str]]:
    """Return ``(name, one-line description)`` of everything of a kind."""
    if kind == "suites":
        return [(name, _title(name)) for name in suite_names()]
    package = surrogates if kind == "surrogates" else importlib.import_module(_PACKAGES_BY_KIND[kind])
    return [(name, package.describe(name)) for name in package.names()]


def _title(name: str) -> str:
    text = (Path(str(resources.files("benchmarks"))) / "suites" / f"{name}.yaml").read_text(encoding="utf-8")
    return str(yaml.safe_load(text).get("title", ""))


def _kernel(name: str) -> str:
    from neurons.compiler import why_not

    try:
        reason = why_not(neurons.create(name))
    except TypeError:
        return "unknown: it needs options of its own"
    return "c: one fused loop over time" if reason is None else f"eager: {reason}"


def _location(name: str) -> str:
    from benchmarks import datasets
    from benchmarks.datasets.roots import find

    if name not in datasets.remotes:
        return "comes with an installed package"
    try:
        return str(find(name, datasets.remotes[name].files))
    except DataError:
        return f"not here; run: step fetch {name}"


def diagnosis() -> dict[str, list[tuple[str, str]]]:
    """Return sections of ``(name, finding)``."""
    import torch

    from benchmarks import datasets

    found = [(name, installed(name) or "not installed") for name in PACKAGES]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none: networks run on the CPU"
    return {
        "machine": sorted(machine().items()) + [("gpu", gpu)] * ("gpu" not in machine()),
        "packages": found,
        "kernels": [("C compiler", compiler() or "none"), *((name, _kernel(name)) for name in neurons.names())],
        "data": [(name, _location(name)) for name in datasets.names()],
        "data roots": [(str(n + 1), str(root)) for n, root in enumerate(datasets.search_roots())],
        "settings": [(key, os.environ.get(key, "not set")) for key in ("STEP_DATA", "STEP_CACHE", "STEP_KERNELS")],
    }
