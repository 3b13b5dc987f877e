"""Spike-driven Transformer (SDT v1, Yao et al., NeurIPS 2023)."""

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

_STEP = "STEP, arXiv:2505.11151"
_SEQUENCE = {"embedding": {"name": "sequence"}}


class SDTConfig(TransformerConfig):
    """Sizes of a Spike-driven Transformer; the defaults are SDT-2-512 for 32x32 colour images."""

    SIZES = {
        **TINY,
        "cifar-2-512": {},
        "imagenet-8-384": {"depth": 8, "dim": 384, "image_size": 224, "classes": 1000},
        "imagenet-8-512": {"depth": 8, "image_size": 224, "classes": 1000},
        "imagenet-8-768": {"depth": 8, "dim": 768, "image_size": 224, "classes": 1000},
        "smnist": {**_SEQUENCE, "image_size": 28, "channels": 1},
        "scifar-10": {**_SEQUENCE},
    }

    depth: int = Field(2, ge=1)
    dim: int = Field(512, ge=8)
    heads: int = Field(8, ge=1)
    attention: AttentionPart = {"name": "sdsa"}
    embedding: EmbeddingPart = {"name": "sps"}


@models.register("sdt")
class SDT(Transformer):
    """Spike-driven Transformer (NeurIPS 2023): attention of masks and sums, membrane residual, all products on bits.

    U = SPS(image); U = U + SDSA(neuron(U)); U = U + MLP(neuron(U)); neuron of the mean over tokens; linear.
    """

    Config = SDTConfig
    paper = Paper(
        "Spike-driven Transformer", "NeurIPS", 2023, "arXiv:2307.01694",
        published=(
            Published("cifar-2-512", "CIFAR-10", 95.6),
            Published("cifar-2-512", "CIFAR-100", 78.4),
            Published("imagenet-8-384", "ImageNet", 72.28),
            Published("imagenet-8-512", "ImageNet", 74.57),
            Published("imagenet-8-768", "ImageNet", 76.32, millions=66.34),
            Published("dvs-2-256", "CIFAR10-DVS", 80.0, None),
            Published("smnist", "sMNIST", 98.77, source=_STEP),
            Published("smnist", "psMNIST", 97.80, source=_STEP),
            Published("scifar-10", "sCIFAR-10", 82.31, source=_STEP),
        ),
        note=(
            "The neuron of the mask fires at half the threshold, as in the published code. That code also builds a "
            "convolution over heads and a neuron that nothing calls, and pools keys and values over 3x3 places on "
            "event data; neither is here. ImageNet at 288 pixels: 77.07 % (8-768)."
        ),
    )  # fmt: skip

    def __init__(self, config: SDTConfig, neuron: NeuronFactory) -> None:
        super().__init__(config, neuron)
        self.embedding = self.embed("membrane")
        self.blocks = nn.Sequential(
            *(
                Block(self.attend("membrane"), mlp(config.dim, self.hidden, neuron, "membrane"))
                for _ in range(config.depth)
            )
        )
        self.head = Head(config.dim, config.classes, neuron)
        initialise(self)
