"""Components that an option names: checked and filled with their defaults when a spec is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import BeforeValidator

from neurons.errors import StepError
from step.learners.continual.subspaces import Subspace, subspaces
from step.models.transformer.parts import build, options_of_part

_GIVEN = ("n", "generator", "device")
"""What the method itself hands to a subspace learner."""


def _subspace(value: Any) -> dict[str, Any]:
    part = options_of_part(subspaces, _GIVEN, value)
    try:
        new_subspace(part, 4, torch.Generator(), torch.device("cpu"))  # cheap: a value outside its domain fails here
    except (StepError, TypeError) as error:
        raise ValueError(str(error)) from None
    return part


SubspacePart = Annotated[dict[str, Any], BeforeValidator(_subspace)]
"""Field of a config: name of a subspace learner, or a mapping with a name and options; defaults are filled in."""


def new_subspace(
    part: Mapping[str, Any], n: int, generator: torch.Generator, device: torch.device, **more: Any
) -> Subspace:
    """Make the subspace learner of a layer with ``n`` inputs."""
    found: Subspace = build(subspaces, {**part, **more}, n=n, generator=generator, device=device)
    return found
