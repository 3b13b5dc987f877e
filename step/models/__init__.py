"""Networks by name.

>>> from step import models
>>> network = models.create("spikformer", image_size=8, channels=1, dim=64, depth=2, heads=4, neuron="lif")
"""

from step.models.base import Network, NetworkConfig, NetworkState, create, models
from step.models.cnn import CNN
from step.models.mlp import MLP
from step.models.sequence.causal_transformer import CausalTransformer
from step.models.sequence.elm import ELM
from step.models.sequence.elm_network import ELMNetwork
from step.models.sequence.glm import GLM
from step.models.sequence.gru import GRU
from step.models.sequence.lstm import LSTM
from step.models.sequence.recurrent_snn import RecurrentSNN
from step.models.sequence.ssm import DiagonalSSM
from step.models.sequence.tcn import TCN
from step.models.spiking_resnet import SpikingResNet
from step.models.transformer.espikeformer import ESpikeFormer
from step.models.transformer.maxformer import MaxFormer
from step.models.transformer.metaspikeformer import MetaSpikeFormer
from step.models.transformer.msvit import MSViT
from step.models.transformer.qkformer import QKFormer
from step.models.transformer.sdt import SDT
from step.models.transformer.semm import SEMM
from step.models.transformer.sglformer import SGLFormer
from step.models.transformer.spikformer import Spikformer
from step.models.transformer.spikingformer import Spikingformer
from step.models.transformer.spikingresformer import SpikingResformer
from step.models.transformer.statten import STAtten
from step.models.transformer.swformer import SWFormer
from step.models.transformer.vit import VisionTransformer

register = models.register
names = models.names
describe = models.describe

__all__ = [
    "CNN", "ELM", "GLM", "GRU", "LSTM", "MLP", "SDT", "SEMM", "TCN", "CausalTransformer", "DiagonalSSM",
    "ELMNetwork", "ESpikeFormer", "MSViT", "MaxFormer", "MetaSpikeFormer", "Network", "NetworkConfig",
    "NetworkState", "QKFormer", "RecurrentSNN", "SGLFormer", "STAtten", "SWFormer", "Spikformer",
    "SpikingResNet", "SpikingResformer", "Spikingformer", "VisionTransformer", "create", "describe", "models", "names",
    "register",
]  # fmt: skip
