"""Statistics of an image that tell a camera fault or a slow change from a part with a defect.

They are taken from the network's input, after the resize, so that training and production compute
the same. One pass of halvings splits the contrast by the size of what causes it: the variance that
averaging 2 x 2 pixels takes away is that of structures of this size. Sensor noise lives in the
finest split, which is therefore left out. Shared by training and runtime; numpy and OpenCV only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from generalad.geometry.outside import filled
from generalad.spec import Reference

SATURATED = 250
"""Values from here on count as saturated; lossy compression moves 255 a little."""

QUANTILES = 21
"""Quantiles kept of each quantity: minimum, every 5 %, maximum."""

NEUTRAL = 127.5
"""Middle of the two opponent colours."""

LARGE = 1 << 23
"""Pixels; no image that is seen as a whole has more."""

_HALVINGS = 5
_COLOUR_STEP = 4
"""Saturation is a mean over every fourth pixel each way: that is enough for a camera."""


class Statistics(NamedTuple):
    """What one image looks like.

    Attributes:
        brightness: mean of the grey image, 0...255.
        contrast: its standard deviation.
        saturated: share of colour values of at least `SATURATED`, 0...1.
        detail: standard deviation of structures of 2 pixels.
        structure: standard deviation of structures of 8 and 16 pixels.
        sharpness: `detail` over `structure`; unlike them, it does not change with the exposure.
        red_green: mean of red less green, 0 (all green) to 255 (all red); `NEUTRAL` is neither.
        yellow_blue: mean of yellow (red and green) less blue, in the same way.
        saturation: mean distance between the greatest and the least of the three channels, 0...255.
    """

    brightness: float
    contrast: float
    saturated: float
    detail: float
    structure: float
    sharpness: float
    # Statistics of six numbers, as older versions took them, say nothing of colour.
    red_green: float = 0.0
    yellow_blue: float = 0.0
    saturation: float = 0.0


def statistics(pixels: NDArray[np.uint8]) -> Statistics:
    """Describe an image of the network's input size, (H, W, 3) uint8 RGB; 0.2 ms at 518 x 518.

    Images of more than `LARGE` pixels, which are judged in tiles, are looked at at a smaller scale.
    Places outside of the frame have the mean colour of the others.
    """
    pixels = filled(pixels)
    if pixels.shape[0] * pixels.shape[1] > LARGE:
        scale = (LARGE / (pixels.shape[0] * pixels.shape[1])) ** 0.5
        size = (max(1, int(pixels.shape[1] * scale)), max(1, int(pixels.shape[0] * scale)))
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    mean, deviation = cv2.meanStdDev(grey)
    variances = [float(deviation[0, 0]) ** 2]
    level = grey
    for _ in range(_HALVINGS):
        height, width = level.shape[0] // 2, level.shape[1] // 2
        if not (height and width):
            variances.append(0.0)
            continue
        level = cv2.resize(
            level[: 2 * height, : 2 * width].astype(np.float32, copy=False),
            (width, height),
            interpolation=cv2.INTER_AREA,
        )
        variances.append(float(cv2.meanStdDev(level)[1][0, 0]) ** 2)
    detail = math.sqrt(max(variances[1] - variances[2], 0.0))
    structure = math.sqrt(max(variances[3] - variances[5], 0.0))
    return Statistics(
        brightness=float(mean[0, 0]),
        contrast=math.sqrt(variances[0]),
        saturated=np.count_nonzero(pixels >= SATURATED) / pixels.size,
        detail=detail,
        structure=structure,
        sharpness=detail / max(structure, 0.1),
        **_colour(pixels),
    )


def _colour(pixels: NDArray[np.uint8]) -> dict[str, float]:
    red, green, blue, _ = cv2.mean(pixels)
    red_plane, green_plane, blue_plane = cv2.split(pixels[::_COLOUR_STEP, ::_COLOUR_STEP])
    greatest = cv2.max(cv2.max(red_plane, green_plane), blue_plane)
    least = cv2.min(cv2.min(red_plane, green_plane), blue_plane)
    return {
        "red_green": NEUTRAL + (red - green) / 2,
        "yellow_blue": NEUTRAL + ((red + green) / 2 - blue) / 2,
        "saturation": cv2.mean(greatest)[0] - cv2.mean(least)[0],
    }


def reference(
    scores: NDArray[np.float32],
    images: Sequence[Statistics],
    image_sizes: Sequence[tuple[int, int]],
) -> Reference:
    """What calibration images look like, from at least one of them.

    Args:
        scores: raw image scores, without outliers.
        images: (n,) their statistics, taken after the resize.
        image_sizes: (n,) (height, width) of the originals.
    """
    table = np.array(images, np.float64)
    sizes = np.array(image_sizes, np.int64)
    ratios = sizes[:, 1] / sizes[:, 0]
    return Reference(
        images=len(images),
        scores=quantiles(scores),
        statistics={
            name: quantiles(column)
            for name, column in zip(Statistics._fields, table.T, strict=True)
        },
        smallest=(int(sizes[:, 0].min()), int(sizes[:, 1].min())),
        largest=(int(sizes[:, 0].max()), int(sizes[:, 1].max())),
        aspect_ratios=(_short(ratios.min()), _short(ratios.max())),
    )


def quantiles(values: NDArray[np.floating]) -> tuple[float, ...]:
    """`QUANTILES` quantiles of (n,) values, rising, in six digits."""
    found = np.quantile(values.astype(np.float64), np.linspace(0, 1, QUANTILES))
    return tuple(map(_short, found))


def _short(value: float) -> float:
    """Six digits: the spec is read by people too, and travels in every artifact."""
    return float(f"{value:.6g}")
