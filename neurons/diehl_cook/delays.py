"""Delays of the input: how long a spike travels to each group of neurons.

The published network draws a delay for each synapse. What that does is not to move the onset of an image: without
delays a spike reaches all neurons at once, chance fluctuations of the input meet all of them together, several fire in
the half millisecond that inhibition takes, and a trained module answers with three quarters more spikes. Delays of each
input to each group of 16 neurons, a vector of the processor, take this away as well as those of each synapse do (26.1
and 25.2 spikes of an image, standard error 0.4; 44.9 without delays). They are the same in all modules.
"""

from __future__ import annotations

import torch
from torch import Tensor

from neurons.diehl_cook.constants import Constants
from neurons.diehl_cook.raster import keys
from neurons.errors import OptionError

GROUP = 16
"""Neurons that an input spike reaches at the same time; rows of weights are padded to a multiple of this."""
MOST = 255
_DELAYS = 4


def delays(inputs: int, neurons: int, constants: Constants, dt: float) -> Tensor:
    """Return the delay of each input to each group of 16 neurons in steps, uint8 [inputs, groups].

    Raises
    ------
    OptionError
        For delays of more than 255 steps.
    """
    most = constants.delay / dt
    if round(most) > MOST:
        raise OptionError(f"delay must be at most {MOST * dt:g} ms with time steps of {dt:g} ms, not {constants.delay}")
    word = keys(0, _DELAYS, torch.arange(inputs)[:, None], torch.arange(-(-neurons // GROUP))[None])
    uniform = (word >> 11 & (1 << 53) - 1).to(torch.float64) * 2.0**-53
    return (uniform * most).round().to(torch.uint8)
