"""Spike codes: an integer count unfolded into spikes over time, weight by weight (SpikingBrain, W8ASpike)."""

from __future__ import annotations

import torch
from torch import Tensor

from neurons.errors import DataError, OptionError

CODES = ("binary", "ternary", "bitwise", "bitwise-signed", "bitwise-twos-complement")


def expand(counts: Tensor, code: str = "bitwise-signed", *, steps: int | None = None) -> tuple[Tensor, Tensor]:
    """Unfold integers into spikes, so that counts = sum_t weights[t] spikes[t], exactly.

    ============================ ============ ============================= ==================================
    code                         values       steps when left out           spikes of a count n
    ============================ ============ ============================= ==================================
    ``binary``                   {0, 1}       max n                         n ones, then zeros; n >= 0 only
    ``ternary``                  {-1, 0, 1}   max abs n                     abs n times its sign, then zeros
    ``bitwise``                  {0, 1}       bits of max n                 its bits; n >= 0 only
    ``bitwise-signed``           {-1, 0, 1}   bits of max abs n             the bits of abs n times its sign
    ``bitwise-twos-complement``  {0, 1}       bits of max abs n, plus one   the bits of n in two's complement
    ============================ ============ ============================= ==================================

    Bits come highest first: step t weighs 2^(steps - 1 - t), the first one minus that in two's complement. There is
    at least one step, two in two's complement. Source: SpikingBrain technical report (arXiv 2509.05276), equations
    20 to 23, and the code released with it.

    Parameters
    ----------
    counts : Tensor
        Integers, of any shape and type.
    code : str
        One of the five codes.
    steps : int, optional
        Number of steps; as many as the largest count needs when left out.

    Returns
    -------
    spikes : Tensor, shape [steps, *counts.shape]
        Of the type of ``counts``.
    weights : Tensor, shape [steps]

    Raises
    ------
    OptionError
        When the code is unknown.
    DataError
        When a value is no integer, is negative where the code has no sign, or needs more steps.
    """
    if code not in CODES:
        raise OptionError(f"a spike code is one of {', '.join(CODES)}, not {code!r}")
    if counts.is_floating_point() and not torch.equal(counts, counts.round()):
        raise DataError("spike codes take integers; the counts hold fractions or values that are not finite")
    low, high = (int(counts.min()), int(counts.max())) if counts.numel() else (0, 0)
    if code in ("binary", "bitwise") and low < 0:
        raise DataError(f"the spike code {code!r} has no sign; the counts go down to {low}")
    largest = max(-low, high)
    needed = _steps(code, largest)
    steps = needed if steps is None else steps
    if steps < needed:
        raise DataError(f"the spike code {code!r} needs {needed} steps for a count of {largest}, not {steps}")
    t = torch.arange(steps, device=counts.device).view(-1, *[1] * counts.dim())
    whole = counts.to(torch.int64)
    if code in ("binary", "ternary"):
        spikes = whole.sign() * (t < whole.abs())
        weights = torch.ones(steps, device=counts.device)
    else:
        signed = code == "bitwise-signed"
        bits = ((whole.abs() if signed else whole) >> (steps - 1 - t)) & 1
        spikes = whole.sign() * bits if signed else bits
        weights = 2.0 ** torch.arange(steps - 1, -1, -1, device=counts.device)
        if code == "bitwise-twos-complement":
            weights[0] = -weights[0]
    return spikes.to(counts.dtype), weights.to(counts.dtype)


def firing_rate(spikes: Tensor) -> float:
    """Return the share of spikes, of either sign, among the steps of all neurons of [steps, ...]."""
    return float((spikes != 0).double().mean())


def _steps(code: str, largest: int) -> int:
    if code in ("binary", "ternary"):
        return max(1, largest)
    if code == "bitwise-twos-complement":
        return max(2, largest.bit_length() + 1)
    return max(1, largest.bit_length())
