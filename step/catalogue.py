"""What ``step list`` and ``step doctor`` show."""

from __future__ import annotations

import importlib
import inspect
import json
import os
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

import neurons
from neurons import adapters
from neurons.errors import DataError, UnknownNameError, suggest
from step.machine import PACKAGES, compiler, devices, installed, machine
from step.suite import suite_names

_REGISTRIES = {
    "neurons": "neurons:neurons",
    "surrogates": "neurons.surrogate:surrogates",
    "encoders": "encoders:encoders",
    "datasets": "benchmarks.datasets:datasets",
    "models": "step.models:models",
    "attentions": "step.models.transformer.attention:attentions",
    "embeddings": "step.models.transformer.embedding:embeddings",
    "learners": "step.learners:learners",
    "recipes": "step.learners:recipes",
    "methods": "step.learners.continual.methods:methods",
    "rules": "step.learners.continual.rules:rules",
    "subspaces": "step.learners.continual.subspaces:subspaces",
    "protocols": "benchmarks.protocols:protocols",
    "energy": "energy:energy_models",
}
"""Where the names of a kind are, and what stands behind them."""


def _registry(kind: str) -> Any:
    module, _, attribute = _REGISTRIES[kind].partition(":")
    return getattr(importlib.import_module(module), attribute)


def rows(kind: str) -> list[tuple[str, str]]:
    """Return ``(name, one-line description)`` of everything of a kind."""
    if kind == "suites":
        return [(name, _suite(name, "title")) for name in suite_names()]
    registry = _registry(kind)
    found = [(name, registry.describe(name)) for name in registry.names()]
    if kind == "neurons":
        found += [(f"{library}:CLASS", text) for library, text in adapters.LIBRARIES.items()]
    return found


def about(kind: str, name: str) -> str:
    """Return all that is written about one name of a kind.

    Raises
    ------
    UnknownNameError
        With the nearest known names.
    """
    if kind == "suites":
        if name not in suite_names():
            raise UnknownNameError(f"unknown suite {name!r}{suggest(name, suite_names())}")
        return f"{_suite(name, 'title')}\n\n{_suite(name, 'description')}".strip()
    found = _registry(kind).get(name)
    if kind == "recipes":
        values = "\n".join(f"{option}: {value}" for option, value in found.values.items())
        return f"From {found.source}.\n\n{values}" + (f"\n\nUnsure: {found.unsure}." if found.unsure else "")
    text = inspect.getdoc(found) or "It has no description."
    fields = found.Config.model_fields if kind == "methods" else {}
    options = [f"{o}: {_default(f)}" for o, f in fields.items()]
    return "\n".join([text, *(["", "Options and their defaults:", "", *options] if options else [])])


def _default(field: Any) -> str:
    return "needed" if field.is_required() else json.dumps(field.get_default(), default=str)


def _suite(name: str, key: str) -> str:
    text = (Path(str(resources.files("benchmarks"))) / "suites" / f"{name}.yaml").read_text(encoding="utf-8")
    return str(yaml.safe_load(text).get(key, ""))


_MEANING = {"c": "c: one fused loop over time", "triton": "triton: one fused loop over time, on the GPU"}


def _kernel(name: str, device: str) -> str:
    """Return the word for what runs a neuron on a device, and what it means or why it is not another."""
    from neurons.compiler import backend, why_not

    try:
        reason = why_not(neurons.create(name).to(device), device=device)
    except TypeError:
        return "unknown: it needs options of its own"
    return _MEANING[backend(device)] if reason is None else f"eager: {reason}"


def _kernels() -> list[tuple[str, str]]:
    found = [("C compiler", compiler() or "none"), ("Triton", installed("triton") or "none")]
    for device in devices():
        of = "" if device == "cpu" else f" ({device})"
        found += [(f"{name}{of}", _kernel(name, device)) for name in neurons.names()]
    return found


def _location(name: str) -> str:
    from benchmarks import datasets

    try:
        found = datasets.where(name)
    except DataError as error:
        return f"not here; {str(error).rpartition('; ')[2]}"
    return "comes with an installed package" if found is None else str(found)


def diagnosis() -> dict[str, list[tuple[str, str]]]:
    """Return sections of ``(name, finding)``."""
    import torch

    from benchmarks import datasets

    found = [(name, installed(name) or "not installed") for name in PACKAGES]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none: networks run on the CPU"
    return {
        "machine": sorted(machine().items()) + [("gpu", gpu)] * ("gpu" not in machine()),
        "packages": found,
        "kernels": _kernels(),
        "data": [(name, _location(name)) for name in datasets.names()],
        "data roots": [(str(n + 1), str(root)) for n, root in enumerate(datasets.search_roots())],
        "settings": [(key, os.environ.get(key, "not set")) for key in ("STEP_DATA", "STEP_CACHE", "STEP_KERNELS")],
    }
