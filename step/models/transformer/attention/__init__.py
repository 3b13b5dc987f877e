"""Attentions of spiking transformers, one file for each paper, by name."""

from step.models.transformer.attention.a2os2a import AdditionOnlyAttention
from step.models.transformer.attention.base import Attention, Grid, attentions
from step.models.transformer.attention.bsa import BipolarSelfAttention
from step.models.transformer.attention.dssa import DualSpikeSelfAttention
from step.models.transformer.attention.emsa import ExpertsMixtureAttention
from step.models.transformer.attention.esdsa import EfficientSpikeDrivenSelfAttention
from step.models.transformer.attention.local import LocalSelfAttention
from step.models.transformer.attention.mssa import MultiScaleSpikingAttention
from step.models.transformer.attention.qk import QKAttention
from step.models.transformer.attention.sdsa import SpikeDrivenSelfAttention
from step.models.transformer.attention.sdsa3 import SpikeDrivenSelfAttention3
from step.models.transformer.attention.softmax import SoftmaxAttention
from step.models.transformer.attention.ssa import SpikingSelfAttention, attention_product
from step.models.transformer.attention.statten import SpatialTemporalAttention
from step.models.transformer.attention.wavelet import FrequencyAwareTokenMixer
from step.models.transformer.attention.xnor import AlphaXNORAttention

__all__ = [
    "AdditionOnlyAttention", "AlphaXNORAttention", "Attention", "BipolarSelfAttention", "DualSpikeSelfAttention",
    "EfficientSpikeDrivenSelfAttention", "ExpertsMixtureAttention", "FrequencyAwareTokenMixer", "Grid",
    "LocalSelfAttention", "MultiScaleSpikingAttention", "QKAttention",
    "SoftmaxAttention", "SpatialTemporalAttention", "SpikeDrivenSelfAttention", "SpikeDrivenSelfAttention3",
    "SpikingSelfAttention", "attention_product", "attentions",
]  # fmt: skip
