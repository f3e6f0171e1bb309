"""Which pixels and patches of the network's input count, drawn from a `Geometry`."""

from __future__ import annotations

import functools

import cv2
import numpy as np
from numpy.typing import NDArray

from generalad.areas import Polygon, inside, middles
from generalad.errors import ConfigError
from generalad.geometry.geometry import Geometry


def counted(geometry: Geometry | None, size: tuple[int, int]) -> NDArray[np.bool_] | None:
    """(H, W) bool, read-only: which pixels of the network's input count; None for all.

    One counts if neither its own middle nor that of a neighbour is ignored, so that nothing of an
    ignored place is mixed into it where the frame is not smaller than `size`.

    Raises:
        ConfigError: nothing is left, or a polygon is too small to hold a pixel of this size.
    """
    return None if geometry is None or not geometry.ignores else _counted(geometry, size)


def covered(geometry: Geometry | None, size: tuple[int, int]) -> NDArray[np.bool_] | None:
    """(h, w) bool, read-only: pixels of the network's map whose own middle is not ignored."""
    return None if geometry is None or not geometry.ignores else _covered(geometry, size)


def counted_patches(pixels: NDArray[np.bool_], grid: tuple[int, int]) -> NDArray[np.bool_]:
    """(rows, columns) bool: which patches count: those of which half or more does.

    Args:
        pixels: (H, W) bool, see `counted`.
        grid: (rows, columns) of patches.

    Raises:
        ConfigError: none is left.
    """
    shares = cv2.resize(pixels.astype(np.float32), (grid[1], grid[0]), interpolation=cv2.INTER_AREA)
    found: NDArray[np.bool_] = np.asarray(shares, np.float32) >= 0.5
    if not found.any():
        raise ConfigError(
            f"crop and ignore leave less than half of each of {grid[0]} x {grid[1]} patches",
            remedy="draw the ignored areas smaller, or take a larger image_size",
        )
    return found


@functools.lru_cache(maxsize=16)
def _covered(geometry: Geometry, size: tuple[int, int]) -> NDArray[np.bool_]:
    left, top, right, bottom = geometry.box
    x, y = middles(size)
    x, y = left + x * (right - left), top + y * (bottom - top)
    for number, polygon in enumerate(geometry.ignore, start=1):
        if _touches(polygon, geometry.box) and not inside(polygon, x, y).any():
            raise ConfigError(
                f"ignore polygon {number} holds no pixel of the network's input, which has"
                f" {size[1]} x {size[0]} (width x height)",
                remedy="draw it larger",
            )
    found = geometry.areas.covers(x, y)
    found.flags.writeable = False
    return found


@functools.lru_cache(maxsize=16)
def _counted(geometry: Geometry, size: tuple[int, int]) -> NDArray[np.bool_]:
    shrunk = cv2.erode(_covered(geometry, size).astype(np.uint8), np.ones((3, 3), np.uint8))
    found = np.asarray(shrunk, np.uint8).view(np.bool_)
    if not found.any():
        raise ConfigError(
            "crop and ignore leave nothing to inspect", remedy="draw the ignored areas smaller"
        )
    found.flags.writeable = False
    return found


def _touches(polygon: Polygon, box: tuple[float, float, float, float]) -> bool:
    """Whether a polygon's own box overlaps another one."""
    x, y = zip(*polygon, strict=True)
    apart = min(x) >= box[2] or max(x) <= box[0] or min(y) >= box[3] or max(y) <= box[1]
    return not apart
