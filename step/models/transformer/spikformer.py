"""Spikformer: When Spiking Neural Network Meets Transformer (Zhou et al., ICLR 2023)."""

from __future__ import annotations

from torch import nn

from neurons import NeuronFactory
from step.models.base import models
from step.models.layers import initialise
from step.models.paper import Paper, Published
from step.models.transformer.base import TINY, Transformer, TransformerConfig
from step.models.transformer.head import Head
from step.models.transformer.mlp import mlp
from step.models.transformer.parts import AttentionPart, EmbeddingPart
from step.models.transformer.residual import Block


class SpikformerConfig(TransformerConfig):
    """Sizes of a Spikformer; the defaults are Spikformer-4-384 for 32x32 colour images."""

    SIZES = {
        **TINY,
        "cifar-2-384": {"depth": 2},
        "cifar-4-256": {"dim": 256, "heads": 8},
        "cifar-4-384": {},
        "imagenet-8-384": {"depth": 8, "heads": 8, "image_size": 224, "classes": 1000},
        "imagenet-8-512": {"depth": 8, "dim": 512, "heads": 8, "image_size": 224, "classes": 1000},
        "imagenet-8-768": {"depth": 8, "dim": 768, "heads": 8, "image_size": 224, "classes": 1000},
        "dvs-2-256": {"depth": 2, "dim": 256, "heads": 16, "image_size": 64, "channels": 2},
        "smnist": {"depth": 2, "image_size": 28, "channels": 1, "embedding": {"name": "sequence"}},
        "scifar-10": {"depth": 2, "embedding": {"name": "sequence"}},
    }

    attention: AttentionPart = {"name": "ssa"}
    embedding: EmbeddingPart = {"name": "sps"}


@models.register("spikformer")
class Spikformer(Transformer):
    """Spikformer (ICLR 2023): spiking patch splitting, spiking self-attention without softmax, spike residual.

    x = SPS(image); x = x + SSA(x); x = x + MLP(x); mean over tokens; linear. The stream holds sums of spikes.
    """

    Config = SpikformerConfig
    paper = Paper(
        "Spikformer: When Spiking Neural Network Meets Transformer", "ICLR", 2023, "arXiv:2209.15425",
        published=(
            Published("cifar-4-384", "CIFAR-10", 95.51, 4, 9.32),
            Published("cifar-4-384", "CIFAR-100", 78.21, 4, 9.32),
            Published("imagenet-8-384", "ImageNet", 70.24, 4, 16.81),
            Published("imagenet-8-512", "ImageNet", 73.38, 4, 29.68),
            Published("imagenet-8-768", "ImageNet", 74.81, 4, 66.34),
            Published("dvs-2-256", "CIFAR10-DVS", 78.9, 10),
            Published("dvs-2-256", "CIFAR10-DVS", 80.9, 16),
            Published("smnist", "sMNIST", 98.84, source="STEP, arXiv:2505.11151"),
            Published("smnist", "psMNIST", 97.97, source="STEP, arXiv:2505.11151"),
            Published("scifar-10", "sCIFAR-10", 84.26, source="STEP, arXiv:2505.11151"),
        ),
    )  # fmt: skip

    def __init__(self, config: SpikformerConfig, neuron: NeuronFactory) -> None:
        super().__init__(config, neuron)
        self.embedding = self.embed("spike")
        self.blocks = nn.Sequential(
            *(Block(self.attend("spike"), mlp(config.dim, self.hidden, neuron)) for _ in range(config.depth))
        )
        self.head = Head(config.dim, config.classes)
        initialise(self)
