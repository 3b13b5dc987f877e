"""Expressive leaky memory (ELM) neurons: one recurrent neuron with synapses, branches, a perceptron and memory.

>>> import torch, neurons
>>> elm = neurons.create("elm", features=3, outputs=2, readout="real")
>>> elm(torch.ones(4, 1, 3)).shape        # [T, B, features] -> [T, B, outputs], from rest
torch.Size([4, 1, 2])
"""

from neurons.elm.base import LeakyMemory
from neurons.elm.cell import ELM, BranchELM
from neurons.elm.checkpoint import from_checkpoint, load, save
from neurons.elm.modified import ModifiedELM
from neurons.elm.population import ELMPopulation

__all__ = ["ELM", "BranchELM", "ELMPopulation", "LeakyMemory", "ModifiedELM", "from_checkpoint", "load", "save"]
