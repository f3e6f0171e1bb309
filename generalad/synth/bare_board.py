"""The bare circuit board: solder mask over copper, pads, vias and silkscreen."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from generalad.synth import lettering
from generalad.synth.components import SOLDER
from generalad.synth.layout import (
    COMPONENTS,
    LABELS,
    TRACES,
    TWO_PADS,
    VIAS,
    Placement,
    Point,
)
from generalad.synth.noise import Float

MARGIN = 5.0  # units around the visible part of the board
_MASK = (0.008, 0.060, 0.030)
_MASK_ON_COPPER = (0.022, 0.150, 0.066)
_INK = (0.58, 0.60, 0.56)
_HOLE = (0.01, 0.012, 0.01)


@dataclass
class Sheet:
    """The board before it is shaded."""

    colour: Float
    """(H, W, 3), linear RGB."""
    height: Float
    """(H, W), in units."""
    gloss: Float
    """(H, W), 0...1."""
    scale: float
    """Pixels for each unit."""

    def pixel(self, x: float, y: float) -> Point:
        """Pixel coordinates of a point in units."""
        return (x + MARGIN) * self.scale - 0.5, (y + MARGIN) * self.scale - 0.5

    def copy(self) -> Sheet:
        """An independent sheet."""
        return Sheet(self.colour.copy(), self.height.copy(), self.gloss.copy(), self.scale)


def _disc(image: Float, centre: Point, radius: float, value: float) -> None:
    """Draw a disc into a float image."""
    x, y = (round(c * 16) for c in centre)
    cv2.circle(image, (x, y), round(radius * 16), value, -1, cv2.LINE_8, 4)


def _box(image: Float, x: float, y: float, width: float, height: float) -> None:
    """Draw a filled box, in pixels."""
    corners = [(x - width / 2, y - height / 2), (x + width / 2, y - height / 2),
               (x + width / 2, y + height / 2), (x - width / 2, y + height / 2)]  # fmt: skip
    fixed = np.round(np.array(corners) * 16).astype(np.int32)
    cv2.fillConvexPoly(image, fixed, 1.0, cv2.LINE_8, 4)


def pads_of(placement: Placement) -> list[tuple[float, float, float, float]]:
    """Pads of a component: x, y, width, height in units."""
    pads: list[tuple[float, float, float, float]]
    if placement.kind in TWO_PADS:
        distance, along, across = TWO_PADS[placement.kind]
        pads = [(sign * distance / 2, 0, along, across) for sign in (-1, 1)]
    elif placement.kind == "small_outline":
        pads = [((i - 1.5) * 5.0, s * 11.2, 2.6, 5.4) for i in range(4) for s in (-1, 1)]
    elif placement.kind == "quad_flat":
        steps = [(i - 3.5) * 3.2 for i in range(8)]
        pads = [(t, s * 17.6, 1.9, 4.6) for t in steps for s in (-1, 1)]
        pads += [(s * 17.6, t, 4.6, 1.9) for t in steps for s in (-1, 1)]
    elif placement.kind == "electrolytic":
        pads = [(0, s * 10.4, 3.4, 5.0) for s in (-1, 1)]
    else:
        pads = [(s * 12.0, 0, 3.0, 5.0) for s in (-1, 1)]
    if placement.quarter_turns % 2:
        pads = [(-y, x, height, width) for x, y, width, height in pads]
    return [(placement.x + x, placement.y + y, w, h) for x, y, w, h in pads]


def _silkscreen(bare: Sheet, image: Float) -> Float:
    """Names and outlines."""
    height = 2.9 * bare.scale
    for text, x, y in LABELS:
        image = lettering.write(image, text, bare.pixel(x, y), height, height / 6.5)
    for part in COMPONENTS:
        half = {"quad_flat": (16, 16), "small_outline": (11.4, 8.2), "electrolytic": (11.2, 11.2),
                "crystal": (14, 6.4)}.get(part.kind, (3.2, 3.4))  # fmt: skip
        if part.quarter_turns % 2:
            half = half[::-1]
        corners = [bare.pixel(part.x + sx * half[0], part.y + sy * half[1])
                   for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1))]  # fmt: skip
        fixed = np.round(np.array(corners) * 16).astype(np.int32)
        lines = np.zeros(image.shape, dtype=np.uint8)
        cv2.polylines(lines, [fixed], True, 255, max(1, round(0.5 * bare.scale)), cv2.LINE_AA, 4)
        image = np.maximum(image, lines.astype(np.float32) / 255)
    return image


@lru_cache(maxsize=4)
def bare_board(side: int) -> tuple[Sheet, Float]:
    """The board without components, and where its copper is; cached, read only."""
    scale = side / 100
    extent = round((100 + 2 * MARGIN) * scale)
    layers: list[Float] = [np.zeros((extent, extent), np.float32) for _ in range(5)]
    lines, pads, holes, height, gloss = layers
    bare = Sheet(np.zeros((extent, extent, 3), np.float32), height, gloss, scale)
    for width, points in TRACES:
        fixed = np.round(np.array([bare.pixel(*p) for p in points]) * 16).astype(np.int32)
        cv2.polylines(lines, [fixed], False, 1.0, max(1, round(width * scale)), cv2.LINE_8, 4)
    for part in COMPONENTS:
        for x, y, across, along in pads_of(part):
            _box(pads, *bare.pixel(x, y), across * scale, along * scale)
    for via in VIAS:
        _disc(lines, bare.pixel(*via), 1.7 * scale, 1.0)
        _disc(holes, bare.pixel(*via), 0.75 * scale, 1.0)
    gap = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(0.8 * scale) + 1,) * 2)
    pour = 1 - cv2.dilate(np.maximum(lines, pads), gap)
    copper = cv2.GaussianBlur(np.maximum(np.maximum(pour, lines), pads), (0, 0), 0.9)
    pads, holes = (cv2.GaussianBlur(a, (0, 0), 0.7) for a in (pads, holes))
    ink = _silkscreen(bare, np.zeros_like(pads)) * (1 - cv2.dilate(pads, gap))
    bare.colour[:] = _MASK
    layers_of_paint = ((copper, _MASK_ON_COPPER), (ink, _INK), (pads, SOLDER), (holes, _HOLE))
    for cover, paint in layers_of_paint:
        bare.colour += cover[..., None] * (np.array(paint, np.float32) - bare.colour)
    dome = cv2.GaussianBlur(pads, (0, 0), 0.45 * scale)
    bare.height[:] = 0.28 * copper + 0.55 * dome * pads - 0.6 * holes
    bare.gloss[:] = np.maximum(0.10 * (1 - ink), 1.0 * pads)
    for array in (bare.colour, bare.height, bare.gloss, copper):
        array.setflags(write=False)
    return bare, copper
