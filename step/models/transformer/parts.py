"""Parts of a transformer that a config names: attentions and patch embeddings."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator

from neurons.errors import StepError
from neurons.registry import Registry, name_and_options
from step.models.transformer.attention import attentions
from step.models.transformer.embedding import embeddings

# What the network itself hands to a part; everything else in a signature is an option.
_ATTENTION = ("dim", "heads", "neuron", "grid", "residual")
_EMBEDDING = ("channels", "dim", "image_size", "pools", "neuron", "residual")


def options_of_part(registry: Registry[Any], fixed: Iterable[str], value: Any) -> dict[str, Any]:
    """Return ``{"name": ..., <all options with their values>}`` for a part that is named in a config.

    Raises
    ------
    ValueError
        An unknown name or option, as pydantic wants it.
    """
    try:
        name, given = name_and_options(value, registry.kind)
        known = {key: p for key, p in registry.options(name).items() if key not in tuple(fixed)}
        for option in given:
            if option not in known:
                raise StepError(registry.no_option(name, option))
    except StepError as error:
        raise ValueError(str(error)) from None
    missing = [key for key, p in known.items() if p.default is inspect.Parameter.empty and key not in given]
    if missing:
        raise ValueError(f"{registry.kind} {name!r} needs {missing[0]!r}")
    return {"name": name, **{key: given.get(key, p.default) for key, p in known.items()}}


AttentionPart = Annotated[dict[str, Any], BeforeValidator(lambda value: options_of_part(attentions, _ATTENTION, value))]
"""Field of a config: name of an attention, or a mapping with a name and options; defaults are filled in."""

EmbeddingPart = Annotated[dict[str, Any], BeforeValidator(lambda value: options_of_part(embeddings, _EMBEDDING, value))]
"""Field of a config: name of a patch embedding, or a mapping with a name and options; defaults are filled in."""


def build(registry: Registry[Any], part: Mapping[str, Any], **fixed: Any) -> Any:
    """Make a part from its field in a config and what the network hands over."""
    name, options = name_and_options(part, registry.kind)
    return registry.create(name, **fixed, **options)
