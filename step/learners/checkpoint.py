"""Checkpoints in one safetensors file: weights, optimiser state, and the few numbers that go with them."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from neurons.errors import DataError

Tensors = dict[str, Tensor]


def write(path: Path, tensors: Tensors, facts: dict[str, Any]) -> None:
    """Write tensors and JSON facts; a reader sees the old file or the new one, never half of one."""
    data = save({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, {"facts": json.dumps(facts)})
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def read(path: Path) -> tuple[Tensors, dict[str, Any]]:
    """Read what ``write`` wrote.

    Raises
    ------
    DataError
        When the file is not such a checkpoint.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, json.loads((file.metadata() or {})["facts"])
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise DataError(f"{path} is not a readable checkpoint ({error}); delete it to start that run anew") from None


def with_prefix(prefix: str, tensors: Tensors) -> Tensors:
    """Put ``prefix.`` before every name."""
    return {f"{prefix}.{name}": value for name, value in tensors.items()}


def without_prefix(prefix: str, tensors: Tensors) -> Tensors:
    """Take the tensors under ``prefix.``, by their names without it."""
    return {k.removeprefix(f"{prefix}."): v for k, v in tensors.items() if k.startswith(f"{prefix}.")}


def optimiser_tensors(network: nn.Module, optimiser: torch.optim.Optimizer) -> Tensors:
    """Flatten an optimiser's state to tensors named ``<parameter>/<entry>``."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in network.named_parameters()}
    return {
        f"{names[parameter]}/{entry}": torch.as_tensor(value)
        for parameter, entries in optimiser.state.items()
        for entry, value in entries.items()
    }


def restore_optimiser(network: nn.Module, optimiser: torch.optim.Optimizer, tensors: Tensors) -> None:
    """Put back what :func:`optimiser_tensors` took."""
    parameters = dict(network.named_parameters())
    for name, value in tensors.items():
        parameter, entry = name.rsplit("/", 1)
        like = parameters[parameter]
        # In the memory order of the parameter, as the optimiser made it: sums over it then have the same rounding.
        optimiser.state[like][entry] = torch.empty_like(like).copy_(value) if value.dim() else value
