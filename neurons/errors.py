"""Errors a user can cause, each with a message of one line that says what would be right."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class StepError(Exception):
    """Base of every error that STEP raises for wrong input; the command line prints it without a trace."""


class UnknownNameError(StepError, KeyError):
    """A name that no registry knows; the message lists the nearest known ones."""

    def __str__(self) -> str:
        return str(self.args[0])


class OptionError(StepError, ValueError):
    """An option that a component does not have, or a value outside its domain."""


class ShapeError(StepError, ValueError):
    """A tensor whose shape or type does not fit."""


class DataError(StepError):
    """A data set that is missing, truncated or altered."""


def suggest(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'lif'?"`` for near names, else the list of known ones."""
    known = sorted(known)
    near = get_close_matches(word, known, n=3, cutoff=0.55)
    if near:
        return "; did you mean " + " or ".join(repr(name) for name in near) + "?"
    return "; known: " + (", ".join(known) if known else "none")
