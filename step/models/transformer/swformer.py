"""Spiking Wavelet Transformer (Fang et al., ECCV 2024)."""

from __future__ import annotations

from pydantic import Field
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


class SWFormerConfig(TransformerConfig):
    """Sizes of an SWFormer; the defaults are SWFormer-4-384 for 32x32 colour images."""

    SIZES = {
        **TINY,
        "cifar-4-384": {},
        "imagenet-8-512": {
            "depth": 8, "dim": 512, "heads": 2, "image_size": 256, "classes": 1000, "head_neuron": True,
        },
    }  # fmt: skip

    heads: int = Field(16, ge=1)
    """Blocks of channels, each with a mixing matrix of its own."""
    attention: AttentionPart = {"name": "fatm"}
    embedding: EmbeddingPart = {"name": "sps"}
    head_neuron: bool = False
    """Whether a neuron stands between the mean over tokens and the linear layer."""


@models.register("swformer")
class SWFormer(Transformer):
    """SWFormer (ECCV 2024): attention-free; tokens are mixed by a Haar wavelet transform and two convolutions.

    u = SPS(image); u = u + FATM(u); u = u + MLP(u), membrane residual; mean over tokens; linear. The
    neurons inside the Haar transforms are ternary, since coefficients have signs; a quantised twin has signed codes
    there, a twin of real numbers no activation.
    """

    Config = SWFormerConfig
    config: SWFormerConfig
    paper = Paper(
        "Spiking Wavelet Transformer", "ECCV", 2024, "arXiv:2403.11138",
        published=(
            Published("cifar-4-384", "CIFAR-10", 96.1, 4, 7.51),
            Published("cifar-4-384", "CIFAR-100", 79.3, 4, 7.51),
            Published("imagenet-8-512", "ImageNet", 75.34),
            Published("dvs", "CIFAR10-DVS", 82.9, None),
            Published("dvs", "CIFAR10-DVS", 83.9, None),
            Published("dvs", "N-Caltech101", 88.45, None),
        ),
        note="Neurons inside the Haar transforms are ternary LIF at half the threshold, where the released code has "
        "ternary IF; sides that are no power of two have an unbalanced Haar matrix. 7.02 M are taken by 16 blocks of "
        "channels and 10 classes, 7.51 M by 4 blocks and 100 classes. The ImageNet size is the released one.",
    )  # fmt: skip

    def __init__(self, config: SWFormerConfig, neuron: NeuronFactory) -> None:
        super().__init__(config, neuron)
        self.embedding = self.embed("membrane")
        self.blocks = nn.Sequential(
            *(
                Block(self.attend("membrane"), mlp(config.dim, self.hidden, neuron, "membrane"))
                for _ in range(config.depth)
            )
        )
        self.head = Head(config.dim, config.classes, neuron if config.head_neuron else None)
        initialise(self)
