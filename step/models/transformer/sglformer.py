"""SGLFormer: Spiking Global-Local-Fusion Transformer (Zhang et al., Frontiers in Neuroscience 2024)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from neurons import NeuronFactory
from neurons.errors import ShapeError
from step.models.base import models
from step.models.layers import ConvNorm, LinearNorm, Spiking, initialise
from step.models.paper import Paper, Published
from step.models.transformer.attention import attentions
from step.models.transformer.base import TINY, Transformer, TransformerConfig
from step.models.transformer.embedding import to_maps, to_tokens
from step.models.transformer.mlp import mlp
from step.models.transformer.parts import AttentionPart, EmbeddingPart, build
from step.models.transformer.residual import Block


class SGLFormerConfig(TransformerConfig):
    """Sizes of an SGLFormer; the defaults are those for 32x32 colour images."""

    SIZES = {
        **{name: {**size, "depth": 1} for name, size in TINY.items()},
        "cifar-1-384": {},
    }

    depth: int = Field(1, ge=1)
    heads: int = Field(16, ge=1)
    attention: AttentionPart = {"name": "ssa", "bias": False}
    """Attention among all tokens, twice in each block."""
    local_attention: AttentionPart = {"name": "local-ssa", "bias": False}
    """Attention at the beginning of each block."""
    embedding: EmbeddingPart = {"name": "sgl"}
    T: int = Field(4, ge=1)
    """Time steps: the read-out has a weight for each of them."""


@models.register("sglformer")
class SGLFormer(Transformer):
    """SGLFormer (Frontiers 2024): convolution, attention in windows and global, learned spatio-temporal read-out.

    Block: x = LocalConv(x); x = x + local SSA(x); x = x + MLP(x); twice: x = x + SSA(x); x = x + MLP(x). Spike
    residual. The read-out has a weight for each channel, token and time step, so that the network runs for ``T`` steps
    only, and not in parts; every step of the output holds the scores of all of them.
    """

    Config = SGLFormerConfig
    config: SGLFormerConfig
    paper = Paper(
        "SGLFormer: Spiking Global-Local-Fusion Transformer with high performance", "Frontiers in Neuroscience", 2024,
        "doi:10.3389/fnins.2024.1371290",
        published=(
            Published("cifar-1-384", "CIFAR-10", 96.76, 4, 8.85),
            Published("cifar-1-384", "CIFAR-100", 82.26, 4, 8.85),
            Published("64 M", "ImageNet", 83.73, None, 64.0),
            Published("dvs", "CIFAR10-DVS", 82.9, None),
        ),
        note="Windows hold neighbouring tokens; the code released with the paper gives each window every second row "
        "and column (option interleaved of the attention local-ssa), and adds the input of its convolutions twice. "
        "Sizes of the ImageNet network are not established.",
    )  # fmt: skip

    def __init__(self, config: SGLFormerConfig, neuron: NeuronFactory) -> None:
        super().__init__(config, neuron)
        self.embedding = self.embed("spike")
        self.blocks = nn.Sequential(*(self._block() for _ in range(config.depth)))
        height, width = self.embedding.grid
        self.head = SpatioTemporalHead(config.dim, config.classes, height * width, config.T)
        initialise(self)

    def _block(self) -> nn.Sequential:
        c, grid = self.config, self.embedding.grid
        fixed = {"dim": c.dim, "heads": c.heads, "neuron": self.neuron, "grid": grid, "residual": "spike"}
        local = build(attentions, c.local_attention, **fixed)
        return nn.Sequential(
            LocalConv(c.dim, self.hidden, self.neuron, grid),
            *(
                Block(each, mlp(c.dim, self.hidden, self.neuron))
                for each in (local, *(self.attend("spike") for _ in "12"))
            ),
        )

    def check(self, x: Tensor) -> None:
        super().check(x)
        if len(x) != self.config.T and not (len(x) == 1 and self.neuron.conventional):
            raise ShapeError(
                f"this sglformer was made for T = {self.config.T} time steps, not {len(x)}; set its option T"
            )


class LocalConv(nn.Module):
    """Depth-wise convolution, then an inverted bottleneck with another, each with a shortcut; tokens [T, B, N, C].

    x = x + neuron(norm(conv3x3 x)); x = x + spiking(W2 spiking(conv3x3 spiking(W1 x))), both convolutions depth-wise,
    "spiking" for norm and neuron.

    Parameters
    ----------
    dim, hidden : int
        Channels of x, and between W1 and W2.
    neuron : NeuronFactory
    grid : (int, int)
        Height and width of the tokens.
    """

    def __init__(self, dim: int, hidden: int, neuron: NeuronFactory, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.local = Spiking(ConvNorm(dim, dim, groups=dim), neuron(features=dim, axis=-3))
        self.up = Spiking(LinearNorm(dim, hidden, bias=False), neuron(features=hidden))
        self.inner = Spiking(ConvNorm(hidden, hidden, groups=hidden), neuron(features=hidden, axis=-3))
        self.down = Spiking(LinearNorm(hidden, dim, bias=False), neuron(features=dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + to_tokens(self.local(to_maps(x, self.grid)))
        return x + self.down(to_tokens(self.inner(to_maps(self.up(x), self.grid))))


class SpatioTemporalHead(nn.Module):
    """Depth-wise sum over all tokens and time steps with learned weights, norm, then a linear layer.

    One step that stands for all (a network without time) meets the weights of all steps, summed: as if it were
    repeated.

    Parameters
    ----------
    dim, classes, tokens, T : int
    """

    streams = False

    def __init__(self, dim: int, classes: int, tokens: int, T: int) -> None:
        super().__init__()
        self.T = T
        self.pool = nn.Conv2d(dim, dim, (tokens, T), groups=dim, bias=False)
        self.pool_norm = nn.BatchNorm1d(dim)
        self.linear = nn.Linear(dim, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        whole = len(tokens) == self.T
        weights = self.pool.weight.split(1, -1) if whole else [self.pool.weight.sum(-1, keepdim=True)]
        # Step by step, each token a pixel of a map [B, C, N, 1]: nothing is copied to bring time behind the tokens.
        steps = [
            F.conv2d(step.transpose(1, 2).unsqueeze(-1), weight, groups=len(weight))
            for step, weight in zip(tokens, weights, strict=True)
        ]
        pooled = torch.stack(steps).sum(0).flatten(1)
        return self.linear(self.pool_norm(pooled)).expand(len(tokens), -1, -1)
