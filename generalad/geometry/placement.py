"""`prepare`: from a frame to the network's input, and `Placement`: from its map back to the frame.

    frame -> part in place -> box of the crop -> network's size     (prepare)
    map of the network -> map of the whole frame                     (Placement.to_frame)

Without a geometry the first is `preprocess.resize` alone and there is no second.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from generalad.errors import DataError
from generalad.geometry.geometry import Geometry, Polygon, Tiles
from generalad.preprocess import resize

Square = NDArray[np.float64]
"""(3, 3), a map of the plane."""


PAINT = (124, 116, 104)
"""Of ignored areas in frames that are cut: the mean colour of ImageNet."""

FINER = 2
"""Times the network's scale at which a part is turned into place."""

NOT_FOUND = "not found"
"""The fault of a frame that does not show the part."""


class PartNotFound(DataError):
    """The part is not in the frame, or not so that its template finds it; no score is given."""


class Prepared(NamedTuple):
    """An image that is ready for the network.

    Attributes:
        pixels: (H, W, 3) uint8 RGB, contiguous.
        placement: where it lies in its frame; None where it is the whole frame.
    """

    pixels: NDArray[np.uint8]
    placement: Placement | None


@dataclass(frozen=True, eq=False)
class Placement:
    """Where what the network saw lies in its frame.

    Attributes:
        geometry: that of the artifact.
        pose: from shares (x, y) of the frame to those of the frame in which the part is in place;
            None where it was not looked for.
        match: of the part with its template, -1...1; None where it was not looked for.
    """

    geometry: Geometry
    pose: Square | None = None
    match: float | None = None

    def to_frame(self, anomaly_map: NDArray[np.float32], *, low: float) -> NDArray[np.float32]:
        """The network's map (h, w), laid over the whole frame: (h', w') float32.

        Args:
            anomaly_map: raw and finite.
            low: what stands where nothing counts, or the map's least value if that is lower.
        """
        from generalad.geometry.counted import covered  # not for a run without a geometry

        fill = min(low, float(anomaly_map.min()))
        size = (anomaly_map.shape[0], anomaly_map.shape[1])
        shown = covered(self.geometry, size)
        if shown is not None:
            anomaly_map = np.where(shown, anomaly_map, np.float32(fill))
        return self._laid(anomaly_map, self.geometry.frame_size(size), fill)

    def counted(self, size: tuple[int, int]) -> NDArray[np.bool_] | None:
        """(H, W) bool: which pixels of the whole frame of this size count; None for all."""
        from generalad.areas import middles
        from generalad.geometry.counted import covered

        geometry = self.geometry
        if self.pose is None:
            if not geometry.crop and not geometry.ignore:
                return None
            return geometry.areas.covers(*middles(size))
        left, top, right, bottom = geometry.box
        height = max(1, round(size[0] * (bottom - top)))
        width = max(1, round(size[1] * (right - left)))
        shown = covered(geometry, (height, width))
        seen = np.ones((height, width), np.float32) if shown is None else shown.astype(np.float32)
        return self._laid(seen, size, 0.0) > 0

    def mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """What the network sees of a mask (H, W) of its whole frame, at the frame's scale."""
        if self.pose is None:
            return mask[window(self.geometry, mask.shape)]
        height, width = mask.shape
        left, top, right, bottom = self.geometry.box
        size = (max(1, round(height * (bottom - top))), max(1, round(width * (right - left))))
        matrix = _to_pixels(size) @ self._to_box() @ _from_pixels((height, width))
        moved = cv2.warpAffine(mask.view(np.uint8), matrix[:2], size[::-1], flags=cv2.INTER_NEAREST)
        return np.asarray(moved, np.uint8) > 0

    def _laid(
        self, values: NDArray[np.float32], full: tuple[int, int], fill: float
    ) -> NDArray[np.float32]:
        """What is known of the box (h, w), on a frame of the size `full`."""
        height, width = values.shape
        if self.pose is not None:
            matrix = _to_pixels((height, width)) @ self._to_box() @ _from_pixels(full)
            laid = cv2.warpAffine(
                values, matrix[:2], full[::-1], flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_CONSTANT, borderValue=fill,
            )  # fmt: skip
            return np.asarray(laid, np.float32)
        if full == (height, width):
            return values
        left, top, _, _ = self.geometry.box
        row = min(round(top * full[0]), full[0] - height)
        column = min(round(left * full[1]), full[1] - width)
        placed = np.full(full, fill, np.float32)
        placed[row : row + height, column : column + width] = values
        return placed

    def _to_box(self) -> Square:
        """From shares of the frame to shares of the box."""
        pose = np.eye(3) if self.pose is None else self.pose
        left, top, right, bottom = self.geometry.box
        box = np.diag([1 / (right - left), 1 / (bottom - top), 1.0])
        box[:2, 2] = -left / (right - left), -top / (bottom - top)
        return np.asarray(box @ pose, np.float64)


def prepare(image: NDArray[np.uint8], size: tuple[int, int], geometry: Geometry | None) -> Prepared:
    """Bring a frame to the network's input.

    Args:
        image: (H, W, 3) uint8 RGB, the whole frame.
        size: (height, width) of the network's input.
        geometry: what of the frame is judged; None for all of it.

    Raises:
        PartNotFound: the frame does not show the part.
        DataError: a frame that is to be cut into tiles has another size than those of training.
    """
    if geometry is None:
        return Prepared(np.ascontiguousarray(resize(image, size)), None)
    if geometry.tiles is not None:
        _check_frame(image, geometry.tiles)
    if geometry.template is None:
        seen = image[window(geometry, image.shape)]
        placed = Placement(geometry)
        return Prepared(_painted(np.ascontiguousarray(resize(seen, size)), geometry), placed)
    placement = _found(image, geometry)
    pixels = _turned(image, size, placement)
    if geometry.marks_outside:
        from generalad.geometry.outside import marked  # not for a start without a template

        pixels = marked(pixels, _outside(size, placement))
    return Prepared(_painted(pixels, geometry), placement)


