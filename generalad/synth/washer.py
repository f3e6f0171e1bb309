"""A turned steel washer on a dark conveyor belt.

The face is brushed around the axis, so it reflects a lamp as a pair of opposite wedges: the
highlight is narrow along the grooves and wide across them (Ward, "Measuring and Modeling
Anisotropic Reflection", 1992, with a rational lobe instead of the Gaussian one).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from generalad.synth.marks import blob, draw_line, paint, solid, stroke
from generalad.synth.noise import Float, cloud, grain, smooth, white
from generalad.synth.scene import Category, Drawing, Lighting, grid, unit

KEY_LIGHT = -2.2  # azimuth of the strongest lamp in radians
_RUST = np.array([0.23, 0.095, 0.035], dtype=np.float32)
_BELT = (0.034, 0.038, 0.042)
_STEEL = (0.97, 1.0, 1.02)
# Lamps: azimuth in radians, tilt of the half vector, strength, width of the wedge.
_LAMPS = (
    (KEY_LIGHT, 0.40, 0.62, 0.055),
    (-0.75, 0.34, 0.30, 0.04),
    (1.35, 0.30, 0.12, 0.10),
)


@dataclass(frozen=True)
class Shape:
    """Where the washer lies; lengths are shares of the image's side."""

    x: float
    y: float
    outer: float
    inner: float
    bevel: float
    squash: float
    turn: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Shape:
        """A washer within tolerance, laid down within a few pixels."""
        return cls(
            x=float(rng.normal(0, 0.010)),
            y=float(rng.normal(0, 0.010)),
            outer=float(0.375 * (1 + rng.normal(0, 0.004))),
            inner=float(0.185 * (1 + rng.normal(0, 0.006))),
            bevel=float(0.014 * (1 + rng.normal(0, 0.08))),
            squash=float(1 - rng.uniform(0.0, 0.02)),
            turn=float(rng.uniform(0, 2 * math.pi)),
        )


