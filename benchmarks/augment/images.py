"""Augmentation of a batch of images and its labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.augment.config import AugmentConfig
from benchmarks.augment.library import transforms
from neurons.errors import OptionError, ShapeError

# What follows the run's other streams of the same seed, so that they are not drawn from the same numbers.
_SALT = 1 << 52

_LEVELS = 1000
"""Steps of RandAugment's scale from 0 to 10; a drawn magnitude is rounded to one of them."""

COLOUR = ("auto_augment", "colour_jitter")
"""Options that work on images of 1 or 3 channels only."""


def check_channels(config: AugmentConfig, channels: int) -> None:
    """Raise an OptionError when images of so many channels cannot be augmented like this."""
    for option in COLOUR:
        if getattr(config, option) and channels not in (1, 3):
            raise OptionError(
                f"{option} changes colours and needs images of 1 or 3 channels, not {channels}; leave it out"
            )


class Augment:
    """Augments batches of raw images [B, C, H, W] in [0, 1].

    Every image is changed by itself; mixup and CutMix blend the batch with its neighbours.

    Parameters
    ----------
    config : AugmentConfig
    classes : int
        Classes of the data set; mixed labels are [B, classes].
    """

    def __init__(self, config: AugmentConfig, classes: int) -> None:
        self.config, self.classes = config, classes
        self._size: tuple[int, int] | None = None
        self._steps: list[Callable[[Tensor], Tensor]] = []

    @staticmethod
    def generator(seed: int, epoch: int) -> torch.Generator:
        """Return the source of everything that is drawn in an epoch."""
        return torch.Generator().manual_seed(_SALT + (seed << 20) + epoch)

    def __call__(self, images: Tensor, labels: Tensor, epoch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the augmented images and their labels.

        Parameters
        ----------
        images : Tensor, shape [B, C, H, W]
        labels : Tensor of int64, shape [B]
        epoch : int
            From 0; tells whether batches are still mixed.
        generator : torch.Generator

        Returns
        -------
        images : Tensor, shape [B, C, H, W]
        labels : Tensor
            As given, or shares [B, classes] that sum to 1 when the batch is mixed.
        """
        if images.dim() != 4:
            raise ShapeError(f"augmentation takes images [B, C, H, W], not {list(images.shape)}; leave it out")
        check_channels(self.config, images.shape[1])
        seed = int(torch.randint(2**62, (), generator=generator))
        # torchvision draws from torch's global generator.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            if self.config.changes_images:
                images = torch.stack([self._image(image) for image in images])
            return self._mix(images, labels, epoch)

    def _image(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        if self._size != (height, width):
            self._size, self._steps = (height, width), _steps(self.config, height, width)
        for step in self._steps:
            image = step(image)
        return image.clamp(0, 1)

    def _mix(self, images: Tensor, labels: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        c = self.config
        if not c.mixes or (c.mixup_off_epoch is not None and epoch >= c.mixup_off_epoch):
            return images, labels
        if float(torch.rand(())) >= c.mixup_probability:
            return images, labels
        cut = c.cutmix > 0 and (c.mixup == 0 or float(torch.rand(())) < c.switch_probability)
        kind = transforms().CutMix if cut else transforms().MixUp
        return kind(num_classes=self.classes, alpha=c.cutmix if cut else c.mixup)(images, labels)


def _steps(c: AugmentConfig, height: int, width: int) -> list[Callable[[Tensor], Tensor]]:
    v2 = transforms()
    steps: list[Callable[[Tensor], Tensor]] = []
    if c.crop_padding:
        steps.append(v2.RandomCrop((height, width), padding=c.crop_padding))
    if c.crop_scale is not None:
        steps.append(v2.RandomResizedCrop((height, width), scale=c.crop_scale, antialias=True))
    if c.flip:
        steps.append(v2.RandomHorizontalFlip(c.flip))
    if c.auto_augment is not None:
        steps.append(_policy(c, v2))
    if c.colour_jitter:
        steps.append(v2.ColorJitter(c.colour_jitter, c.colour_jitter, c.colour_jitter))
    if c.erase:
        steps.append(v2.RandomErasing(c.erase))
    return steps


def _policy(c: AugmentConfig, v2: Any) -> Callable[[Tensor], Tensor]:
    if c.auto_augment == "randaugment":
        return _RandAugment(c, v2)
    if c.auto_augment == "trivialaugment":
        return v2.TrivialAugmentWide()  # type: ignore[no-any-return]
    name = str(c.auto_augment).removeprefix("autoaugment-")
    return v2.AutoAugment(v2.AutoAugmentPolicy(name))  # type: ignore[no-any-return]


class _RandAugment:
    """torchvision's RandAugment, one operation at a time, each with a strength of its own."""

    def __init__(self, config: AugmentConfig, v2: Any) -> None:
        self.config = config
        self.one = v2.RandAugment(num_ops=1, magnitude=0, num_magnitude_bins=_LEVELS + 1)

    def __call__(self, image: Tensor) -> Tensor:
        c = self.config
        for _ in range(c.randaugment_operations):
            if c.randaugment_probability < 1 and float(torch.rand(())) >= c.randaugment_probability:
                continue
            magnitude = c.randaugment_magnitude
            if c.randaugment_std:
                magnitude = min(max(magnitude + c.randaugment_std * float(torch.randn(())), 0.0), 10.0)
            self.one.magnitude = round(magnitude / 10 * _LEVELS)
            image = self.one(image)
        return image