def _turned(
    image: NDArray[np.uint8], size: tuple[int, int], placement: Placement
) -> NDArray[np.uint8]:
    """The box with the part in place, (H, W, 3).

    Turned at `FINER` times the network's scale and then averaged, so that it is as sharp after
    every turn; what shrinks by more is averaged before that too. Frames in tiles are large enough.
    """
    times = FINER if placement.geometry.tiles is None else 1
    finer = size[0] * times, size[1] * times
    most = placement.geometry.frame_size(finer)
    larger = image.shape[0] > most[0] and image.shape[1] > most[1]
    scaled = resize(image, most) if larger else image
    matrix = _to_pixels(finer) @ placement._to_box() @ _from_pixels(scaled.shape)
    turned = cv2.warpAffine(
        scaled, matrix[:2], finer[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(cv2.resize(turned, size[::-1], interpolation=cv2.INTER_AREA), np.uint8)


def _outside(size: tuple[int, int], placement: Placement) -> NDArray[np.bool_]:
    """(H, W) bool: which pixels lie farther outside of the frame than its border is drawn out."""
    scale = placement.geometry.frame_size(size)
    matrix = _to_pixels(size) @ placement._to_box() @ _from_pixels(scale)
    from generalad.geometry.outside import DRAWN_OUT

    inside = cv2.warpAffine(
        np.ones(scale, np.uint8), matrix[:2], size[::-1], flags=cv2.INTER_NEAREST
    )
    height, width = (1 + 2 * round(DRAWN_OUT * length) for length in size)
    grown = np.asarray(cv2.dilate(inside, np.ones((height, width), np.uint8)), np.uint8)
    return np.asarray(grown == 0, np.bool_)


def _check_frame(image: NDArray[np.uint8], tiles: Tiles) -> None:
    if image.shape[:2] != tiles.frame:
        height, width = tiles.frame
        raise DataError(
            f"the frame is {image.shape[1]} x {image.shape[0]}, expected {width} x {height}: in its"
            " tiles everything would be of another size",
            remedy="set the camera as it was in training, or train for this size",
        )


def _painted(pixels: NDArray[np.uint8], geometry: Geometry) -> NDArray[np.uint8]:
    """Frames that are cut have their ignored areas painted over here, others in the graph.

    A mask of all their pixels would be larger than the network.
    """
    if geometry.tiles is None or not geometry.ignores:
        return pixels
    left, top, right, bottom = geometry.box
    size = np.array([right - left, bottom - top])
    sides = np.array(pixels.shape[1::-1])

    def corners(polygon: Polygon) -> NDArray[np.int32]:
        places = np.round((np.array(polygon) - (left, top)) / size * sides)
        return np.asarray(places, np.int32)

    pixels = pixels.copy()
    if geometry.ignore:
        cv2.fillPoly(pixels, [corners(polygon) for polygon in geometry.ignore], PAINT)
    if geometry.crop:
        outside = np.ones(pixels.shape[:2], np.uint8)
        cv2.fillPoly(outside, [corners(geometry.crop)], (0,))
        pixels[outside > 0] = PAINT
    return pixels


def frame_of(tile: NDArray[np.uint8], geometry: Geometry) -> NDArray[np.uint8]:
    """A network's input (H, W, 3) that is made of one tile (side, side, 3), again and again.

    What is kept of frames that are cut, for a proof or a self-test, is as small as a tile.
    """
    height, width = geometry.tiled_size()
    times = (-(-height // tile.shape[0]), -(-width // tile.shape[1]), 1)
    return np.ascontiguousarray(np.tile(tile, times)[:height, :width])


def without_template(geometry: Geometry | None) -> Geometry | None:
    """The same, but the part is not looked for: frames are seen as they come."""
    if geometry is None or geometry.template is None:
        return geometry
    return dataclasses.replace(geometry, template=None)


def window(geometry: Geometry, size: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns of a frame (height, width) that its crop holds, at least one of each."""
    left, top, right, bottom = geometry.box
    return _span(top, bottom, size[0]), _span(left, right, size[1])


def _span(first: float, last: float, length: int) -> slice:
    begin = min(int(first * length + 1e-6), length - 1)
    return slice(begin, max(begin + 1, math.ceil(last * length - 1e-6)))


def _found(image: NDArray[np.uint8], geometry: Geometry) -> Placement:
    from generalad.geometry.teach import finder_of  # only where parts are looked for

    template = geometry.template
    assert template is not None
    found = finder_of(template).find(image)
    if why := found.fault(template.least):
        raise PartNotFound(why, remedy="check that the part is there, whole and in focus")
    pose = np.eye(3)
    pose[:2] = found.matrix
    return Placement(
        geometry, _from_pixels(image.shape) @ pose @ _to_pixels(image.shape), found.match
    )


def _to_pixels(size: tuple[int, ...]) -> Square:
    """From shares (x, y) of an image (height, width) to pixels, middles at whole numbers."""
    return np.array([[size[1], 0, -0.5], [0, size[0], -0.5], [0, 0, 1]], np.float64)


def _from_pixels(size: tuple[int, ...]) -> Square:
    """The way back from `_to_pixels`."""
    return np.array(
        [[1 / size[1], 0, 0.5 / size[1]], [0, 1 / size[0], 0.5 / size[0]], [0, 0, 1]], np.float64
    )
