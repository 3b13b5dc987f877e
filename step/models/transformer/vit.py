"""Vision transformer (Dosovitskiy et al., ICLR 2021), float and quantised: the control of spiking transformers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

from torch import Tensor, nn

from neurons import NeuronFactory, factory
from neurons.base import neurons
from neurons.conventional import NORMAL
from neurons.errors import OptionError
from step.models.base import models
from step.models.layers import initialise
from step.models.paper import Paper, Published
from step.models.transformer.attention.signed import is_quantised, signed
from step.models.transformer.base import Transformer, TransformerConfig
from step.models.transformer.head import Head
from step.models.transformer.parts import AttentionPart, EmbeddingPart
from step.models.transformer.quantised import quantise_weights
from step.models.transformer.residual import Block
from step.models.transformer.spikformer import SpikformerConfig

EDGES = 8
"""Bits of the first and the last layer of a quantised network, weights and inputs, as in LSQ's own experiments."""


class VisionTransformerConfig(TransformerConfig):
    """Sizes of a vision transformer, those of Spikformer; the defaults are 4-384 for 32x32 colour images."""

    SIZES = SpikformerConfig.SIZES

    attention: AttentionPart = {"name": "softmax"}
    embedding: EmbeddingPart = {"name": "sps"}


@models.register("vit")
class VisionTransformer(Transformer):
    """Vision transformer with the patch embedding of the spiking ones: their conventional control, run with T = 1.

    x = embedding(image); x = x + MSA(LN(x)); x = x + MLP(LN(x)); LN; mean over tokens; linear.
    MLP(x) = W2 neuron(W1 x). The neuron is the activation: gelu, relu, or quantised_relu of b bits.

    With quantised_relu both operands of every product have b bits: outputs of layer norms, Q, K, V, attention
    weights, merged heads, hidden layer, and all weights, each with a learned step size (LSQ, Esser et al., ICLR 2020).
    First and last layer, their inputs too, have 8 bits as in that paper. Biases, sums, norms and the shortcut are not
    quantised.
    """

    Config = VisionTransformerConfig
    conventional = True
    paper = Paper(
        "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale", "ICLR", 2021, "arXiv:2010.11929",
        published=(Published("size not stated", "CIFAR-10", 96.51, 1, source="STEP, arXiv:2505.11151"),),
        note=(
            "A control, not a restatement: convolutional patch embedding (SPS) with batch norm instead of one "
            "convolution, no class token and no absolute position, mean over tokens, and no dropout."
        ),
    )  # fmt: skip

    def __init__(self, config: VisionTransformerConfig, neuron: NeuronFactory) -> None:
        super().__init__(config, neuron)
        quantised = is_quantised(neuron)
        if quantised and self.bits < 2:
            raise OptionError("vit has weights with a sign, so its quantised neuron needs 2 bits or more, not 1")
        edge = {"bits": EDGES, "magnitude": NORMAL}
        self.input = factory("quantised", **edge)() if quantised else nn.Identity()
        self.embedding = self.embed("spike")
        self.blocks = nn.Sequential(
            *(
                Block(nn.Sequential(nn.LayerNorm(config.dim), self.attend("membrane")), self._mlp())
                for _ in range(config.depth)
            )
        )
        self.norm = nn.LayerNorm(config.dim)
        self.head = Head(config.dim, config.classes, factory("quantised", **edge) if quantised else None)
        initialise(self)
        if quantised:
            quantise_weights(self, self.bits, EDGES)

    def features(self, x: Tensor) -> Tensor:
        return self.norm(super().features(self.input(x)))

    def twin(self, neuron: str | Mapping[str, Any] | NeuronFactory) -> Self:
        """Return the same network with other neurons; weights quantised anew get step sizes that fit them."""
        twin = super().twin(neuron)
        if is_quantised(twin.neuron) and (not is_quantised(self.neuron) or twin.bits != self.bits):
            for module in twin.modules():
                if hasattr(module, "weight_step"):
                    module.fit()  # type: ignore[operator]
        return twin

    @property
    def bits(self) -> int:
        """Bits of weights and activations of a quantised network; 32 of others."""
        if not is_quantised(self.neuron):
            return 32
        return int(self.neuron.options.get("bits", neurons.options(self.neuron.name)["bits"].default))

    def _mlp(self) -> nn.Sequential:
        dim, hidden, neuron = self.config.dim, self.hidden, self.neuron
        if is_quantised(neuron) and "magnitude" not in neuron.options:
            # What a linear layer of deviation 0.02 makes of inputs of unit variance.
            start = NORMAL * 0.02 * math.sqrt(dim)
            neuron = NeuronFactory(neuron.name, **{**neuron.options, "magnitude": start})
        return nn.Sequential(
            nn.LayerNorm(dim),
            signed(neuron, dim) or nn.Identity(),
            nn.Linear(dim, hidden),
            neuron(features=hidden),
            nn.Linear(hidden, dim),
        )
