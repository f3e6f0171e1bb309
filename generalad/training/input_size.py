"""The network's input size in the shape of the images, so that round things stay round."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from generalad.config import Config

STEP = 32
"""Pixels: the stride of the deepest level that any head looks at."""

SAME, SHARE = 0.1, 0.8
"""Images have one shape if so many of them differ by at most so much from the usual ratio."""

MOST = 4.0
"""Largest ratio of the sides; what is longer is stretched."""


def in_shape_of_images(config: Config, sizes: Mapping[str, int]) -> Config:
    """A configuration whose input has the images' ratio and about the same area, if it is to.

    Args:
        config: as it was asked for; without `fit_aspect` it stays as it is.
        sizes: number of images of each size "WIDTHxHEIGHT".
    """
    if not config.fit_aspect:
        return config
    pairs = [size.split("x") for size in sizes]
    left, top, right, bottom = (0.0, 0.0, 1.0, 1.0) if not config.geometry else config.geometry.box
    shape = (bottom - top) / (right - left)  # of the crop in a square frame
    ratios = np.array([shape * int(height) / int(width) for width, height in pairs])
    ratios = np.sort(np.repeat(ratios, list(sizes.values())))
    usual = float(ratios[len(ratios) // 2])
    if np.mean(np.abs(ratios / usual - 1) <= SAME) < SHARE:
        return config
    usual = min(max(usual, 1 / MOST), MOST)
    side = math.sqrt(config.image_size[0] * config.image_size[1])
    lengths = (side * math.sqrt(usual), side / math.sqrt(usual))
    return config.replaced({"image_size": [max(1, round(x / STEP)) * STEP for x in lengths]})
