"""Smooth random textures: fractal noise that repeats, and noise along a line."""

from __future__ import annotations

import numpy as np

from benchmarks.datasets.drawing import random_state

SIDE = 256
"""Texels of a tile in each direction."""


class Tile:
    """Fractal noise of mean 0 and variance 1 on a square that repeats in both directions.

    White noise is filtered so that its power falls as the frequency to the power of ``-slope``, which is what many
    octaves of ever finer and weaker noise add up to.

    Parameters
    ----------
    key : tuple of int
        Seed.
    slope : float
        0 for white noise; the larger, the smoother.
    lowest : int
        Waves on the square below which there is no power: the square then does not look like one blob.
    """

    def __init__(self, key: tuple[int, ...], slope: float = 2.4, lowest: int = 2) -> None:
        white = random_state(*key).standard_normal((SIDE, SIDE))
        waves = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None]) * SIDE
        gain = np.where(waves < lowest, 0.0, np.maximum(waves, 1.0) ** (-slope / 2))
        values = np.fft.irfft2(np.fft.rfft2(white) * gain, s=(SIDE, SIDE))
        # five digits are the same whatever library transforms
        self.texels = np.round((values - values.mean()) / values.std(), 5).astype(np.float32)
        self.flat = self.texels.ravel()

    def at(self, x: np.ndarray, y: np.ndarray, period: float) -> np.ndarray:
        """Return the texel at positions in metres, float32; ``period`` metres are one tile."""
        scale = np.float32(SIDE / period)
        column = (x * scale).astype(np.int32) & (SIDE - 1)
        row = (y * scale).astype(np.int32) & (SIDE - 1)
        return self.flat[(row << 8) | column]

    def smooth(self, x: np.ndarray, y: np.ndarray, period: float) -> np.ndarray:
        """Return the noise between texels, interpolated linearly."""
        scale = np.float32(SIDE / period)
        u, v = x * scale, y * scale
        left, top = np.floor(u), np.floor(v)
        a, b = u - left, v - top
        column, row = left.astype(np.int32) & (SIDE - 1), top.astype(np.int32) & (SIDE - 1)
        right, below = (column + 1) & (SIDE - 1), ((row + 1) & (SIDE - 1)) << 8
        row <<= 8
        upper = self.flat[row | column] * (1 - a) + self.flat[row | right] * a
        lower = self.flat[below | column] * (1 - a) + self.flat[below | right] * a
        return upper * (1 - b) + lower * b


def along(key: tuple[int, ...], x: np.ndarray, spacing: float) -> np.ndarray:
    """Return noise of variance about 1 along a line, one random knot every ``spacing`` metres, joined smoothly.

    A longer line has the same noise where both are.
    """
    place = x / spacing
    knots = random_state(*key).standard_normal(int(np.ceil(place[-1])) + 2)
    left = np.floor(place).astype(np.int64)
    share = place - left
    share = share * share * (3 - 2 * share)
    return knots[left] * (1 - share) + knots[left + 1] * share
