"""Penalties on what happens inside a network: layers offer them, and whoever trains collects them for the loss.

>>> import torch
>>> from neurons import penalties
>>> with penalties.collected() as terms:
...     penalties.add("activity", torch.tensor(0.5))
>>> terms
[('activity', tensor(0.5000))]
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

from neurons.errors import ShapeError

_terms: ContextVar[list[tuple[str, Tensor]] | None] = ContextVar("penalties", default=None)


@contextmanager
def collected() -> Iterator[list[tuple[str, Tensor]]]:
    """Collect the penalties that layers add in this context: names and scalars, in the order in which they come.

    A context inside another collects for itself; the outer one sees none of its terms.
    """
    terms: list[tuple[str, Tensor]] = []
    token = _terms.set(terms)
    try:
        yield terms
    finally:
        _terms.reset(token)


def collecting() -> bool:
    """Whether anybody collects, so that a penalty is worth working out."""
    return _terms.get() is not None


def add(name: str, value: Tensor) -> None:
    """Add a term to the loss; nothing where nobody collects.

    Parameters
    ----------
    name : str
        What is penalised.
    value : Tensor, scalar
        The term as it goes into the loss, its weight included.

    Raises
    ------
    ShapeError
        When the value is not one number.
    """
    terms = _terms.get()
    if terms is None:
        return
    if value.dim():
        raise ShapeError(f"penalty {name!r} must be one number, not a tensor {list(value.shape)}")
    terms.append((name, value))
