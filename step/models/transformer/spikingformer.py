"""Spikingformer: Spike-driven Residual Learning (Zhou et al., 2023)."""

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


class SpikingformerConfig(TransformerConfig):
    """Sizes of a Spikingformer; the defaults are Spikingformer-4-384 for 32x32 colour images."""

    SIZES = {
        **TINY,
        "cifar-4-384": {},
        "imagenet-8-384": {"depth": 8, "heads": 8, "image_size": 224, "classes": 1000},
        "imagenet-8-512": {"depth": 8, "dim": 512, "heads": 8, "image_size": 224, "classes": 1000},
        "imagenet-8-768": {"depth": 8, "dim": 768, "heads": 8, "image_size": 224, "classes": 1000},
        "dvs-2-256": {"depth": 2, "dim": 256, "heads": 16, "image_size": 64, "channels": 2},
    }

    attention: AttentionPart = {"name": "ssa", "bias": False}
    embedding: EmbeddingPart = {"name": "tokenizer"}


@models.register("spikingformer")
class Spikingformer(Transformer):
    """Spikingformer (2023): Spikformer with every neuron moved before its layer; membrane residual, products on bits.

    U = tokenizer(image); U = U + SSA(neuron(U)); U = U + MLP(neuron(U)); mean over tokens; linear.
    """

    Config = SpikingformerConfig
    paper = Paper(
        "Spikingformer: Spike-driven Residual Learning for Transformer-based Spiking Neural Network", "arXiv", 2023,
        "arXiv:2304.11954",
        published=(
            Published("cifar-4-384", "CIFAR-10", 95.81, 4, 9.32),
            Published("cifar-4-384", "CIFAR-100", 79.21, 4, 9.32),
            Published("imagenet-8-384", "ImageNet", 72.45, 4, 16.81),
            Published("imagenet-8-512", "ImageNet", 74.79, 4, 29.68),
            Published("imagenet-8-768", "ImageNet", 75.85, 4, 66.34),
            Published("dvs-2-256", "CIFAR10-DVS", 79.9, 10),
            Published("dvs-2-256", "CIFAR10-DVS", 81.3, 16),
        ),
        note="CIFAR figures are of 400 epochs; CIFAR-10 after 300: 95.61 %. The last linear layer reads real numbers.",
    )  # fmt: skip

    def __init__(self, config: SpikingformerConfig, neuron: NeuronFactory) -> None:
        super().__init__(config, neuron)
        self.embedding = self.embed("membrane")
        self.blocks = nn.Sequential(
            *(
                Block(self.attend("membrane"), mlp(config.dim, self.hidden, neuron, "membrane"))
                for _ in range(config.depth)
            )
        )
        self.head = Head(config.dim, config.classes)
        initialise(self)
