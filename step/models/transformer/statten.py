"""Spiking transformer with spatial-temporal attention (STAtten, Lee et al., CVPR 2025)."""

from __future__ import annotations

from step.models.base import models
from step.models.paper import Paper, Published
from step.models.transformer.parts import AttentionPart
from step.models.transformer.sdt import SDT, SDTConfig


class STAttenConfig(SDTConfig):
    """Sizes of a Spike-driven Transformer with STAtten; the defaults are 2-512 for 32x32 colour images."""

    SIZES = {
        **SDTConfig.SIZES,
        "cifar-2-256": {"dim": 256},
        "dvs-2-256": {
            "dim": 256, "image_size": 64, "channels": 2, "pools": 2, "attention": {"name": "statten", "block": 4},
        },
    }  # fmt: skip

    attention: AttentionPart = {"name": "statten"}


@models.register("statten")
class STAtten(SDT):
    """STAtten on the Spike-driven Transformer (CVPR 2025): tokens of neighbouring time steps attend to each other.

    U = SPS(image); U = U + STAtten(neuron(U)); U = U + MLP(neuron(U)); neuron of the mean over tokens; linear.
    """

    Config = STAttenConfig
    paper = Paper(
        "Spiking Transformer with Spatial-Temporal Attention", "CVPR", 2025, "arXiv:2409.19764",
        published=(Published("imagenet-8-768", "ImageNet", 78.11, 4, 66.0),),
        note=(
            "Scale 1 / height of the map, as the authors' code has it for still images. That code also builds a "
            "convolution over heads and a neuron that nothing calls; on event data it pools Q, K, V over 3x3 places, "
            "adds the pooled input and scales otherwise. None of this is here. The paper also puts the attention into "
            "the second Spike-driven Transformer (79.85 %)."
        ),
    )  # fmt: skip
