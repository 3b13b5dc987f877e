"""Networks by name.

>>> from step import models
>>> network = models.create("spikformer", image_size=8, channels=1, dim=64, depth=2, heads=4, neuron="lif")
"""

from step.models.base import Network, NetworkConfig, NetworkState, create, models
from step.models.cnn import CNN
from step.models.mlp import MLP
from step.models.transformer.spikformer import Spikformer

register = models.register
names = models.names
describe = models.describe

__all__ = [
    "CNN", "MLP", "Network", "NetworkConfig", "NetworkState", "Spikformer", "create", "describe", "models", "names",
    "register",
]  # fmt: skip
