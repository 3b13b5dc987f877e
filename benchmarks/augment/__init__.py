"""Augmentation of training images: what is drawn depends on the seed and the epoch alone."""

from benchmarks.augment.config import AugmentConfig
from benchmarks.augment.images import Augment, check_channels

__all__ = ["Augment", "AugmentConfig", "check_channels"]
