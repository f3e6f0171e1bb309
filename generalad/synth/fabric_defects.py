"""Defects of the cloth: missing thread, hole, oil stain."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

from generalad.synth.marks import blob, draw_line, paint, stroke
from generalad.synth.noise import Float

if TYPE_CHECKING:
    from generalad.synth.fabric import Weave, Yarns

_OIL = np.array([0.50, 0.44, 0.33], dtype=np.float32)


def _remove(yarns: Yarns, gone: Float) -> None:
    """Take a yarn away where `gone` is 1, thinning it out towards the end."""
    yarns.thickness = yarns.thickness * np.maximum(1 - gone, 1e-3)


def missing_thread(rng: np.random.Generator, weave: Weave, u: Float, v: Float) -> Float:
    """A yarn of one of the two sets is missing over some length; returns the coverage."""
    side = u.shape[0]
    warp, weft = weave.warp, weave.weft
    yarns, crossing, along = ((warp, weft, v), (weft, warp, u))[int(rng.integers(2))]
    row, column = (int(side * rng.uniform(0.15, 0.85)) for _ in range(2))
    number = yarns.number[row, column]
    length = float(rng.uniform(6.0, 15.0))
    distance = np.abs(along - along[row, column]) - length / 2
    gone = np.clip(0.5 - distance * 2.5, 0, 1) * (yarns.number == number)
    gone *= gone > 0.15
    _remove(yarns, gone)
    crossing.tone = crossing.tone * (1 - 0.3 * gone)  # it lies in the shade of the neighbours
    return np.asarray(gone > 0, dtype=np.float32)


def hole(rng: np.random.Generator, weave: Weave, u: Float, v: Float) -> Float:
    """A few crossings are torn away and the ends of the yarns are frayed; returns the coverage."""
    side = u.shape[0]
    centre = (float(side * rng.uniform(0.15, 0.85)), float(side * rng.uniform(0.15, 0.85)))
    radius = float(rng.uniform(0.030, 0.060)) * side
    radii = (radius * float(rng.uniform(1, 1.5)), radius)
    torn = blob(rng, u.shape, centre, radii, float(rng.uniform(0, math.pi)), 0.012 * side)
    before = (np.abs(weave.warp.across) < weave.warp.thickness) | (
        np.abs(weave.weft.across) < weave.weft.thickness
    )
    for yarns in (weave.warp, weave.weft):
        # Every yarn breaks at its own place.
        ends = rng.uniform(0.1, 0.9, int(yarns.number.max()) + 2).astype(np.float32)
        where = ends[np.maximum(yarns.number, 0).astype(np.intp)]
        _remove(yarns, np.clip((torn - where) * 4, 0, 1))
    return np.asarray((torn > 0.1) & before, dtype=np.float32)


def fray(
    rng: np.random.Generator,
    light: Float,
    spot: Float,
    colours: tuple[tuple[float, float, float], ...],
) -> None:
    """Paint loose fibres over a hole and widen its coverage by them."""
    side = spot.shape[0]
    rows, columns = np.nonzero(spot)
    if not rows.size:
        return
    for _ in range(int(rng.integers(5, 11))):
        pick = int(rng.integers(rows.size))
        length = float(rng.uniform(0.02, 0.055)) * side
        start = (float(columns[pick]), float(rows[pick]))
        line = stroke(rng, start, float(rng.uniform(0, 2 * math.pi)), length, rng.normal(0, 0.25))
        cover = draw_line(side, line, float(rng.uniform(0.0025, 0.0045)) * side)
        colour = np.array(colours[int(rng.integers(2))], np.float32) * float(rng.uniform(0.5, 0.9))
        paint(light, cover, colour)
        np.maximum(spot, cover, out=spot)


def oil(rng: np.random.Generator, light: Float) -> Float:
    """Paint a dark, slightly yellow stain that the yarns have drunk; returns its coverage."""
    side = light.shape[0]
    centre = (float(side * rng.uniform(0.12, 0.88)), float(side * rng.uniform(0.12, 0.88)))
    radius = float(rng.uniform(0.04, 0.085)) * side
    radii = (radius * float(rng.uniform(1, 1.6)), radius)
    spot = blob(rng, light.shape[:2], centre, radii, float(rng.uniform(0, math.pi)), 0.016 * side)
    strength = float(rng.uniform(0.6, 1.0))
    rim = cv2.GaussianBlur(spot, (0, 0), 0.008 * side)
    alpha = strength * spot * (1.15 - 0.3 * rim)
    paint(light, alpha, light * _OIL)
    return spot
