"""Images and references that the tests of camera faults, drift and calibration share."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from generalad.image_statistics import reference, statistics
from generalad.spec import Reference

Image = NDArray[np.uint8]
SIZE = (128, 128)


def part(rng: np.random.Generator, *, light: float = 1.0, size: tuple[int, int] = SIZE) -> Image:
    """A textured disc on a dark ground, slightly different every time, with sensor noise."""
    height, width = size
    rows, columns = np.mgrid[0:height, 0:width] / min(size)
    y, x = rng.normal(0.5, 0.02, 2)
    grain = cv2.resize(rng.normal(0, 25, (height // 2, width // 2)), (width, height))
    disc = np.hypot(rows - y, columns - x) < 0.35
    grey = np.where(disc, 120 + grain, 40) * light * rng.normal(1, 0.02)
    return pixels(grey[..., None] + rng.normal(0, 2, (*size, 3)))


def pixels(values: NDArray[np.floating]) -> Image:
    """Rounded and cut to 0...255."""
    return np.asarray(np.clip(values.round(), 0, 255), np.uint8)


def blurred(image: Image, sigma: float) -> Image:
    """Out of focus."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)


def reference_of(
    images: Sequence[Image], *, image_size: tuple[int, int] = SIZE, seed: int = 0
) -> Reference:
    """Of these images, with random scores around 1."""
    scores = np.random.default_rng(seed).normal(1, 0.1, len(images)).astype(np.float32)
    return reference(scores, [statistics(one) for one in images], [image_size] * len(images))
