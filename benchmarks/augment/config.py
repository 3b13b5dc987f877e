"""Options of augmentation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Probability = Annotated[float, Field(ge=0, le=1)]
Policy = Literal["randaugment", "trivialaugment", "autoaugment-cifar10", "autoaugment-imagenet", "autoaugment-svhn"]


class AugmentConfig(BaseModel):
    """How training images are changed before they are encoded; by default they are not.

    Images are changed in this order: crop, flip, policy or colour jitter, random erasing, then mixup or CutMix of the
    batch. All but the crop, the flip and the erasing need images of 1 or 3 channels.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    crop_padding: int = Field(0, ge=0)
    """Random crop of the original size after padding with so many black pixels on each side (4 is usual for 32x32)."""
    crop_scale: tuple[float, float] | None = None
    """Random resized crop: smallest and largest share of the area; (0.08, 1) is usual for ImageNet (Szegedy et al.,
    CVPR 2015). The sides are as 3:4 to 4:3."""
    flip: Probability = 0.0
    """Probability of a horizontal flip."""
    auto_augment: Policy | None = None
    """RandAugment (Cubuk et al., NeurIPS 2020), TrivialAugment (Müller and Hutter, ICCV 2021), or a learned policy of
    AutoAugment (Cubuk et al., CVPR 2019)."""
    randaugment_operations: int = Field(2, ge=1)
    """Operations of RandAugment on one image, N in its paper."""
    randaugment_magnitude: float = Field(9.0, ge=0, le=10)
    """Strength of RandAugment, M in its paper, on a scale from 0 to 10 as in timm."""
    randaugment_std: float = Field(0.0, ge=0)
    """Deviation of the strength, drawn for each operation and limited to the scale (timm's mstd)."""
    randaugment_probability: Probability = 1.0
    """Probability that a drawn operation is applied (timm applies half of them)."""
    colour_jitter: float = Field(0.0, ge=0, lt=1)
    """Largest relative change of brightness, contrast and saturation."""
    erase: Probability = 0.0
    """Probability of random erasing (Zhong et al., AAAI 2020): a rectangle of 2 to 33 % of the area turns black."""
    mixup: float = Field(0.0, ge=0)
    """Alpha of mixup (Zhang et al., ICLR 2018): images and labels are blended with a share drawn from Beta(alpha,
    alpha); 0 is none."""
    cutmix: float = Field(0.0, ge=0)
    """Alpha of CutMix (Yun et al., ICCV 2019): a rectangle comes from another image; 0 is none."""
    mixup_probability: Probability = 1.0
    """Probability that a batch is mixed at all, by mixup or CutMix."""
    switch_probability: Probability = 0.5
    """Probability of CutMix in place of mixup, where both are on."""
    mixup_off_epoch: int | None = Field(None, ge=1)
    """Epochs after which batches are no longer mixed."""

    @model_validator(mode="after")
    def _ranges(self) -> AugmentConfig:
        if self.crop_scale is not None:
            low, high = self.crop_scale
            if not 0 < low <= high <= 1:
                raise ValueError(
                    f"crop_scale is a smallest and a largest share of the area, not {list(self.crop_scale)}"
                )
            if self.crop_padding:
                raise ValueError("crop_padding and crop_scale are two ways to crop; give one of them")
        if self.auto_augment is not None and self.colour_jitter:
            raise ValueError("auto_augment changes colours already; give it or colour_jitter")
        return self

    @property
    def changes_images(self) -> bool:
        """Whether single images are changed."""
        return bool(
            self.crop_padding or self.crop_scale or self.flip or self.auto_augment or self.colour_jitter or self.erase
        )

    @property
    def mixes(self) -> bool:
        """Whether images of a batch are mixed."""
        return bool(self.mixup or self.cutmix)
