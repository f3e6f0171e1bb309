"""Procedural defects on good images of any kind, so that an export can be judged on both classes.

A trained detector comes with good images only. Near its threshold, where exported models decide
differently, lie faint defects; so each kind is drawn at strengths from hardly visible to plain.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from generalad.synth.marks import blob, draw_line, stroke

ATTEMPTS = 20
"""To draw a defect where it counts."""

Float = NDArray[Any]  # float32 everywhere; the annotations of OpenCV do not keep the dtype

KINDS = ("scratch", "stain", "patch")
"""A line, a soft spot of another colour, a piece of the same image in the wrong place."""

FAINTEST, STRONGEST = 0.06, 0.7
"""Contrast of scratches and stains as a share of the full range."""


def with_defect(
    image: NDArray[np.uint8],
    index: int,
    *,
    seed: int = 0,
    counted: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Draw one defect; its kind goes round with `index`, its place and strength are random.

    Args:
        image: (H, W, 3) uint8 RGB.
        index: of the image; the same index and seed give the same defect.
        seed: of the set.
        counted: (H, W) bool, where defects count; None for everywhere. One of which less than half
            would count is drawn elsewhere, as far as a few attempts find a place.

    Returns:
        The image (H, W, 3) uint8 and the mask of the defect (H, W), True is defective.
    """
    for attempt in range(ATTEMPTS):
        drawn, mask = _drawn(image, index, [seed, index, attempt] if attempt else [seed, index])
        if counted is None or (mask & counted).sum() >= 0.5 * mask.sum() > 0:
            break
    return drawn, mask if counted is None else mask & counted


def _drawn(
    image: NDArray[np.uint8], index: int, seed: list[int]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    height, width = image.shape[:2]
    draw = (_scratch, _stain, _patch)[index % len(KINDS)]
    cover, colour = draw(rng, image)
    cover = cover[:height, :width, None]
    changed = image + cover * (colour - image.astype(np.float32))
    return np.clip(np.round(changed), 0, 255).astype(np.uint8), cover[..., 0] > 0.5


def _scratch(rng: np.random.Generator, image: NDArray[np.uint8]) -> tuple[Float, Float]:
    height, width = image.shape[:2]
    side = max(height, width)
    start = (rng.uniform(0.2, 0.8) * width, rng.uniform(0.2, 0.8) * height)
    length = rng.uniform(0.08, 0.3) * min(height, width)
    points = stroke(rng, start, rng.uniform(0, 2 * np.pi), length, rng.uniform(-0.1, 0.1))
    cover = draw_line(side, points, max(1.5, rng.uniform(0.006, 0.02) * side))
    return cover, _shifted(rng, image)


def _stain(rng: np.random.Generator, image: NDArray[np.uint8]) -> tuple[Float, Float]:
    height, width = image.shape[:2]
    centre = (rng.uniform(0.15, 0.85) * width, rng.uniform(0.15, 0.85) * height)
    radius = max(3.0, rng.uniform(0.025, 0.09) * min(height, width))
    edge = max(2.0, 0.3 * radius)
    size = (radius, radius * rng.uniform(0.7, 1.0))
    cover = blob(rng, (height, width), centre, size, rng.uniform(0, np.pi), edge)
    return cover, _shifted(rng, image)


def _patch(rng: np.random.Generator, image: NDArray[np.uint8]) -> tuple[Float, Float]:
    height, width = image.shape[:2]
    rows, columns = (max(4, round(rng.uniform(0.06, 0.18) * length)) for length in (height, width))
    top, from_top = rng.integers(0, height - rows + 1, 2)
    left, from_left = rng.integers(0, width - columns + 1, 2)
    cover = np.zeros((height, width), np.float32)
    cover[top : top + rows, left : left + columns] = 1
    moved = np.roll(image, (top - from_top, left - from_left), axis=(0, 1))
    return cover, moved.astype(np.float32)


def _shifted(rng: np.random.Generator, image: NDArray[np.uint8]) -> Float:
    """The image made darker or lighter, whichever has more room, with a slight tint."""
    contrast = np.exp(rng.uniform(np.log(FAINTEST), np.log(STRONGEST))) * 255
    sign = 1 if image.mean() < 128 else -1
    tint = rng.uniform(0.6, 1.0, 3).astype(np.float32)
    return image.astype(np.float32) + np.float32(sign * contrast) * tint