def _grooves(rng: np.random.Generator, radius: Float, angle: Float, side: int) -> Float:
    """Turning marks: noise that is fine across the grooves and long along them."""
    first, rows, columns = round(0.17 * side), round(0.23 * side), 512
    overlap = 64  # the table closes around the axis
    fine = grain(rng, (rows, columns), (61, 1))
    coarse = cv2.resize(grain(rng, (rows // 3, columns // 4), (61, 1)), (columns, rows))
    ring = white(rng, (rows, 1))
    table = 0.6 * fine + 0.5 * coarse + 0.45 * ring
    fade = np.linspace(0, 1, overlap, dtype=np.float32)
    table[:, :overlap] = fade * table[:, :overlap] + (1 - fade) * table[:, -overlap:]
    table = table[:, :-overlap]
    across = radius * np.float32(side) - np.float32(first)
    along = angle * np.float32((columns - overlap) / (2 * math.pi))
    marks = cv2.remap(table, along, across, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return marks


def _face(grooves: Float, x: Float, y: Float, radius: Float, lighting: Lighting) -> Float:
    """Light reflected by the brushed face, before dirt and defects."""
    inverse = 1 / np.maximum(radius, np.float32(1e-3))
    c, s = x * inverse, y * inverse
    light = 0.17 + 0.05 * (x * 0.6 - y)
    tilted = np.float32(0.016) * grooves
    for azimuth, tilt, strength, width in _LAMPS:
        hx, hy = unit(azimuth + lighting.azimuth)
        # Component of the half vector along the groove; the lamp is near, so it changes with place.
        along = (hy * tilt - 0.22 * y) * c - (hx * tilt - 0.22 * x) * s
        along += tilted
        along *= along
        along *= np.float32(1 / (width * 2.2) ** 2)
        along += 1
        along *= along
        light += np.float32(strength) / along
    light *= 1 + np.float32(0.075) * grooves
    return light


def _belt(rng: np.random.Generator, side: int, x: Float, y: Float) -> Float:
    """Light reflected by the belt: rubber with a fine pebble, (H, W)."""
    pebble = cv2.GaussianBlur(white(rng, (side, side)), (0, 0), 1.6) * np.float32(5.0)
    relief = pebble - np.roll(pebble, (2, 2), (0, 1))
    light = 1 + 0.10 * relief + 0.09 * cloud(rng, (side, side), 4, 2) - 0.5 * (x * 0.5 + y * 0.7)
    specks = white(rng, (side // 4, side // 4)) > 2.38
    dust = cv2.resize(specks.astype(np.float32), (side, side), interpolation=cv2.INTER_LINEAR)
    return np.asarray(light + 0.8 * dust, dtype=np.float32)


def _shadow(cover: Float, side: int, lighting: Lighting) -> Float:
    """Light left on the belt beside the part: a cast shadow and the dark line of contact."""
    small = cv2.resize(cover, (side // 4, side // 4), interpolation=cv2.INTER_AREA)
    hx, hy = unit(KEY_LIGHT + lighting.azimuth)
    move = np.array([[1, 0, -hx * side * 0.0042], [0, 1, -hy * side * 0.0042]], dtype=np.float32)
    cast = cv2.GaussianBlur(cv2.warpAffine(small, move, small.shape[::-1]), (0, 0), side * 0.0016)
    contact = cv2.GaussianBlur(small, (0, 0), side * 0.0045)
    dark = np.clip(0.62 * cast + 0.45 * contact, 0, 0.93)
    return np.asarray(1 - cv2.resize(dark, (side, side)), dtype=np.float32)


def _bevel(edge: Float, width: float, lighting: Lighting) -> tuple[Float, Float]:
    """Light on the chamfers and their share of each pixel, from the distance to the edge."""
    share = np.clip((width - edge) * np.float32(0.8) + 0.5, 0, 1)
    nx = -cv2.Sobel(edge, cv2.CV_32F, 1, 0, ksize=3, scale=0.125)
    ny = -cv2.Sobel(edge, cv2.CV_32F, 0, 1, ksize=3, scale=0.125)
    # The distance is not exact beside a nick: no slope is steeper than that of the chamfer.
    gentle = 1 / np.maximum(cv2.magnitude(nx, ny), 1)
    nx, ny = nx * gentle, ny * gentle
    light = np.full_like(edge, 0.10)
    for azimuth, _, strength, _ in _LAMPS:
        hx, hy = unit(azimuth + lighting.azimuth)
        facing = np.maximum(nx * np.float32(hx) + ny * np.float32(hy), 0)
        facing *= facing
        light += np.float32(1.5 * strength) * facing * facing
    return light, share


def draw(
    part: np.random.Generator,
    flaw: np.random.Generator,
    lighting: Lighting,
    defect: str | None,
    side: int,
) -> Drawing:
    """Draw one washer; see `scene.Category`."""
    x, y = grid(side)
    shape = Shape.draw(part)
    dx, dy = x - np.float32(shape.x), (y - np.float32(shape.y)) / np.float32(shape.squash)
    radius, angle = cv2.cartToPolar(dx, dy)
    grooves = _grooves(part, radius, angle + np.float32(shape.turn), side)
    dirt = cloud(part, (side, side), 5, 3)
    wobble = 0.0006 * smooth(part, (side, side), 12)
    belt = _belt(part, side, x, y)

    edge = np.minimum(shape.outer - radius, radius - shape.inner) + wobble
    edge *= np.float32(side)
    whole = np.clip(edge + 0.5, 0, 1)
    spot = None
    if defect == "nick":
        edge, spot = _cut_nick(flaw, edge, shape, side)
    cover = np.clip(edge + 0.5, 0, 1)
    metal = _face(grooves, dx, dy, radius, lighting) * (1 + np.float32(0.035) * dirt)
    bevel, share = _bevel(edge, shape.bevel * side, lighting)
    bevel *= 1 + np.float32(0.10) * grooves
    metal += share * (bevel - metal)
    if defect == "scratch":
        metal, spot = _draw_scratch(flaw, metal, whole, shape, side)
    # The shadow is that of the whole washer: a nick is too small to let the light through.
    belt *= _shadow(whole, side, lighting) * (1 - cover)
    metal *= cover
    tints = zip(_BELT, _STEEL, strict=True)
    light = cv2.merge([cv2.addWeighted(belt, b, metal, m, 0) for b, m in tints])
    if defect == "rust":
        spot = _draw_rust(flaw, light, whole, shape, side)
    return Drawing(light, spot)


def _place(rng: np.random.Generator, shape: Shape, side: int, share: float) -> tuple[float, float]:
    """A point of the face in pixels; `share` 0 is the hole, 1 the rim."""
    c, s = unit(float(rng.uniform(0, 2 * math.pi)))
    radius = shape.inner + share * (shape.outer - shape.inner)
    return (
        (0.5 + shape.x + radius * c) * side,
        (0.5 + shape.y + radius * s * shape.squash) * side,
    )


def _draw_scratch(
    rng: np.random.Generator,
    metal: Float,
    whole: Float,
    shape: Shape,
    side: int,
) -> tuple[Float, Float]:
    """A gouge across the turning marks: a dark groove with a bright burr on the far side."""
    x, y = _place(rng, shape, side, float(rng.uniform(0.3, 0.7)))
    length = float(rng.uniform(0.10, 0.26)) * side
    outward = math.atan2(y - (0.5 + shape.y) * side, x - (0.5 + shape.x) * side)
    angle = outward + float(rng.normal(0, 0.6))
    start = (x - math.cos(angle) * length / 2, y - math.sin(angle) * length / 2)
    line = stroke(rng, start, angle, length, float(rng.normal(0, 0.04)))
    taper = np.sqrt(np.sin(np.linspace(0.12, math.pi - 0.05, len(line))))
    width = np.maximum(float(rng.uniform(0.006, 0.0095)) * side * taper, 3.0).astype(np.float32)
    # The wall of the groove on the side of the key light is in the shade, the burr beyond it lit.
    across = np.array(unit(angle + math.pi / 2), dtype=np.float32)
    towards = 1.0 if across @ unit(KEY_LIGHT) > 0 else -1.0
    step = across * np.float32(towards * max(0.0027 * side, 1.2))
    groove = draw_line(side, line + step, width)
    burr = draw_line(side, line - step, np.maximum(width * 0.7, 3.0))
    groove, burr = solid(groove * whole), solid(burr * whole)
    strength = np.float32(rng.uniform(0.65, 0.95))
    metal = metal + strength * burr * (0.95 - metal)
    metal *= 1 - strength * groove
    return metal, np.maximum(groove, burr).astype(np.float32)


def _cut_nick(
    rng: np.random.Generator, edge: Float, shape: Shape, side: int
) -> tuple[Float, Float]:
    """A bite out of the rim; returns the new distance to the edge and what was cut or dented."""
    x, y = _place(rng, shape, side, 1.0)
    size = float(rng.uniform(0.022, 0.042)) * side
    outward = math.atan2(y - (0.5 + shape.y) * side, x - (0.5 + shape.x) * side)
    depth = size * float(rng.uniform(0.45, 0.9))
    yy, xx = np.ogrid[:side, :side]
    c, s = np.float32(math.cos(outward)), np.float32(math.sin(outward))
    radial = (xx - np.float32(x)) * c + (yy - np.float32(y)) * s
    tangential = (yy - np.float32(y)) * c - (xx - np.float32(x)) * s
    skew = float(rng.uniform(-0.5, 0.5))
    tool = np.hypot(radial * (size / depth), tangential + skew * radial) - size
    ragged = tool + 0.10 * size * np.sin(tangential * (5.0 / size) + float(rng.uniform(0, 6)))
    cut = np.minimum(edge, ragged.astype(np.float32))
    bevel = np.float32(shape.bevel * side)
    changed = np.clip(bevel + 1 - cut, 0, 1) * (cut < edge) * (edge > -0.5)
    return cut, changed.astype(np.float32)


def _draw_rust(
    rng: np.random.Generator, light: Float, whole: Float, shape: Shape, side: int
) -> Float:
    """Paint a mottled brown patch that takes the shine away; returns its coverage."""
    x, y = _place(rng, shape, side, float(rng.uniform(0.25, 0.8)))
    radius = float(rng.uniform(0.028, 0.055)) * side
    radii = (radius * float(rng.uniform(1.0, 1.7)), radius)
    spot = blob(rng, (side, side), (x, y), radii, float(rng.uniform(0, math.pi)), 0.012 * side)
    mottle = cloud(rng, (side, side), 48, 2)
    spot = solid(spot * whole)
    alpha = spot * np.clip(float(rng.uniform(0.66, 0.92)) + 0.18 * mottle, 0.25, 1)
    paint(light, alpha, _RUST * (1 + 0.25 * mottle[..., None]))
    return spot


CATEGORY = Category("washer", ("scratch", "nick", "rust"), draw)
