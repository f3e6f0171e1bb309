"""The network's input size: in the shape of the images, and larger where they show more.

Round things stay round, and a defect that fills a few pixels of a large image is not averaged away
before anything looks at it.
"""

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

LARGE = 1.3
"""Times the preset's area from which on it is said: rounding to `STEP` makes less difference."""

LARGER = 1.5
"""Times the side of the preset's input up to which the input follows the images: more is seen, and
each image takes 2.25 times as long (docs/quality.md)."""


def input_of_images(config: Config, sizes: Mapping[str, int]) -> Config:
    """A configuration whose input has the images' ratio and size, within limits, if it is to.

    The ratio is that of most images; without one that they share the input is square. The area is
    that of the median image, from the configuration's own to `LARGER` squared times that.

    Args:
        config: as it was asked for; without `fit_images` it stays as it is.
        sizes: number of images of each size "WIDTHxHEIGHT".
    """
    if not config.fit_images:
        return config
    pairs = [[int(side) for side in size.split("x")] for size in sizes]
    left, top, right, bottom = (0.0, 0.0, 1.0, 1.0) if not config.geometry else config.geometry.box
    counts = list(sizes.values())
    heights, widths = ((bottom - top) * y for _, y in pairs), ((right - left) * x for x, _ in pairs)
    shapes = np.repeat(np.array(list(zip(heights, widths, strict=True))), counts, axis=0)
    own = config.image_size[0] * config.image_size[1]
    area = min(max(float(np.median(shapes.prod(axis=1))), own), LARGER**2 * own)
    usual = float(np.median(ratios := shapes[:, 0] / shapes[:, 1]))
    if np.mean(np.abs(ratios / usual - 1) <= SAME) < SHARE:
        usual = config.image_size[0] / config.image_size[1]
    usual = min(max(usual, 1 / MOST), MOST)
    lengths = (math.sqrt(area * usual), math.sqrt(area / usual))
    return config.replaced({"image_size": [max(1, round(x / STEP)) * STEP for x in lengths]})


def size_announcement(asked: Config, found: Config) -> str:
    """A line for whoever pays for a larger input; empty where it is not larger."""
    before, after = math.prod(asked.image_size), math.prod(found.image_size)
    if after < LARGE * before:
        return ""
    height, width = found.image_size
    return (
        f"images are judged at {width} x {height} pixels, which takes {after / before:.1f} times as"
        f" long as the preset's {asked.image_size[1]} x {asked.image_size[0]} and sees smaller"
        " defects; --image-size sets another size"
    )
