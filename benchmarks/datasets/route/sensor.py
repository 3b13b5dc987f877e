"""From radiance to grey values: streaks and stains, exposure, noise, and photons that are counted."""

from __future__ import annotations

import numpy as np

from benchmarks.datasets.drawing import random_state
from benchmarks.datasets.route.conditions import Condition

GAMMA = 2.2
HEADROOM = 4.0
"""Mean photon counts that are white in an image of counted photons."""


class Sensor:
    """Makes images of radiance as one camera on one pass does.

    Parameters
    ----------
    condition : Condition
    size : int
        Rows and columns.
    key : tuple of int
        Seed of stains, streaks and noise; the noise of an image depends on it and the number of the image alone.
    photons : float, optional
        Mean photons that a pixel counts in an image. Images then are Poisson counts without exposure, further noise or
        gamma; 255 is four times the mean.
    """

    def __init__(self, condition: Condition, size: int, key: tuple[int, ...], photons: float | None = None) -> None:
        from scipy.ndimage import gaussian_filter, uniform_filter1d

        self.condition, self.size, self.key, self.photons = condition, size, key, photons
        random = random_state(*key, 1)
        stains = gaussian_filter(random.standard_normal((size, size)), size / 16, mode="wrap")
        spots = np.clip(stains / stains.std() - 0.7, 0, 1.5) / 1.5
        self.stains = (condition.dirt * spots).astype(np.float32)
        drops = (random.random_sample((2 * size, 2 * size)) < 0.012).astype(np.float32)
        self.streaks = uniform_filter1d(drops, max(3, size // 8), axis=0, mode="wrap") * max(3, size // 8)

    def seen(self, radiance: np.ndarray, first: int) -> np.ndarray:
        """Return radiance [B, size, size] behind rain and a stained lens; ``first`` is the first image's number."""
        mean = radiance.mean(axis=(1, 2), keepdims=True)
        seen = radiance + self.stains * (1.2 * mean - radiance)
        if self.condition.rain:
            for number, image in enumerate(seen):
                down, right = random_state(*self.key, 2, first + number).randint(0, self.size, 2)
                fall = self.streaks[down : down + self.size, right : right + self.size]
                image += self.condition.rain * fall * (1.3 * mean[number] - 0.5 * image)
        return seen

    def images(self, radiance: np.ndarray, first: int) -> np.ndarray:
        """Return grey values of radiance [B, size, size], uint8; ``first`` is the number of the first image."""
        condition = self.condition
        seen = np.clip(self.seen(radiance, first), 0, None)
        mean = seen.mean(axis=(1, 2), keepdims=True)
        made = np.empty(seen.shape, np.uint8)
        for number, image in enumerate(seen):
            random = random_state(*self.key, 3, first + number)
            if self.photons is not None:
                count = random.poisson(image * (self.photons / max(float(mean[number, 0, 0]), 1e-6)))
                made[number] = np.clip(np.round(count * (255 / (HEADROOM * self.photons))), 0, 255)
                continue
            exposure = min(condition.exposure / max(float(mean[number, 0, 0]), 1e-6), condition.gain)
            value = np.minimum(image * exposure, 1.5)
            noise = random.standard_normal(value.shape)
            value = value + noise * np.sqrt(condition.shot**2 * value + (condition.read * exposure) ** 2)
            made[number] = np.round(255 * np.clip(value, 0, 1) ** (1 / GAMMA))
        return made
