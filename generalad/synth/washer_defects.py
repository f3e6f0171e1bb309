"""Defects of the washer: scratch, nick at the rim, rust."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from generalad.synth.marks import blob, draw_line, paint, solid, stroke
from generalad.synth.noise import Float, cloud
from generalad.synth.scene import unit

if TYPE_CHECKING:
    from generalad.synth.washer import Shape

KEY_LIGHT = -2.2  # azimuth of the strongest lamp in radians
_RUST = np.array([0.23, 0.095, 0.035], dtype=np.float32)


def _place(rng: np.random.Generator, shape: Shape, side: int, share: float) -> tuple[float, float]:
    """A point of the face in pixels; `share` 0 is the hole, 1 the rim."""
    c, s = unit(float(rng.uniform(0, 2 * math.pi)))
    radius = shape.inner + share * (shape.outer - shape.inner)
    return (
        (0.5 + shape.x + radius * c) * side,
        (0.5 + shape.y + radius * s * shape.squash) * side,
    )


def scratch(
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


def nick(rng: np.random.Generator, edge: Float, shape: Shape, side: int) -> tuple[Float, Float]:
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


def rust(rng: np.random.Generator, light: Float, whole: Float, shape: Shape, side: int) -> Float:
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
