"""`prepare`: from a frame to the network's input, and `Placement`: from its map back to the frame.

    frame -> box of the crop -> network's size          (prepare)
    map of the network -> map of the whole frame        (Placement.to_frame)

Without a geometry the first is `preprocess.resize` alone and there is no second.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from generalad.geometry.counted import covered
from generalad.geometry.geometry import Geometry
from generalad.preprocess import resize


class Prepared(NamedTuple):
    """An image that is ready for the network.

    Attributes:
        pixels: (H, W, 3) uint8 RGB, contiguous.
        placement: where it lies in its frame; None where it is the whole frame.
    """

    pixels: NDArray[np.uint8]
    placement: Placement | None


@dataclass(frozen=True)
class Placement:
    """Where what the network saw lies in its frame."""

    geometry: Geometry

    def to_frame(self, anomaly_map: NDArray[np.float32], *, low: float) -> NDArray[np.float32]:
        """The network's map (h, w), laid over the whole frame: (h', w') float32.

        Args:
            anomaly_map: raw and finite.
            low: what stands where nothing counts, or the map's least value if that is lower.
        """
        fill = np.float32(min(low, float(anomaly_map.min())))
        height, width = anomaly_map.shape
        shown = covered(self.geometry, (height, width))
        if shown is not None:
            anomaly_map = np.where(shown, anomaly_map, fill)
        full = self.geometry.frame_size((height, width))
        if full == (height, width):
            return anomaly_map
        left, top, _, _ = self.geometry.box
        row = min(round(top * full[0]), full[0] - height)
        column = min(round(left * full[1]), full[1] - width)
        placed = np.full(full, fill, np.float32)
        placed[row : row + height, column : column + width] = anomaly_map
        return placed

    def mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """What the network sees of a mask (H, W) of its whole frame."""
        return mask[window(self.geometry, mask.shape[:2])]


def window(geometry: Geometry, size: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns of a frame (height, width) that its crop holds, at least one of each."""
    left, top, right, bottom = geometry.box
    return _span(top, bottom, size[0]), _span(left, right, size[1])


def _span(first: float, last: float, length: int) -> slice:
    begin = min(int(first * length + 1e-6), length - 1)
    return slice(begin, max(begin + 1, math.ceil(last * length - 1e-6)))


def prepare(image: NDArray[np.uint8], size: tuple[int, int], geometry: Geometry | None) -> Prepared:
    """Bring a frame to the network's input.

    Args:
        image: (H, W, 3) uint8 RGB, the whole frame.
        size: (height, width) of the network's input.
        geometry: what of the frame is judged; None for all of it.
    """
    if geometry is None:
        return Prepared(np.ascontiguousarray(resize(image, size)), None)
    seen = image[window(geometry, image.shape)]
    return Prepared(np.ascontiguousarray(resize(seen, size)), Placement(geometry))
