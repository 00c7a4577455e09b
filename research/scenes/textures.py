"""Noise to paint with: clouds, and ground seen in perspective.

Legend: h rows, w columns. Noise is float32 about 0 with deviation 1.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy import fft, ndimage

_TILE = 1024  # columns of a texture, which repeats sideways
_ROWS = 224  # rows of a ground, the horizon first


@cache
def noise(seed: int, octaves: tuple[int, ...], *, fall: float = 0.0) -> np.ndarray:
    """(512, 1024) float32 noise about 0 with deviation 1 that repeats both ways.

    An octave is a blur in pixels; its amplitude is that to the power ``fall``.
    """
    white = np.random.default_rng(seed).standard_normal((512, _TILE), np.float32)
    squared = fft.fftfreq(512)[:, None] ** 2 + fft.rfftfreq(_TILE)[None] ** 2
    envelope = np.zeros(squared.shape, np.float32)
    for blur in octaves:
        layer = np.exp(-2 * (np.pi * blur) ** 2 * squared)  # a Gaussian blur, as the spectrum has it
        envelope += layer / np.sqrt(np.mean(layer**2)) * blur**fall
    total = fft.irfft2(fft.rfft2(white) * envelope, s=white.shape)
    return np.asarray((total - total.mean()) / total.std(), np.float32)


@cache
def clouds() -> np.ndarray:
    """(512, 1024) billows, wider than tall, with ragged edges."""
    billows = noise(1, (34, 16, 8, 4, 2, 1), fall=0.75)
    wide = np.repeat(billows[:, : _TILE // 2], 2, axis=1)
    smooth: np.ndarray = ndimage.uniform_filter1d(wide, 2, axis=1, mode="wrap")
    return smooth


@cache
def ground_noise(seed: int, octaves: tuple[int, ...], stretch: float, depth: float) -> np.ndarray:
    """(224, 1024) noise on a plane that recedes towards its first row; ``stretch`` widens it sideways."""
    rows = np.arange(_ROWS, dtype=np.float32)[:, None]
    near = (rows + depth) / (_ROWS + depth)
    columns = (np.arange(_TILE, dtype=np.float32)[None] - _TILE / 2) / near / stretch
    at = [np.broadcast_to(200 / near, columns.shape), columns]
    seen: np.ndarray = ndimage.map_coordinates(noise(seed, octaves), at, order=1, mode="grid-wrap")
    return seen


def window(texture: np.ndarray, rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """A stretch of a texture, its first rows."""
    start = rng.integers(texture.shape[1] - width)
    piece = texture[:height, start : start + width]
    return piece[:, ::-1] if rng.integers(2) else piece


def grain(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """(h, w) white noise with deviation 1, cut out of one large sheet."""
    top = rng.integers(512 - height)
    return window(noise(13, (0,)), rng, width, 512)[top : top + height]
