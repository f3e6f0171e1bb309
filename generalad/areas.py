"""`Areas`: which parts of a stream's image count, as polygons, drawn to masks for its maps.

Coordinates are shares of the image, (x, y) from (0, 0) at the top left to (1, 1) at the bottom
right, so that they stay true when a camera changes its resolution.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from generalad.errors import UsageError

Polygon = tuple[tuple[float, float], ...]
"""At least three corners (x, y), 0...1; closed by itself. Where it crosses itself, the parts that
are enclosed twice are outside."""

_FORM = "write it as [[x, y], [x, y], [x, y]] with shares of the image from 0 to 1"


@dataclass(frozen=True)
class Areas:
    """The inside of the `inspect` polygons, all of it if there are none, without the `ignore` ones.

    Anomaly maps are smooth: what lies beside an area reaches a little way into it. Draw ignored
    areas somewhat larger than what they are to hide.

    Attributes:
        inspect: where anomalies count.
        ignore: where they do not, also inside of `inspect`.

    Raises:
        UsageError: a polygon has fewer than three corners or one outside of the image. Lists, as
            they come from a configuration file, are taken for tuples.
    """

    inspect: tuple[Polygon, ...] = ()
    ignore: tuple[Polygon, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "inspect", _polygons(self.inspect, "inspect"))
        object.__setattr__(self, "ignore", _polygons(self.ignore, "ignore"))

    def covers(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether places count, given as shares of the image; x and y are broadcast."""
        shape = np.broadcast_shapes(x.shape, y.shape)
        counts = np.full(shape, not self.inspect)
        for polygon in self.inspect:
            counts |= inside(polygon, x, y)
        for polygon in self.ignore:
            counts &= ~inside(polygon, x, y)
        return counts

    def mask(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """(h, w) bool, read-only: whether the middle of each pixel counts. Drawn once a size.

        Raises:
            UsageError: a polygon is too small to hold one pixel of this size, or nothing is left.
        """
        return _mask(self, size)


@functools.lru_cache(maxsize=64)
def _mask(areas: Areas, size: tuple[int, int]) -> NDArray[np.bool_]:
    mask = np.full(size, not areas.inspect)
    for name, polygons in (("inspect", areas.inspect), ("ignore", areas.ignore)):
        for number, polygon in enumerate(polygons, start=1):
            found = inside(polygon, *middles(size))
            if not found.any():
                raise UsageError(
                    f"{name} polygon {number} holds no pixel of the map, which has "
                    f"{size[1]} x {size[0]} (width x height)",
                    remedy="draw it larger",
                )
            mask[found] = name == "inspect"
    if not mask.any():
        raise UsageError(
            "the ignored areas leave nothing to inspect", remedy="draw them smaller, or leave one"
        )
    mask.flags.writeable = False  # the cache hands it to every caller
    return mask


def middles(size: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The middles of an image's pixels as shares of it: x (1, w) and y (h, 1)."""
    height, width = size
    return (np.arange(width)[None, :] + 0.5) / width, (np.arange(height)[:, None] + 0.5) / height


def inside(polygon: Polygon, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether a ray from each place to the right crosses an odd number of sides."""
    found = np.zeros(np.broadcast_shapes(x.shape, y.shape), bool)
    for (x1, y1), (x2, y2) in zip(polygon, (*polygon[1:], polygon[0]), strict=True):
        if y1 != y2:
            crosses = (y1 <= y) != (y2 <= y)
            found ^= crosses & (x < x1 + (y - y1) * (x2 - x1) / (y2 - y1))
    return found


def _polygons(values: Any, name: str) -> tuple[Polygon, ...]:
    if not _is_list(values):
        raise UsageError(f"{name}: expected a list of polygons, found {values!r}", remedy=_FORM)
    return tuple(_polygon(value, f"{name} polygon {n}") for n, value in enumerate(values, start=1))


def _polygon(corners: Any, name: str) -> Polygon:
    if not _is_list(corners) or len(corners) < 3:
        raise UsageError(f"{name}: expected at least 3 corners, found {corners!r}", remedy=_FORM)
    return tuple(_corner(corner, name) for corner in corners)


def _corner(corner: Any, name: str) -> tuple[float, float]:
    if not (_is_list(corner) and len(corner) == 2 and all(map(_is_share, corner))):
        raise UsageError(
            f"{name}: expected corners (x, y) between 0 and 1, found {corner!r}", remedy=_FORM
        )
    return float(corner[0]), float(corner[1])


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _is_share(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and 0 <= value <= 1
