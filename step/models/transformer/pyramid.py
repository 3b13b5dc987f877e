"""Pyramids: stages of falling resolution and growing width."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from step.models.transformer.base import ImageConfig, ImageNetwork
from step.models.transformer.embedding import to_maps, to_tokens

Form = Literal["cifar", "imagenet"]


class PyramidConfig(ImageConfig):
    """What pyramids have in common: papers give a form for small images and one for those of ImageNet."""

    form: Form | None = None
    """Which of the paper's two ways to embed an image; by image size when left out, "imagenet" from 64 pixels."""

    @property
    def chosen_form(self) -> Form:
        """The form asked for, or that of the image size."""
        return self.form or ("imagenet" if self.image_size >= 64 else "cifar")


class Stage(nn.Module):
    """An embedding from maps to maps, then blocks on the tokens of those maps.

    Parameters
    ----------
    embedding : nn.Module
        Maps [T, B, C, H, W] to [T, B, C', height, width].
    blocks : iterable of nn.Module
        On tokens [T, B, height * width, C'].
    grid : (int, int)
        Height and width behind the embedding.
    """

    def __init__(self, embedding: nn.Module, blocks: list[nn.Module], grid: tuple[int, int]) -> None:
        super().__init__()
        self.embedding = embedding
        self.blocks = nn.Sequential(*blocks)
        self.grid = grid

    def forward(self, maps: Tensor) -> Tensor:
        return to_maps(self.blocks(to_tokens(self.embedding(maps))), self.grid)


class Pyramid(ImageNetwork):
    """Base of networks of several stages: ``stages``, then ``head``."""

    stages: nn.Sequential

    def features(self, x: Tensor) -> Tensor:
        return to_tokens(self.stages(x))

    def segments(self) -> list[nn.Module]:
        return [block for stage in self.stages if isinstance(stage, Stage) for block in stage.blocks]
