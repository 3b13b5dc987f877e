"""Which kind of kernel runs on which device: one word."""

from __future__ import annotations

import functools
import os
from importlib.util import find_spec
from typing import Literal

import torch

from neurons.errors import OptionError

Word = Literal["triton", "c", "eager"]

WORDS: tuple[Word, ...] = ("triton", "c", "eager")


def asked() -> Word | None:
    """Return the word that ``STEP_KERNELS`` asks for, or None when it leaves the choice to us.

    Raises
    ------
    OptionError
        When the variable holds another word.
    """
    word = os.environ.get("STEP_KERNELS") or None
    if word is None:
        return None
    for known in WORDS:
        if word == known:
            return known
    raise OptionError(f"STEP_KERNELS is 'triton', 'c' or 'eager', not {word!r}")


def choose(device: torch.device) -> tuple[Word, str]:
    """Return the word for a device and, when that is ``"eager"``, why.

    Whether the C compiler is there and works is seen when it is called.
    """
    word = asked()
    if word == "eager":
        return "eager", "STEP_KERNELS=eager asks for the eager loop"
    if device.type == "cpu":
        if word != "triton":
            return "c", ""
        if not interpreted():
            return "eager", "STEP_KERNELS=triton, and on the CPU that needs Triton's interpreter (TRITON_INTERPRET=1)"
    elif device.type != "cuda":  # the word of torch for the GPUs of AMD too
        return "eager", f"there are no kernels for {device.type}"
    elif word == "c":
        return "eager", "STEP_KERNELS=c, and these kernels run on the CPU only"
    return ("triton", "") if installed() else ("eager", "Triton is not installed")


def built(device: torch.device) -> Word:
    """Return the kind of kernel that stands for an operator on a device, whatever the neuron would choose.

    A captured graph holds the operator, so that there is no eager loop left to run.
    """
    if device.type == "cuda" or (asked() == "triton" and interpreted()):
        return "triton"
    return "c"


def interpreted() -> bool:
    """Whether Triton kernels run in Triton's interpreter, on the CPU."""
    return os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "on", "y", "yes")


@functools.cache
def installed() -> bool:
    """Whether Triton can be imported."""
    return find_spec("triton") is not None
