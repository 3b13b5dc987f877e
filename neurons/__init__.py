"""Neurons and surrogate gradients: a scientist writes one time step, everything else follows from it.

>>> import torch, neurons
>>> lif = neurons.create("lif", tau=2.0)
>>> lif(torch.ones(4, 1, 3)).shape        # [T, B, ...] -> [T, B, ...], from rest
torch.Size([4, 1, 3])
"""

from neurons import (  # noqa: F401  (they register)
    spike_codes,
    surrogate_bells,
    surrogate_one_sided,
    surrogate_stochastic,
    surrogate_waves,
)
from neurons.adaptive import ALIF
from neurons.base import Neuron, NeuronFactory, SpikingNeuron, State, factory, neurons, neurons_in
from neurons.biophysical import ConductanceLIF, HodgkinHuxley, Izhikevich
from neurons.compartments import TCLIF
from neurons.conventional import GELU, Identity, Quantised, QuantisedReLU, ReLU
from neurons.cost import leaky, update_cost
from neurons.dsr import DSRIF, DSRLIF, RateNeuron
from neurons.elm import ELM, BranchELM, ELMPopulation, ModifiedELM
from neurons.experts import HDLIF
from neurons.gated import CLIF, GLIF
from neurons.integer import IntegerLIF, NormalisedIntegerLIF, SpikeFiringApproximationLIF, SpikingBrain, TernaryLIF
from neurons.integrate_and_fire import IF, LIF, PLIF
from neurons.nonlinear import EIF, KLIF, QIF
from neurons.parallel import PSN, MaskedPSN, SlidingPSN
from neurons.recurrent import DenseRecurrentLIF, RecurrentLIF
from neurons.resonate import HarmonicResonateAndFire, ResonateAndFire
from neurons.surrogate import Surrogate, as_surrogate, surrogates
from neurons.synaptic import CUBA, Alpha, Lapicque, LeakyIntegrator

register = neurons.register
create = neurons.create
names = neurons.names
describe = neurons.describe

__all__ = [
    "ALIF", "CLIF", "CUBA", "DSRIF", "DSRLIF", "EIF", "ELM", "GELU", "GLIF", "HDLIF", "IF", "KLIF", "LIF", "PLIF",
    "PSN", "QIF", "TCLIF", "Alpha", "BranchELM", "ConductanceLIF", "DenseRecurrentLIF", "ELMPopulation",
    "HarmonicResonateAndFire", "HodgkinHuxley", "Identity", "IntegerLIF", "Izhikevich", "Lapicque", "LeakyIntegrator",
    "MaskedPSN", "ModifiedELM", "Neuron", "NeuronFactory", "NormalisedIntegerLIF", "Quantised", "QuantisedReLU",
    "RateNeuron", "ReLU", "RecurrentLIF", "ResonateAndFire", "SlidingPSN", "SpikeFiringApproximationLIF",
    "SpikingBrain", "SpikingNeuron", "State", "Surrogate", "TernaryLIF", "as_surrogate", "create", "describe",
    "factory", "leaky", "names", "neurons_in", "register", "spike_codes", "surrogates", "update_cost",
]  # fmt: skip
