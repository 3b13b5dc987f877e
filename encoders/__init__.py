"""Encoders: data in [0, 1] to spikes or currents over T time steps.

>>> import torch, encoders
>>> x = torch.tensor([[0.0, 0.5, 1.0]])            # one sample of three values, [B, ...]
>>> encoders.create("latency", amplitude="one")(x, T=2)[:, 0]
tensor([[0., 0., 1.],
        [0., 1., 0.]])
"""

from encoders.base import Encoder, encoders
from encoders.direct import Direct
from encoders.latency import Latency
from encoders.phase import Phase
from encoders.rate import Rate
from encoders.sequence import Sequence
from encoders.standardised import Standardised
from encoders.view import View

register = encoders.register
create = encoders.create
names = encoders.names
describe = encoders.describe

__all__ = [
    "Direct",
    "Encoder",
    "Latency",
    "Phase",
    "Rate",
    "Sequence",
    "Standardised",
    "View",
    "create",
    "describe",
    "encoders",
    "names",
    "register",
]
