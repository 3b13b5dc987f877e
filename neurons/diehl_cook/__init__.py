"""Modules of Diehl and Cook: excitatory neurons that compete for images and learn them by spike timing.

>>> import torch
>>> from neurons.diehl_cook import Modules
>>> places = torch.rand(5, 784, generator=torch.Generator().manual_seed(0))
>>> modules = Modules(2, 784, neurons=50)
>>> modules.train(places, torch.tensor([[0, 1], [2, 3]]), seed=0)      # each module sees images of its own
>>> modules.respond(places, seed=1).shape                              # spikes [images, modules, neurons]
torch.Size([5, 2, 50])
"""

from neurons.diehl_cook.constants import STEPS, Constants
from neurons.diehl_cook.modules import Modules
from neurons.diehl_cook.raster import Raster, key_of, poisson, poisson_rates
from neurons.diehl_cook.reference import Reference

__all__ = ["STEPS", "Constants", "Modules", "Raster", "Reference", "key_of", "poisson", "poisson_rates"]
