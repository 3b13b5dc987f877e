"""Learning rules by name: how the gradients of a spiking network arise.

>>> from step import models
>>> from step.learners.continual import rules
>>> network = models.create("mlp", image_size=8, hidden=[32], neuron="lif")
>>> rule = rules.create("bptt", network, rules.protected_layers(network, shared_readout=True))
"""

from step.learners.continual.rules.base import (
    Loss,
    Projections,
    Result,
    Rule,
    protected_layers,
    readout_path,
    rules,
    synapses,
)
from step.learners.continual.rules.bptt import BPTT
from step.learners.continual.rules.dsr import DSR
from step.learners.continual.rules.feedback import FeedbackAlignment, SignSymmetric
from step.learners.continual.rules.ottt import OTTT

register = rules.register
create = rules.create
names = rules.names
options = rules.options
describe = rules.describe

__all__ = [
    "BPTT", "DSR", "OTTT", "FeedbackAlignment", "Loss", "Projections", "Result", "Rule", "SignSymmetric", "create",
    "describe", "names", "options", "protected_layers", "readout_path", "register", "rules", "synapses",
]  # fmt: skip
