"""Spikformer with the Spiking Experts Mixture Mechanism (SEMM, Zhou et al., NeurIPS 2024)."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator
from torch import Tensor, nn

from neurons import NeuronFactory
from step.models.base import models
from step.models.layers import ConvNorm, LinearNorm, Spiking, initialise
from step.models.paper import Paper, Published
from step.models.transformer.attention import Grid
from step.models.transformer.base import TINY, Transformer, TransformerConfig
from step.models.transformer.embedding import to_maps, to_tokens
from step.models.transformer.head import Head
from step.models.transformer.parts import AttentionPart, EmbeddingPart
from step.models.transformer.residual import Block

_STEP = "STEP, arXiv:2505.11151"
_SEQUENCE = {"embedding": {"name": "sequence"}}
# The scale grows as tokens times channels of an expert shrink, else no expert of a tiny network would ever fire.
_TINY = {
    "digits": {**TINY["digits"], "attention": {"name": "emsa", "scale": 2.0}},
    "fashion": {**TINY["fashion"], "attention": {"name": "emsa", "scale": 1.0}},
}
# On ImageNet experts keep the 96 channels of CIFAR, and the hidden layer has 16 (dim // 3) channels.
_IMAGENET = {"depth": 8, "image_size": 224, "classes": 1000, "attention": {"name": "emsa", "width": 96}}


class SEMMConfig(TransformerConfig):
    """Sizes of a Spikformer with SEMM; the defaults are those of SEMM-4-384 for 32x32 colour images."""

    SIZES = {
        **_TINY,
        "cifar-4-384": {},
        "imagenet-8-384": {**_IMAGENET, "mlp_ratio": 2048 / 384},
        "imagenet-8-512": {**_IMAGENET, "dim": 512, "mlp_ratio": 2720 / 512},
        "smnist": {**_SEQUENCE, "image_size": 28, "channels": 1},
        "scifar-10": {**_SEQUENCE},
    }

    heads: int = Field(4, ge=1)
    """Experts."""
    attention: AttentionPart = {"name": "emsa"}
    embedding: EmbeddingPart = {"name": "sps"}

    @model_validator(mode="after")
    def _halves(self) -> Self:
        hidden = int(self.dim * self.mlp_ratio)
        if hidden % 2 or not hidden:
            raise ValueError(f"dim times mlp_ratio must be an even number, not {hidden}: half of it masks the other")
        return self


class ExpertsMixturePerceptron(nn.Module):
    """Experts mixture spiking perceptron (EMSP), on tokens [T, B, N, C].

    a, b = halves of neuron(norm(W1 x)); a = neuron(norm(depth-wise 3x3 conv of a)); out = neuron(norm(W2 (a * b))).

    Parameters
    ----------
    dim, hidden : int
        Channels outside and of both halves together.
    grid : (int, int)
        Height and width of the tokens.
    neuron : NeuronFactory
    """

    def __init__(self, dim: int, hidden: int, grid: Grid, neuron: NeuronFactory) -> None:
        super().__init__()
        half = hidden // 2
        self.grid = grid
        self.expand = Spiking(LinearNorm(dim, hidden), neuron(features=hidden))
        self.route = Spiking(ConvNorm(half, half, groups=half), neuron(features=half, axis=-3))
        self.reduce = Spiking(LinearNorm(half, dim), neuron(features=dim))

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.expand(x).chunk(2, dim=-1)
        return self.reduce(to_tokens(self.route(to_maps(a, self.grid))) * b)


@models.register("semm")
class SEMM(Transformer):
    """Spikformer with SEMM (NeurIPS 2024): experts with spiking routers in attention and perceptron, spike residual.

    x = SPS(image); x = x + EMSA(x); x = x + EMSP(x); mean over tokens; linear. The stream holds sums of spikes.
    """

    Config = SEMMConfig
    paper = Paper(
        "Spiking Transformer with Experts Mixture", "NeurIPS", 2024, "openreview.net/forum?id=WcIeEtY3AG",
        published=(
            Published("cifar-4-384", "CIFAR-10", 95.78),
            Published("cifar-4-384", "CIFAR-100", 79.04),
            Published("imagenet-8-512", "ImageNet", 75.93),
            Published("dvs-2-256", "CIFAR10-DVS", 82.32, None),
            Published("smnist", "sMNIST", 99.33, source=_STEP),
            Published("smnist", "psMNIST", 98.46, source=_STEP),
            Published("scifar-10", "sCIFAR-10", 85.61, source=_STEP),
        ),
        note=(
            "Norms on keys and values and the scale of the product are there at every size, and every neuron is the "
            "one asked for; code in circulation drops them on ImageNet and keeps LIF in the experts."
        ),
    )  # fmt: skip

    def __init__(self, config: SEMMConfig, neuron: NeuronFactory) -> None:
        super().__init__(config, neuron)
        self.embedding = self.embed("spike")
        self.blocks = nn.Sequential(
            *(
                Block(
                    self.attend("spike"),
                    ExpertsMixturePerceptron(config.dim, self.hidden, self.embedding.grid, neuron),
                )
                for _ in range(config.depth)
            )
        )
        self.head = Head(config.dim, config.classes)
        initialise(self)
