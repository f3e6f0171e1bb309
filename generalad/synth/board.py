"""A printed circuit board: solder mask over copper, pads, silkscreen and components.

The bare board is the same for all images and drawn once for each size. An image puts the
components on it, each a little off its place, shades the relief, casts the shadows and lays the
board under the camera.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from generalad.synth.bare_board import Sheet, bare_board
from generalad.synth.components import sprite
from generalad.synth.layout import COMPONENTS, Placement
from generalad.synth.marks import draw_line, paint, solid, stroke
from generalad.synth.noise import Float, cloud, white
from generalad.synth.scene import Category, Drawing, Lighting, unit, vignette

_COPPER = np.array([0.62, 0.30, 0.14], dtype=np.float32)
_LAMINATE = np.array([0.36, 0.36, 0.20], dtype=np.float32)
_LOOSE = tuple(
    i for i, part in enumerate(COMPONENTS) if part.kind not in ("quad_flat", "small_outline")
)
_LAMP = -2.25  # azimuth in radians
_VISIBLE_SHADOW = 0.1  # smallest change of a shadow that belongs to a defect
_SLOPE = 0.9  # height of the lamp: rise over run of the shadows


def place(sheet: Sheet, part: Placement, slip: NDArray[np.float64], coverage: Float) -> None:
    """Put a component on the sheet and raise `coverage` where it is.

    `slip` is the shift x and y in units, the turn in radians and the log of the tone.
    """
    image = sprite(part.kind, part.text, part.quarter_turns, sheet.scale)
    h, w = image.colour.shape[:2]
    c, s = abs(math.cos(slip[2])), abs(math.sin(slip[2]))
    box = (math.ceil(w * c + h * s) + 4, math.ceil(h * c + w * s) + 4)
    x, y = sheet.pixel(part.x + slip[0], part.y + slip[1])
    extent = sheet.height.shape[0]
    left = min(max(round(x - box[0] / 2), 0), extent - box[0])
    top = min(max(round(y - box[1] / 2), 0), extent - box[1])
    matrix = cv2.getRotationMatrix2D(((w - 1) / 2, (h - 1) / 2), -math.degrees(slip[2]), 1.0)
    matrix[:, 2] += (x - left - (w - 1) / 2, y - top - (h - 1) / 2)
    red, green, blue, cover = cv2.split(cv2.warpAffine(image.colour, matrix, box))
    height, gloss = cv2.split(cv2.warpAffine(image.relief, matrix, box))
    area = np.s_[top : top + box[1], left : left + box[0]]
    keep = 1 - cover
    under = cv2.multiply(sheet.colour[area], cv2.merge([keep] * 3))
    above = cv2.merge([red, green, blue])
    sheet.colour[area] = cv2.addWeighted(above, math.exp(slip[3]), under, 1.0, 0)
    sheet.height[area] = sheet.height[area] * keep + height
    sheet.gloss[area] = sheet.gloss[area] * keep + gloss
    coverage[area] = np.maximum(coverage[area], cover)


def cast(sheet: Sheet, lighting: Lighting) -> Float:
    """Share of the key light that the relief blocks, (H, W); marched at half size."""
    height: Float = cv2.resize(sheet.height, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    dx, dy = unit(_LAMP + lighting.azimuth)
    dark = np.zeros_like(height)
    for step in (1, 2, 3.5, 5.5, 8):
        run = step * 0.5  # units
        move = np.array([[1, 0, -dx * run * sheet.scale / 2], [0, 1, -dy * run * sheet.scale / 2]])
        blocker = cv2.warpAffine(height, move, height.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
        dark = np.maximum(dark, blocker - height - np.float32(run * _SLOPE))
    dark = np.clip(dark * 1.5, 0, 1)
    dark = cv2.blur(dark, (3, 3))
    return cv2.resize(dark, sheet.height.shape[::-1])


def _shade(sheet: Sheet, dark: Float, lighting: Lighting) -> Float:
    """Light reflected by the board, (H, W, 3)."""
    steps = 0.125 * sheet.scale
    gx: Float = cv2.Sobel(sheet.height, cv2.CV_32F, 1, 0, ksize=3, scale=steps)
    gy: Float = cv2.Sobel(sheet.height, cv2.CV_32F, 0, 1, ksize=3, scale=steps)
    lx, ly = unit(_LAMP + lighting.azimuth)
    diffuse = np.clip(0.95 - 0.5 * (gx * np.float32(lx) + gy * np.float32(ly)), 0.25, 1.9)
    lit = 1 - 0.72 * dark
    diffuse *= lit
    # The mirror direction of the lamp is a slope of 0.28 towards it.
    away = cv2.magnitude(gx + np.float32(0.28 * lx), gy + np.float32(0.28 * ly))
    lobe = 1 + cv2.multiply(away, away, scale=1 / 0.24**2)
    shine = sheet.gloss * lit * np.float32(0.85) / (lobe * lobe)
    return cv2.add(cv2.multiply(sheet.colour, cv2.merge([diffuse] * 3)), cv2.merge([shine] * 3))


def _pose(rng: np.random.Generator, extent: int, side: int) -> NDArray[np.float64]:
    """The matrix that lays the sheet under the camera: turned, shifted and tilted a little."""
    turn, zoom = float(rng.normal(0, 0.008)), 1 + float(rng.normal(0, 0.005))
    c, s = math.cos(turn) * zoom, math.sin(turn) * zoom
    shift = rng.normal(0, 0.006, 2) * side
    tilt = rng.normal(0, 0.010, 2) / side
    to_centre = np.array([[1, 0, -extent / 2], [0, 1, -extent / 2], [0, 0, 1]])
    pose = np.array([[c, -s, shift[0]], [s, c, shift[1]], [tilt[0], tilt[1], 1]])
    back = np.array([[1, 0, side / 2], [0, 1, side / 2], [0, 0, 1]])
    return np.asarray(back @ pose @ to_centre)


def draw(
    part: np.random.Generator,
    flaw: np.random.Generator,
    lighting: Lighting,
    defect: str | None,
    side: int,
) -> Drawing:
    """Draw one board; see `scene.Category`."""
    bare, copper = bare_board(side)
    sheet = bare.copy()
    extent = sheet.height.shape[0]
    uneven = 1 + 0.05 * cloud(part, (extent, extent), 6, 2) + 0.05 * white(part, (extent, extent))
    sheet.colour = cv2.multiply(sheet.colour, cv2.merge([uneven] * 3))
    slips = part.normal(0, (0.16, 0.16, 0.010, 0.05), (len(COMPONENTS), 4))
    matrix = _pose(part, extent, side)

    chosen = _loose_part(flaw) if defect in ("missing", "misplaced") else None
    parts = np.zeros((extent, extent), dtype=np.float32)
    for index, (component, slip) in enumerate(zip(COMPONENTS, slips, strict=True)):
        if index != chosen:
            place(sheet, component, slip, parts)
    dark = cast(sheet, lighting)
    coverage: Float | None = None
    if defect == "scratch":
        coverage = _draw_scratch(flaw, sheet, copper, parts)
    elif chosen is not None:
        slip = slips[chosen] + _slip(flaw) if defect == "misplaced" else None
        dark, coverage = _replace(sheet, COMPONENTS[chosen], slips[chosen], slip, lighting)
    light = cv2.warpPerspective(_shade(sheet, dark, lighting), matrix, (side, side))
    light = light * vignette(side, 0.16)
    if coverage is not None:
        coverage = cv2.warpPerspective(coverage, matrix, (side, side))
    return Drawing(light, coverage)


def _replace(
    sheet: Sheet,
    part: Placement,
    right: NDArray[np.float64],
    wrong: NDArray[np.float64] | None,
    lighting: Lighting,
) -> tuple[Float, Float]:
    """Put a component where it should not be, or nowhere; returns the shadows and the coverage.

    The coverage is what the part hides in its right place and in the wrong one, and the shadows
    that differ. A shadow that changes too little to be seen stays as it was.
    """
    coverage = np.zeros_like(sheet.height)
    good = sheet.copy()
    place(good, part, right, coverage)
    if wrong is not None:
        place(sheet, part, wrong, coverage)
    before, after = cast(good, lighting), cast(sheet, lighting)
    changed = solid((np.abs(before - after) > _VISIBLE_SHADOW).astype(np.float32))
    coverage = np.maximum(coverage > 0.01, changed)
    return np.where(coverage > 0, after, before), coverage


def _loose_part(rng: np.random.Generator) -> int:
    """The component that is missing or misplaced."""
    return int(_LOOSE[int(rng.integers(len(_LOOSE)))])


def _slip(rng: np.random.Generator) -> NDArray[np.float64]:
    """How a component slipped before soldering; see `board.place`."""
    turn = float(rng.uniform(0.25, 0.75) * rng.choice((-1, 1)))
    direction, length = float(rng.uniform(0, 2 * math.pi)), float(rng.uniform(0.4, 2.2))
    return np.array([length * math.cos(direction), length * math.sin(direction), turn, 0.0])


def _draw_scratch(rng: np.random.Generator, sheet: Sheet, copper: Float, parts: Float) -> Float:
    """Scrape the solder mask off along a line between the components; returns the coverage."""
    extent = parts.shape[0]
    best = np.zeros_like(parts)
    for _ in range(6):  # the free places are small: keep the longest of a few tries
        middle = rng.uniform(0.14, 0.86, 2) * extent
        angle, length = float(rng.uniform(0, math.pi)), float(rng.uniform(0.10, 0.24)) * extent
        start = middle - 0.5 * length * np.array([math.cos(angle), math.sin(angle)])
        line = stroke(rng, (start[0], start[1]), angle, length, float(rng.normal(0, 0.05)))
        taper = np.sqrt(np.sin(np.linspace(0.15, math.pi - 0.1, len(line))))
        width = float(rng.uniform(0.9, 1.6)) * sheet.scale * taper
        width = np.maximum(width, 3.0).astype(np.float32)
        cover = solid(draw_line(extent, line, width) * (1 - parts))
        if cover.sum() > best.sum():
            best = cover
    bare = _LAMINATE + copper[..., None] * (_COPPER - _LAMINATE)
    paint(sheet.colour, float(rng.uniform(0.75, 1.0)) * best, bare)
    sheet.height -= 0.22 * best
    sheet.gloss += best * (0.25 + 0.35 * copper - sheet.gloss)
    return np.asarray(best > 0.01, dtype=np.float32)


CATEGORY = Category("board", ("missing", "misplaced", "scratch"), draw)
