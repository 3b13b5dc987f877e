"""What a check says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["yes", "no", "not applicable", "measured"]


@dataclass(frozen=True)
class Result:
    """The outcome of one check.

    Parameters
    ----------
    name : str
        Of the check, a few words.
    verdict : {"yes", "no", "not applicable", "measured"}
        ``measured`` is a number that is neither right nor wrong.
    finding : str
        What was seen, in one line; after a "no" also where, and what would be right.
    required : bool
        Whether a "no" is a fault. It is not where a neuron has the choice: not every one need compile.
    """

    name: str
    verdict: Verdict
    finding: str
    required: bool = True

    @property
    def failed(self) -> bool:
        """Whether something is wrong with the neuron."""
        return self.required and self.verdict == "no"
