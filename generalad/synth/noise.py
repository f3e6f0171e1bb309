"""Cheap random textures, the raw material of every procedural part.

All functions return float32 arrays of about zero mean and unit variance and draw only from the
generator they are given.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Float = NDArray[Any]  # float32 everywhere; the annotations of OpenCV do not keep the dtype

_BYTE_PAIR_STD = 104.5  # standard deviation of the sum of two uniform bytes


def white(rng: np.random.Generator, shape: tuple[int, ...]) -> Float:
    """White noise with a triangular distribution; four times cheaper than a normal one."""
    count = int(np.prod(shape))
    raw = np.frombuffer(rng.bytes(2 * count), dtype=np.uint8)
    total = raw[:count].astype(np.float32)
    total += raw[count:]
    total -= 255.0
    total *= np.float32(1.0 / _BYTE_PAIR_STD)
    return total.reshape(shape)


def grain(rng: np.random.Generator, shape: tuple[int, int], kernel: tuple[int, int]) -> Float:
    """White noise smeared over `kernel` (x, y) pixels and brought back to unit variance."""
    smeared = cv2.blur(white(rng, shape), kernel, borderType=cv2.BORDER_REFLECT)
    return np.asarray(smeared, dtype=np.float32) * np.float32(np.sqrt(kernel[0] * kernel[1]))


def smooth(rng: np.random.Generator, shape: tuple[int, int], cells: int) -> Float:
    """Smooth noise with about `cells` bumps along the longer side."""
    return cloud(rng, shape, cells, 1)


def cloud(rng: np.random.Generator, shape: tuple[int, int], cells: int, octaves: int) -> Float:
    """Sum of smooth noises, each twice as fine and half as strong as the one before."""
    small = (max(8, shape[0] // 4), max(8, shape[1] // 4))
    total = np.zeros(small, dtype=np.float32)
    for octave in range(octaves):
        total += _bumps(rng, small, cells << octave) * np.float32(0.5**octave)
    total *= np.float32(1.4 / np.sqrt(sum(0.25**octave for octave in range(octaves))))
    return cv2.resize(total, shape[::-1])


def _bumps(rng: np.random.Generator, shape: tuple[int, int], cells: int) -> Float:
    """A small grid of random values, enlarged and cut free of the replicated border."""
    scale = max(shape) / cells
    rows, columns = (int(np.ceil(length / scale)) + 3 for length in shape)
    grid = rng.standard_normal((rows, columns), dtype=np.float32)
    full = (round(columns * scale), round(rows * scale))
    margin = round(1.5 * scale)
    large = cv2.resize(grid, full, interpolation=cv2.INTER_CUBIC)
    cut = large[margin : margin + shape[0], margin : margin + shape[1]]
    return cut
