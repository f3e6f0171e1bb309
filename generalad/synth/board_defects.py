"""Defects of the board: missing component, misplaced component, scratch across the traces."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from generalad.synth.layout import COMPONENTS
from generalad.synth.marks import draw_line, paint, solid, stroke
from generalad.synth.noise import Float

if TYPE_CHECKING:
    from generalad.synth.bare_board import Sheet

_COPPER = np.array([0.62, 0.30, 0.14], dtype=np.float32)
_LAMINATE = np.array([0.36, 0.36, 0.20], dtype=np.float32)
_LOOSE = tuple(
    i for i, part in enumerate(COMPONENTS) if part.kind not in ("quad_flat", "small_outline")
)


def choose(rng: np.random.Generator) -> int:
    """The component that is missing or misplaced."""
    return int(_LOOSE[int(rng.integers(len(_LOOSE)))])


def slip(rng: np.random.Generator) -> NDArray[np.float64]:
    """How a component slipped before soldering; see `board.place`."""
    turn = float(rng.uniform(0.25, 0.75) * rng.choice((-1, 1)))
    direction, length = float(rng.uniform(0, 2 * math.pi)), float(rng.uniform(0.4, 2.2))
    return np.array([length * math.cos(direction), length * math.sin(direction), turn, 0.0])


def scratch(rng: np.random.Generator, sheet: Sheet, copper: Float, parts: Float) -> Float:
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
