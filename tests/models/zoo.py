"""What tests over all registered models need: names, tiny networks, inputs. A model joins by being registered."""

import torch
from restate import alive

from step import models

CLASSES = 10
NAMES = [name for name in models.names() if "digits" in models.models.get(name).Config.SIZES]
SPIKING = [name for name in NAMES if not models.models.get(name).conventional]
CASES = [
    (name, neuron)
    for name in NAMES
    for neuron in (("lif",) if name in SPIKING else ("gelu", {"name": "quantised_relu", "bits": 4}))
]
"""Every model with a neuron that it takes; those without time with an activation of reals and one of codes."""


def options(name, T=4, **more):
    """Options of a tiny network for T steps."""
    fields = models.models.get(name).Config.model_fields
    return {"size": "digits", **({"T": T} if "T" in fields else {}), **more}


def network(name, neuron="lif", T=4, seed=0, **more):
    """A tiny network in eval mode whose norms keep it alive."""
    return alive(name, neuron, seed, **options(name, T, **more))


def images(T=4, B=3, *, channels=1, size=8, seed=0, dtype=torch.float32):
    """Images of noise, different in every step so that no step can stand for another."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(T, B, channels, size, size, generator=generator, dtype=torch.float64).to(dtype)


def has_depth(name):
    """The field that says how deep a model is, a number or one for each stage."""
    fields = models.models.get(name).Config.model_fields
    return next(field for field in ("depth", "depths") if field in fields)
