"""Events from frames: what an event camera would send of a film, simulated.

>>> import torch
>>> from encoders.events import counts, esim
>>> film = torch.linspace(0, 1, 11)[:, None, None]          # log intensity [T, H, W] of one pixel that brightens
>>> events = esim(film, torch.arange(11) * 1000, threshold=0.3)
>>> events.t.tolist(), events.p.tolist()                    # microseconds, polarity
([3000, 6000, 9000], [1, 1, 1])
>>> counts(events, bins=2, height=1, width=1, start=0, end=10_000).flatten().tolist()
[1, 2]
"""

from encoders.events.esim import esim
from encoders.events.stream import Events, counts
from encoders.events.v2e import PRESETS, V2E, v2e

__all__ = ["PRESETS", "V2E", "Events", "counts", "esim", "v2e"]
