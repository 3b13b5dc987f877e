"""Input spikes: which inputs spike at which time step, drawn so that every spike depends on its own number only.

The gap before the n-th spike of an input is drawn from a hash of key, input and n (SplitMix64, Steele, Lea and Flood
2014), so that the spikes of an image are the same whatever else is drawn, on every thread and in every simulator. The
C of :mod:`neurons.diehl_cook.source` computes the same numbers, operation for operation.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurons.diehl_cook.constants import FINE, Constants
from neurons.errors import OptionError, ShapeError

GOLDEN = 0x9E3779B97F4A7C15
_MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_WORD = (1 << 64) - 1
LOG_SERIES = 5
"""Terms of the series of the logarithm after the first: error below 1e-10."""


class Raster(NamedTuple):
    """Input spikes in the order of time.

    Attributes
    ----------
    first : array of int32, shape [steps + 1]
        Where the spikes of each step begin in ``inputs``.
    inputs : array of uint16, shape [spikes]
        Which inputs spike; ascending within a step.
    """

    first: NDArray[np.int32]
    inputs: NDArray[np.uint16]

    @property
    def steps(self) -> int:
        """Number of time steps."""
        return len(self.first) - 1

    def at(self, step: int) -> NDArray[np.uint16]:
        """Return the inputs that spike at a step."""
        return self.inputs[self.first[step] : self.first[step + 1]]


def poisson_rates(images: Tensor, constants: Constants | None = None) -> Tensor:
    """Return the rates of the inputs in Hz, 255 * value / 4, for values in [0, 1] of any shape.

    Raises
    ------
    OptionError
        For values that are not in [0, 1].
    """
    if images.numel() and not bool(((images >= 0) & (images <= 1)).all()):
        raise OptionError("images must lie in [0, 1]: they are rates of input spikes, 1 for the highest")
    return images.to(torch.float64) * (constants or Constants()).full_rate


def poisson(rates: Tensor, key: int, *, steps: int, dt: float = FINE) -> Raster:
    """Draw the spikes of one image: at each step an input spikes with probability rate * dt.

    Parameters
    ----------
    rates : Tensor, shape [inputs]
        Hz.
    key : int
        Says which of all possible rasters: see :func:`key_of`.
    steps : int
    dt : float
        Time step in ms.

    Raises
    ------
    ShapeError, OptionError
    """
    if rates.dim() != 1 or not 0 < len(rates) < 1 << 16:
        raise ShapeError(f"rates are one for each of up to 65535 inputs, not {list(rates.shape)}")
    chance = rates.to(torch.float64).numpy() * (dt / 1000.0)
    if not ((chance >= 0) & (chance < 1)).all():
        raise OptionError(f"rates must be at least 0 and below {1000.0 / dt:g} Hz for time steps of {dt:g} ms")
    return drawn(chance, key, steps)


def drawn(chance: NDArray[np.float64], key: int, steps: int) -> Raster:
    """Draw the spikes of inputs that spike with these probabilities at each step."""
    live = np.flatnonzero(chance > 0)
    found_t, found_i = [], []
    # log1p of the C library differs by platform in the last bit; this one series does not
    scale = 1.0 / _log(1.0 - chance[live])
    stream = _mixed(np.uint64(key) ^ ((live.astype(np.uint64) + np.uint64(1)) * np.uint64(GOLDEN)))
    at = np.full(len(live), -1, np.int64)
    n = 0
    while len(live):
        n += 1
        word = _mixed(stream + np.uint64(n * GOLDEN & _WORD))
        uniform = ((word >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
        gap = _log(uniform) * scale
        at = at + 1 + np.minimum(gap, float(steps)).astype(np.int64)
        going = at < steps
        live, scale, stream, at = live[going], scale[going], stream[going], at[going]
        found_t.append(at)
        found_i.append(live)
    times = np.concatenate(found_t) if found_t else np.zeros(0, np.int64)
    inputs = np.concatenate(found_i) if found_i else np.zeros(0, np.int64)
    order = np.lexsort((inputs, times))
    first = np.zeros(steps + 1, np.int32)
    first[1:] = np.bincount(times, minlength=steps).cumsum()
    return Raster(first, inputs[order].astype(np.uint16))


def key_of(seed: int, *numbers: int) -> int:
    """Return a key of 64 bits from a seed and numbers such as those of a module and a presentation."""
    key = seed & _WORD
    for number in numbers:
        key = mix((key + GOLDEN) ^ mix(number * GOLDEN + 1))
    return key


def mix(word: int) -> int:
    """Return the finaliser of SplitMix64 of a word."""
    word &= _WORD
    word = ((word ^ (word >> 30)) * _MIX[0]) & _WORD
    word = ((word ^ (word >> 27)) * _MIX[1]) & _WORD
    return word ^ (word >> 31)


def _mixed(word: NDArray[np.uint64]) -> NDArray[np.uint64]:
    word = (word ^ (word >> np.uint64(30))) * np.uint64(_MIX[0])
    word = (word ^ (word >> np.uint64(27))) * np.uint64(_MIX[1])
    return word ^ (word >> np.uint64(31))


def _log(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithm by operations that round alike everywhere: log x = e log 2 + 2 artanh s, for positive normal x."""
    bits = x.view(np.int64)
    # mantissa between sqrt(1/2) and sqrt(2), so that numbers next to 1 keep their digits
    exponent = (bits - 0x3FE6A09E667F3BCD) >> 52
    mantissa = (bits - (exponent << 52)).view(np.float64)
    s = (mantissa - 1.0) / (mantissa + 1.0)
    square = s * s
    total = np.full_like(s, 1.0 / (2 * LOG_SERIES + 1))
    for n in range(LOG_SERIES - 1, -1, -1):
        total = total * square + 1.0 / (2 * n + 1)
    return exponent.astype(np.float64) * math.log(2.0) + 2.0 * s * total


def keys(seed: int, *numbers: int | Tensor) -> Tensor:
    """Return :func:`key_of` for all of some numbers, int64 (the bits of uint64), of the shape they broadcast to."""
    arrays = np.broadcast_arrays(*(np.asarray(n.numpy() if isinstance(n, Tensor) else n, np.int64) for n in numbers))
    key = np.full(arrays[0].shape, seed & _WORD, np.uint64)
    golden = np.uint64(GOLDEN)
    with np.errstate(over="ignore"):
        for number in arrays:
            key = _mixed((key + golden) ^ _mixed(number.astype(np.uint64) * golden + np.uint64(1)))
    return torch.from_numpy(key.view(np.int64).copy())
