"""Shapes that defects are made of, drawn as coverages (float32, 0...1) on the canvas."""

from __future__ import annotations

import cv2
import numpy as np

from generalad.synth.noise import Float, smooth

_SHIFT = 4  # fractional bits of the coordinates given to OpenCV
Points = Float


def stroke(
    rng: np.random.Generator,
    start: tuple[float, float],
    angle: float,
    length: float,
    bend: float,
) -> Points:
    """A slightly bent line of 24 points (x, y) in pixels; `bend` is its sagitta over its length."""
    t = np.linspace(0.0, 1.0, 24)
    sag = bend * length * 4 * t * (1 - t) + 0.004 * length * np.cumsum(rng.normal(0, 1, t.size))
    along = t * length
    x = start[0] + along * np.cos(angle) - sag * np.sin(angle)
    y = start[1] + along * np.sin(angle) + sag * np.cos(angle)
    return np.stack([x, y], axis=1).astype(np.float32)


def draw_line(side: int, points: Points, width: Float | float) -> Float:
    """Coverage of a line through `points`; `width` in pixels, one value or one for each point."""
    image = np.zeros((side, side), dtype=np.uint8)
    widths = np.broadcast_to(np.asarray(width, dtype=np.float32), (len(points),))
    normal = np.gradient(points, axis=0)[:, ::-1] * np.array([-1.0, 1.0], dtype=np.float32)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
    half = normal * widths[:, None] / 2
    sides = np.concatenate([points + half, (points - half)[::-1]])
    fixed = np.round(sides * (1 << _SHIFT)).astype(np.int32)
    cv2.fillPoly(image, [fixed], 255, cv2.LINE_AA, _SHIFT)
    return image.astype(np.float32) / np.float32(255)


def blob(
    rng: np.random.Generator,
    shape: tuple[int, int],
    centre: tuple[float, float],
    radius: tuple[float, float],
    angle: float,
    edge: float,
) -> Float:
    """Coverage of an irregular patch: an ellipse with a ragged outline, soft over `edge` pixels."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    dx, dy = (x - np.float32(centre[0])), (y - np.float32(centre[1]))
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u, v = (c * dx + s * dy) / radius[0], (c * dy - s * dx) / radius[1]
    distance = np.sqrt(u * u + v * v)
    small = float(min(radius))
    cells = max(3, round(max(shape) / small * 0.9))
    distance += 0.22 * smooth(rng, shape, cells) + 0.08 * smooth(rng, shape, cells * 3)
    cover = np.clip((1 - distance) * (small / edge) + 0.5, 0, 1)
    return solid(np.asarray(cover, dtype=np.float32))


def solid(cover: Float) -> Float:
    """`cover` without what is too faint or too small to reach the mask.

    What stays lies within two canvas pixels of a covered block of 2 x 2, which marks at least one
    pixel of the image wherever it lies.
    """
    half = (cover > 0.5).view(np.uint8)
    core = cv2.morphologyEx(half, cv2.MORPH_OPEN, np.ones((2, 2), np.uint8))
    near = cv2.dilate(core, np.ones((5, 5), np.uint8))
    return np.asarray(cover * near, dtype=np.float32)


def bounds(cover: Float) -> tuple[slice, slice]:
    """Rows and columns of the smallest box around what is covered; empty if nothing is."""
    x, y, width, height = cv2.boundingRect((cover > 0).view(np.uint8))
    return slice(y, y + height), slice(x, x + width)


def paint(light: Float, cover: Float, colour: Float) -> None:
    """Blend `colour`, (3,) or (H, W, 3), over `light` by `cover`, in place."""
    area = bounds(cover)
    part = light[area]
    part += cover[area][..., None] * ((colour[area] if colour.ndim == 3 else colour) - part)
