"""Neurons and surrogate gradients: a scientist writes one time step, everything else follows from it.

>>> import torch, neurons
>>> lif = neurons.create("lif", tau=2.0)
>>> lif(torch.ones(4, 1, 3)).shape        # [T, B, ...] -> [T, B, ...], from rest
torch.Size([4, 1, 3])
"""

from neurons.base import Neuron, NeuronFactory, SpikingNeuron, State, factory, neurons
from neurons.conventional import QuantisedReLU, ReLU
from neurons.cost import update_cost
from neurons.integrate_and_fire import IF, LIF, PLIF
from neurons.surrogate import Surrogate, as_surrogate, surrogates

register = neurons.register
create = neurons.create
names = neurons.names
describe = neurons.describe

__all__ = [
    "IF", "LIF", "PLIF", "Neuron", "NeuronFactory", "QuantisedReLU", "ReLU", "SpikingNeuron", "State", "Surrogate",
    "as_surrogate", "create", "describe", "factory", "names", "register", "surrogates", "update_cost",
]  # fmt: skip
