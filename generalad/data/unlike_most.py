"""Good images that are unlike most of them in shape, scale, light, colour or sharpness.

A test shot, a frame with the lens cap on, a day with another white balance or channels in another
order teach a detector that such is good, and widen what it takes for usual. Told by robust fences
around the quartiles (Tukey 1977), which a mix of products widens: then nothing is said.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from generalad.image_limits import exchanged, red_and_blue_differ
from generalad.image_statistics import NEUTRAL, Statistics

_SHAPE, _SCALE = 1.1, 2.0
"""Factors from which a shape or a scale is another one."""

_FENCE = 3.0  # "far out"
_MOST = 0.2  # share of images; more are a product of their own
_SHIFT = 0.5  # of colours that are compared with their exchange
_LEAST = 8  # images that say what is usual

_LOOKS: dict[str, tuple[Callable[[Statistics], float], float]] = {
    "brightness": (lambda one: math.log(one.brightness + 1), math.log(1.5)),
    "colour (red or green)": (lambda one: one.red_green, 8.0),
    "colour (yellow or blue)": (lambda one: one.yellow_blue, 8.0),
    "sharpness": (lambda one: math.log(one.detail + 0.5), math.log(2)),
}
"""A quantity of each, and how far beyond the fence it must be at least."""


def of_another_format(shapes: Mapping[Path, tuple[int, int]]) -> tuple[list[Path], str]:
    """Images whose shape or scale is not that of most, and the usual (width x height).

    Args:
        shapes: height and width of each image.
    """
    if not shapes:
        return [], ""
    (height, width), _ = Counter(shapes.values()).most_common(1)[0]
    usual = math.log(width / height)
    odd = [
        path
        for path, (rows, columns) in shapes.items()
        if abs(math.log(columns / rows) - usual) > math.log(_SHAPE)
        or abs(math.log(rows * columns / (height * width))) > 2 * math.log(_SCALE)
    ]
    return odd, f"{width}x{height}"


def of_another_look(looks: Mapping[Path, Statistics]) -> Iterator[tuple[str, list[Path]]]:
    """What differs, and the images in which it does, each named once."""
    named: set[Path] = set()
    if len(looks) < _LEAST:
        return
    paths = list(looks)
    odd = {"colour: red and blue look exchanged": _swapped(list(looks.values()))}
    for name, (quantity, margin) in _LOOKS.items():
        odd[name] = _far_out(np.array([quantity(one) for one in looks.values()]), margin)
    for name, far in odd.items():
        found = [path for path, is_far in zip(paths, far, strict=True) if is_far]
        found = [path for path in found if path not in named]
        named.update(found)
        if found:
            yield name, found


def _swapped(looks: Sequence[Statistics]) -> NDArray[np.bool_]:
    """Whose colours are far from those of most, and with red and blue exchanged are not."""
    red_green = np.array([one.red_green - NEUTRAL for one in looks])
    yellow_blue = np.array([one.yellow_blue - NEUTRAL for one in looks])
    far, near = np.zeros(len(looks), np.bool_), np.ones(len(looks), np.bool_)
    swapped = exchanged(red_green, yellow_blue)
    for values, others in zip((red_green, yellow_blue), swapped, strict=True):
        low, high = _fence(values, _SHIFT)
        far |= (values < low) | (values > high)
        near &= (others >= low) & (others <= high)
    return _unless_many(far & near & red_and_blue_differ(red_green, yellow_blue))


def _far_out(values: NDArray[np.float64], margin: float) -> NDArray[np.bool_]:
    low, high = _fence(values, margin)
    return _unless_many((values < low) | (values > high))


def _fence(values: NDArray[np.float64], margin: float) -> tuple[float, float]:
    low, high = np.quantile(values, (0.25, 0.75))
    reach = _FENCE * (high - low) + margin
    return low - reach, high + reach


def _unless_many(found: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return found & (np.count_nonzero(found) <= _MOST * len(found))
