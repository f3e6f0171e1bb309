"""A plain weave of coloured warp over light weft, seen from above at a grazing light.

Every pixel knows its place in yarn coordinates: `u` counts the warp yarns (vertical), `v` the weft
yarns (horizontal). Of the two yarns that cross there, the higher one is seen; relief, shading and
colour follow from the height.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from generalad.synth.marks import blob, draw_line, paint, stroke
from generalad.synth.noise import Float, cloud, grain, smooth, white
from generalad.synth.scene import (
    Category,
    Drawing,
    Lighting,
    grid,
    unit,
    vignette,
)

_OIL = np.array([0.50, 0.44, 0.33], dtype=np.float32)
WARP_YARNS, WEFT_YARNS = 27, 25  # in the image's side
_WARP = (0.085, 0.160, 0.300)
_WEFT = (0.56, 0.54, 0.48)
_GAP = (0.012, 0.012, 0.014)
_ALONG = 8  # samples of thickness for each crossing


@dataclass
class Yarns:
    """One of the two sets of yarns, on the canvas."""

    number: Float
    """Which yarn a pixel belongs to."""
    across: Float
    """Place across the yarn, -0.5...0.5, 0 on its axis."""
    thickness: Float
    """Half width of the yarn there in the unit of `across`; next to nothing where it is missing."""
    tone: Float
    """Factor on the colour."""


@dataclass
class Weave:
    """The cloth before it is shaded."""

    warp: Yarns
    weft: Yarns


def _place(rng: np.random.Generator, side: int) -> tuple[Float, Float]:
    """Yarn coordinates of every pixel: turned a little, shifted, and drawn out of shape."""
    x, y = grid(side)
    c, s = unit(float(rng.normal(0, 0.012)))
    scale = float(1 + rng.normal(0, 0.008))
    bend_x, bend_y = (0.006 * smooth(rng, (side, side), 3) for _ in range(2))
    wave_x, wave_y = (0.0011 * smooth(rng, (side, side), 22) for _ in range(2))
    u = (x * np.float32(c) - y * np.float32(s) + bend_x + wave_x) * np.float32(scale * WARP_YARNS)
    v = (x * np.float32(s) + y * np.float32(c) + bend_y + wave_y) * np.float32(scale * WEFT_YARNS)
    offset = rng.uniform(4, 5, 2) + np.array([WARP_YARNS, WEFT_YARNS]) / 2
    return u + np.float32(offset[0]), v + np.float32(offset[1])


def _yarns(rng: np.random.Generator, position: Float, along: Float, count: int) -> Yarns:
    """Yarns of uneven thickness: every yarn differs a little, and along itself as well."""
    number = np.floor(position)
    rows, columns = count + 10, (count + 10) * _ALONG
    uneven = 0.75 * grain(rng, (rows, columns), (7, 1))
    uneven += 0.55 * grain(rng, (rows, columns), (61, 1))
    uneven += 0.5 * white(rng, (rows, 1))
    thick = cv2.remap(uneven, along * np.float32(_ALONG), number, cv2.INTER_LINEAR)
    return Yarns(number, position - number - 0.5, 0.45 + 0.028 * thick, 1 + 0.055 * thick)


def _height(yarns: Yarns, other: Yarns, lift: Float) -> tuple[Float, Float]:
    """Height of a yarn, -1 where there is none, and the place across it, -1...1."""
    ratio = yarns.across / yarns.thickness
    profile = 1 - ratio * ratio
    there = profile > 0
    height = np.sqrt(profile, where=there, out=profile)
    height *= np.float32(0.55)
    crown = other.across * other.across
    crown *= np.float32(-4 * 0.42)
    crown += np.float32(0.42)
    crown *= lift
    height += crown
    height[~there] = -1
    return height, ratio


def _twist(along: Float, across: Float, turns: float) -> Float:
    """The strands of a twisted yarn: slanted stripes, -1...1."""
    phase = along * np.float32(turns) + across * np.float32(1.3)
    phase -= np.floor(phase)
    return 1 - 4 * np.abs(phase - np.float32(0.5))


def draw(
    part: np.random.Generator,
    flaw: np.random.Generator,
    lighting: Lighting,
    defect: str | None,
    side: int,
) -> Drawing:
    """Draw one piece of cloth; see `scene.Category`."""
    u, v = _place(part, side)
    weave = Weave(_yarns(part, u, v, WARP_YARNS), _yarns(part, v, u, WEFT_YARNS))
    fuzz = white(part, (side, side))
    fuzz = 0.4 * fuzz + cv2.blur(fuzz, (3, 3))
    shade = cloud(part, (side, side), 3, 2)
    spot = None
    if defect == "missing_thread":
        spot = _miss_thread(flaw, weave, u, v)
    elif defect == "hole":
        spot = _tear_hole(flaw, weave, u, v)
    light = _shade(weave, u, v, fuzz, shade, lighting)
    if defect == "hole" and spot is not None:
        _fray(flaw, light, spot, (_WARP, _WEFT))
    elif defect == "oil":
        spot = _spill_oil(flaw, light)
    return Drawing(light, spot)


def _shade(
    weave: Weave, u: Float, v: Float, fuzz: Float, shade: Float, lighting: Lighting
) -> Float:
    """Light reflected by the cloth, (H, W, 3)."""
    side = u.shape[0]
    warp, weft = weave.warp, weave.weft
    odd = (warp.number + weft.number) * np.float32(0.5)
    lift = 1 - 4 * (odd - np.floor(odd))  # +1: the warp is on top
    warp_height, warp_ratio = _height(warp, weft, lift)
    weft_height, weft_ratio = _height(weft, warp, -lift)
    on_top = warp_height > weft_height
    height = np.maximum(warp_height, weft_height)
    gap = height < -0.9
    strands = np.where(on_top, _twist(v, warp.across, 2.6), _twist(u, -weft.across, 2.3))
    # The yarn falls off to its sides, and along itself where it dives below the next one.
    nx = np.where(on_top, 0.75 * warp_ratio, 1.5 * warp.across)
    ny = np.where(on_top, 1.5 * weft.across, 0.75 * weft_ratio)
    lx, ly = unit(-2.35 + lighting.azimuth)
    light = 0.78 + nx * np.float32(0.50 * lx) + ny * np.float32(0.50 * ly)
    light *= np.clip(0.30 + 0.84 * height, 0.10, 1.12)
    light *= 1 + 0.10 * strands + 0.20 * fuzz
    light *= (1 + 0.03 * shade) * vignette(side, 0.14)[..., 0]
    warp_light = np.where(on_top & ~gap, light * warp.tone, 0)
    weft_light = np.where(on_top | gap, 0, light * weft.tone)
    gaps = gap.astype(np.float32)
    planes = [
        cv2.addWeighted(warp_light, a, weft_light, b, 0) + np.float32(c) * gaps
        for a, b, c in zip(_WARP, _WEFT, _GAP, strict=True)
    ]
    return cv2.merge(planes)


def _remove(yarns: Yarns, gone: Float) -> None:
    """Take a yarn away where `gone` is 1, thinning it out towards the end."""
    yarns.thickness = yarns.thickness * np.maximum(1 - gone, 1e-3)


def _miss_thread(rng: np.random.Generator, weave: Weave, u: Float, v: Float) -> Float:
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


def _tear_hole(rng: np.random.Generator, weave: Weave, u: Float, v: Float) -> Float:
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


def _fray(
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


def _spill_oil(rng: np.random.Generator, light: Float) -> Float:
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


CATEGORY = Category("fabric", ("missing_thread", "hole", "oil"), draw)
