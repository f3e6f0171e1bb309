"""Anomaly maps as images: heat maps, and overlays that leave normal areas untouched."""

from __future__ import annotations

import functools

import cv2
import numpy as np
from numpy.typing import NDArray

from generalad.callable_module import make_callable
from generalad.errors import DataError
from generalad.spec import Spec

Image = NDArray[np.uint8]  # (H, W, 3), RGB

CONTOUR_COLOUR = (255, 255, 255)
_LEAST_COLOUR, _GREATEST_COLOUR = 70, 245  # the part of INFERNO between near black and near white
_GREATEST_OPACITY = 0.65
_STRIP = 1 << 18  # pixels that are blended at a time
_CLEAR_BELOW = 0.25  # share of the scale that stays fully transparent


def heat_map(
    anomaly_map: NDArray[np.float32], size: tuple[int, int], low: float, high: float
) -> Image:
    """Colour a raw map (h, w) at `size` (H, W): `low` and below dark, `high` and above bright."""
    levels = _levels(resize_map(anomaly_map, size), low, high)
    return np.asarray(cv2.applyColorMap(levels, _colours()[:, None]), np.uint8)


def overlay(
    image: Image,
    anomaly_map: NDArray[np.float32],
    *,
    threshold: float,
    low: float | None = None,
    own: bool = False,
) -> Image:
    """Lay a raw map (h, w) over an RGB image (H, W, 3); a new image comes back.

    Opacity and colour rise from `low`, the smallest value of the map if not given, through the
    middle of the scale at `threshold` up to as far above it again. A line is drawn around the areas
    at or above `threshold`. Give the same `low` to images that are to be compared; one at or
    above the threshold shows all that reaches it at full strength. `own` draws in the image itself,
    which then is what comes back.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise DataError(f"expected an RGB image (H, W, 3) uint8, found {image.shape} {image.dtype}")
    height, width = image.shape[:2]
    if low is None:
        low = float(anomaly_map.min())
    reach = max(threshold - low, 1e-6 * max(1.0, abs(threshold)))
    wide = resize_map(anomaly_map, (len(anomaly_map), width))
    blended = image if own else np.empty_like(image)
    reached = np.empty((height, width), np.bool_)
    strip = max(1, _STRIP // width)
    for first in range(0, height, strip):  # a whole map of a large image takes more than the image
        rows = slice(first, min(first + strip, height))
        values = _rows(wide, height, rows)
        blended[rows] = _blend(image[rows], _levels(values, threshold - reach, threshold + reach))
        np.greater_equal(values, threshold, out=reached[rows])
    outline(blended, reached, CONTOUR_COLOUR)
    return blended


def _rows(wide: NDArray[np.float32], height: int, rows: slice) -> NDArray[np.float32]:
    """Some rows of a map (h, W) at `height`, as `resize_map` has them up to rounding."""
    place = (np.arange(rows.start, rows.stop) + 0.5) * (len(wide) / height) - 0.5
    above = np.clip(np.floor(place), 0, len(wide) - 1).astype(np.intp)
    share = np.clip(place - above, 0, 1).astype(np.float32)[:, None]
    found = wide[above]
    found += share * (wide[np.minimum(above + 1, len(wide) - 1)] - found)
    return found


def _blend(image: Image, levels: NDArray[np.uint8]) -> Image:
    premultiplied, transparency = _blend_tables()
    kept = cv2.multiply(image, cv2.applyColorMap(levels, transparency), scale=1 / 255)
    return np.asarray(cv2.add(kept, cv2.applyColorMap(levels, premultiplied)), np.uint8)


def draw(image: Image, anomaly_map: NDArray[np.float32], spec: Spec, *, own: bool = False) -> Image:
    """Overlay on one scale for all images of an artifact; RGB (H, W, 3) in and out.

    The scale starts four normalisation scales below the threshold: a typical good image peaks at
    two, which is where the overlay begins to be visible. `own` as for `overlay`.
    """
    pixel, scale = spec.thresholds.pixel, spec.normalisation.scale
    return overlay(image, anomaly_map, threshold=pixel, low=pixel - 4 * scale, own=own)


def outline(image: Image, mask: NDArray[np.bool_], colour: tuple[int, int, int]) -> None:
    """Draw the borders of a mask (H, W) into `image`, in place."""
    contours, _ = cv2.findContours(
        np.ascontiguousarray(mask).view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE
    )
    thickness = max(2, round(min(image.shape[:2]) / 240))
    cv2.drawContours(image, contours, -1, colour, thickness)


def resize_map(anomaly_map: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """A map (h, w) at another size (height, width), linearly between its values."""
    values = np.ascontiguousarray(anomaly_map, dtype=np.float32)
    if values.ndim != 2:
        raise DataError(f"expected a map (h, w), found shape {values.shape}")
    return np.asarray(cv2.resize(values, size[::-1], interpolation=cv2.INTER_LINEAR), np.float32)


def _levels(values: NDArray[np.float32], low: float, high: float) -> NDArray[np.uint8]:
    """Scale low…high to 0…255."""
    scale = 255 / max(high - low, 1e-12)
    scaled = cv2.addWeighted(values, scale, values, 0.0, -low * scale, dtype=cv2.CV_8U)
    return np.asarray(scaled, np.uint8)


@functools.cache
def _colours() -> Image:
    """256 RGB colours, dark violet to light yellow, rising evenly in lightness."""
    steps = np.linspace(_LEAST_COLOUR, _GREATEST_COLOUR, 256).round().astype(np.uint8)
    bgr = cv2.applyColorMap(steps[:, None], cv2.COLORMAP_INFERNO)[:, 0]
    return np.ascontiguousarray(bgr[:, ::-1])


@functools.cache
def _blend_tables() -> tuple[Image, Image]:
    """Colour times opacity, and 255 times transparency, for every level: (256, 1, 3) each."""
    rising = np.clip((np.arange(256) / 255 - _CLEAR_BELOW) / (0.6 - _CLEAR_BELOW), 0, 1)
    opacity = (_GREATEST_OPACITY * rising)[:, None]
    premultiplied = np.round(_colours() * opacity).astype(np.uint8)[:, None, :]
    transparency = np.repeat(np.round(255 * (1 - opacity)), 3, axis=1).astype(np.uint8)[:, None, :]
    return premultiplied, transparency


make_callable(__name__, "generalad.overlay:overlay")
