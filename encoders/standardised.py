"""Direct encoding of standardised values."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from encoders.base import Encoder, Value, encoders
from neurons.errors import OptionError, ShapeError


@encoders.register("standardised")
class Standardised(Encoder):
    """Standardised: the value less the mean, by the standard deviation, at every time step, S_t = (x - mean) / sd.

    Data sets stay in [0, 1], so that they suit every encoder; networks that are trained on input of mean 0 and standard
    deviation 1 get it here, with constants of the training split. As with ``direct``, the first layer of the network is
    the encoder, and the output is a view with stride 0 over time.

    Parameters
    ----------
    mean, sd : float or list of float
        One for all values, or one for each channel of images [B, C, H, W]. The defaults bring [0, 1] to [-1, 1].

    Raises
    ------
    OptionError
        When a number is not finite, a standard deviation is not positive, or the two lists differ in length.
    """

    value: Value = "real"
    repeats = True

    def __init__(self, mean: float | list[float] = 0.5, sd: float | list[float] = 0.5) -> None:
        means, sds = _listed(mean), _listed(sd)
        if not means or not all(math.isfinite(each) for each in means):
            raise OptionError(f"mean must be a finite number, or one for each channel, not {mean}")
        if not sds or not all(0 < each < math.inf for each in sds):
            raise OptionError(f"sd must be a positive number, or one for each channel, not {sd}")
        if len(means) != len(sds) and 1 not in (len(means), len(sds)):
            raise OptionError(f"mean and sd must have as many channels, not {len(means)} and {len(sds)}")
        self.mean = mean
        self.sd = sd

    def encode(self, x: Tensor, T: int, generator: torch.Generator | None) -> Tensor:
        standard = (x - self._per_channel(self.mean, x)) / self._per_channel(self.sd, x)
        return standard.unsqueeze(0).expand(T, *x.shape)

    def _per_channel(self, number: float | list[float], x: Tensor) -> Tensor:
        values = x.new_tensor(_listed(number))
        if len(values) == 1:
            return values
        if x.dim() < 2 or x.shape[1] != len(values):
            raise ShapeError(f"Standardised has {len(values)} channels, but samples are [B, C, ...] = {list(x.shape)}")
        return values.view(1, -1, *(1,) * (x.dim() - 2))


def _listed(number: float | list[float]) -> list[float]:
    return [float(each) for each in number] if isinstance(number, list) else [float(number)]
