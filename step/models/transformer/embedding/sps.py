"""Spiking Patch Splitting (SPS) of Spikformer (Zhou et al., ICLR 2023, arXiv:2209.15425)."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from neurons import NeuronFactory
from neurons.errors import OptionError
from step.models.layers import ConvNorm, MaxPool, Spiking
from step.models.transformer.embedding.base import Embedding, Pools, embeddings, halved, halvings, position_branch
from step.models.transformer.residual import Residual


@embeddings.register("sps")
class SpikingPatchSplitting(Embedding):
    """Spiking Patch Splitting: four stages of convolution, norm and neuron, then a relative position branch.

    Stages of dim/8, dim/4, dim/2 and dim channels: conv 3x3 - norm - neuron, and max-pooling 3x3 after those that
    halve the map. Spike residual: x + neuron(norm(conv(x))). Membrane residual (Spike-driven Transformer, NeurIPS
    2023): the last stage has no neuron, and the branch is x + norm(conv(neuron(x))).

    Parameters
    ----------
    channels : int
        Channels of the image.
    dim : int
        Channels of a token, a multiple of 8.
    pools : int or sequence of bool
        How many of the last stages halve the map, or which (one entry for each stage).
    pooling : {"spikes", "currents"}
        Whether a map is halved behind its neuron, as in the papers, or before it, as SpikingJelly does: the neuron then
        has a quarter of the positions, but the maximum is taken over real numbers.
    """

    def __init__(
        self,
        channels: int,
        dim: int,
        image_size: int,
        pools: Pools,
        neuron: NeuronFactory,
        *,
        residual: Residual = "spike",
        pooling: Literal["spikes", "currents"] = "spikes",
    ) -> None:
        super().__init__()
        if dim % 8:
            raise OptionError(f"dim of this patch embedding must be a multiple of 8, not {dim}")
        halves = halvings(pools)
        side = halved(image_size, sum(halves))
        self.grid = (side, side)
        widths = [channels, dim // 8, dim // 4, dim // 2, dim]
        self.stages = nn.ModuleList()
        for stage, (inputs, outputs) in enumerate(pairwise(widths)):
            layer: nn.Module = ConvNorm(inputs, outputs)
            pool = [MaxPool()] if halves[stage] else []
            if stage < 3 or residual == "spike":
                fire = neuron(features=outputs, axis=-3)
                if pooling == "currents" and pool:
                    self.stages.append(nn.Sequential(layer, *pool, fire))
                    continue
                layer = Spiking(layer, fire)
            self.stages.append(nn.Sequential(layer, *pool))
        self.position = position_branch(ConvNorm(dim, dim), dim, neuron, residual)

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages:
            x = stage(x)
        return x + self.position(x)
