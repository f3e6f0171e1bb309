"""Texture families. Each function draws the fixed parameters of a category once and returns the
texture that draws its instances. Not among them on purpose: what the demo parts show.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np

from tools.embedded_backbone.field import (
    Float,
    Pose,
    Texture,
    cover,
    lines,
    noise,
    octaves,
    smoothstep,
    unit,
)

Rng = np.random.Generator


def _log(rng: Rng, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(math.log(low), math.log(high))))


def _angle(rng: Rng) -> float:
    return float(rng.uniform(0, math.pi))


def _wave(kind: int, phase: Float, sharp: float) -> Float:
    """Periodic profile 0...1 with period 1: sine, saw, triangle, soft square, narrow pulse."""
    if kind == 0:
        return np.asarray(0.5 + 0.5 * np.sin(2 * np.pi * phase), dtype=np.float32)
    part = phase - np.floor(phase)
    if kind == 1:
        return np.asarray(smoothstep(part * 4) * (1 - part))
    triangle = np.abs(2 * part - 1)
    if kind == 2:
        return np.asarray(triangle, dtype=np.float32)
    edge = 0.5 if kind == 3 else 0.82
    return smoothstep((triangle - edge) * sharp + 0.5)


def _warp(rng: Rng, pose: Pose, cells: float, amount: float) -> tuple[Float, Float]:
    u, v = pose.coordinates()
    if amount <= 0:
        return np.broadcast_arrays(u, v)[0], np.broadcast_arrays(u, v)[1]
    side, step = pose.side, np.float32(amount)
    return u + step * noise(rng, side, cells), v + step * noise(rng, side, cells)


def grating(rng: Rng) -> Texture:
    """One to three waves in any direction."""
    count = int(rng.integers(1, 4))
    waves = [
        (_log(rng, 2.5, 26), _angle(rng), int(rng.integers(5)), _log(rng, 2, 10))
        for _ in range(count)
    ]
    if count == 2:  # a right angle would look like threads
        waves[1] = (waves[1][0], waves[0][1] + float(rng.uniform(0.3, 1.2)), *waves[1][2:])
    bend = float(rng.choice([0.0, 0.002, 0.008]))

    def draw(rng: Rng, pose: Pose) -> Float:
        u, v = _warp(rng, pose, 3, bend)
        total = np.zeros((pose.side, pose.side), dtype=np.float32)
        for frequency, angle, kind, sharp in waves:
            phase = frequency * (math.cos(angle) * u + math.sin(angle) * v)
            total += _wave(kind, phase, sharp)
        return total / np.float32(count)

    return draw


def clouds(rng: Rng) -> Texture:
    """Octaves of noise."""
    cells, rough, levels = _log(rng, 2, 40), float(rng.uniform(0.4, 0.95)), int(rng.integers(1, 6))
    return lambda rng, pose: unit(octaves(rng, pose.side, cells, rough, levels))


def streaks(rng: Rng) -> Texture:
    """Brushed: noise drawn out in one direction."""
    angle, cells, stretch = _angle(rng), _log(rng, 1, 8), _log(rng, 6, 60)
    rough = float(rng.uniform(0.4, 0.9))

    def draw(rng: Rng, pose: Pose) -> Float:
        return unit(octaves(rng, pose.side, cells, rough, 3, stretch, angle + pose.angle))

    return draw


def marble(rng: Rng) -> Texture:
    """A wave bent by noise."""
    frequency, angle, amount = _log(rng, 2, 14), _angle(rng), _log(rng, 0.1, 0.8)
    cells, kind, rough = _log(rng, 2, 8), int(rng.integers(3)), float(rng.uniform(0.3, 0.7))

    def draw(rng: Rng, pose: Pose) -> Float:
        u, v = pose.coordinates()
        phase = frequency * (math.cos(angle) * u + math.sin(angle) * v)
        bent = phase + np.float32(amount) * octaves(rng, pose.side, cells, rough, 3)
        return _wave(kind, bent, 4)

    return draw


def _sites(rng: Rng, pose: Pose, cells: float, jitter: float) -> Float:
    """Points of a jittered hexagonal lattice that covers the image: (n, 2) pixels."""
    reach = int(cells * 0.75) + 2
    i, j = np.meshgrid(np.arange(-reach, reach + 1), np.arange(-reach, reach + 1))
    points = np.stack([i + 0.5 * (j % 2), j * 0.866], axis=-1).reshape(-1, 2)
    points = points + rng.uniform(-jitter, jitter, points.shape)
    return pose.pixels(np.asarray(points / cells, dtype=np.float32))


def _cells(side: int, sites: Float) -> tuple[Float, NDArrayInt]:
    """Distance in pixels to the nearest site, and its label."""
    canvas = np.full((side, side), 255, dtype=np.uint8)
    inside = np.round(sites).astype(np.int32)
    inside = inside[((inside >= 0) & (inside < side)).all(axis=1)]
    canvas[inside[:, 1], inside[:, 0]] = 0
    return cv2.distanceTransformWithLabels(  # type: ignore[return-value]
        canvas, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )


def voronoi(rng: Rng) -> Texture:
    """Cells around scattered sites: domes, flat shades, or cracks between."""
    cells, jitter, kind = _log(rng, 4, 22), float(rng.uniform(0.15, 0.6)), int(rng.integers(4))
    width = float(rng.uniform(0.6, 1.4))

    def draw(rng: Rng, pose: Pose) -> Float:
        side = pose.side
        distance, labels = _cells(side, _sites(rng, pose, cells, jitter))
        dome = np.clip(1 - distance * np.float32(cells / side), 0, 1)
        shades = rng.uniform(0, 1, int(labels.max()) + 1).astype(np.float32)[labels]
        if kind == 0:
            return np.asarray(dome, dtype=np.float32)
        if kind == 1:
            return cv2.blur(shades, (2, 2))
        edge = (labels != np.roll(labels, 1, 0)) | (labels != np.roll(labels, 1, 1))
        crack = np.clip(cv2.GaussianBlur(edge.astype(np.float32), (0, 0), width) * 1.6, 0, 1)
        if kind == 2:
            return np.asarray(1 - crack, dtype=np.float32)
        return np.asarray((0.6 + 0.4 * shades) * (1 - crack), dtype=np.float32)

    return draw


def spots(rng: Rng) -> Texture:
    """Discs, dashes or rings strewn at random or on a jittered lattice."""
    cells, jitter = _log(rng, 4, 20), float(rng.choice([0.04, 0.2, 0.5]))
    size, spread = float(rng.uniform(0.15, 0.45)), float(rng.uniform(0, 0.5))
    kind, angle = int(rng.integers(3)), _angle(rng)

    def draw(rng: Rng, pose: Pose) -> Float:
        side = pose.side
        canvas = np.zeros((side, side), dtype=np.uint8)
        for x, y in _sites(rng, pose, cells, jitter):
            radius = side / cells * size * (1 + spread * float(rng.uniform(-1, 1)))
            centre = (round(float(x) * 16), round(float(y) * 16))
            axes = (round(radius * 16), round(radius * (5 if kind == 1 else 16)))
            turn = math.degrees(angle + pose.angle)
            width = -1 if kind != 2 else 1
            cv2.ellipse(canvas, centre, axes, turn, 0, 360, 255, width, cv2.LINE_AA, 4)
        return canvas.astype(np.float32) * np.float32(1 / 255)

    return draw


def bricks(rng: Rng) -> Texture:
    """Rectangular tiles with grout, in bond or in line, each of its own shade."""
    rows, aspect = _log(rng, 3, 14), _log(rng, 0.4, 1.0)
    bond, grout = float(rng.choice([0.0, 0.5, 0.33])), _log(rng, 0.05, 0.18)
    angle, vary = _angle(rng), float(rng.choice([0.0, 0.1, 0.35]))

    def draw(rng: Rng, pose: Pose) -> Float:
        u, v = pose.coordinates()
        c, s = math.cos(angle), math.sin(angle)
        y = (c * v - s * u) * rows + 100
        row = np.floor(y)
        x = (c * u + s * v) * rows * aspect + bond * (row % 6) + 100
        column = np.floor(x)
        inside = np.minimum(0.5 - np.abs(x - column - 0.5), (0.5 - np.abs(y - row - 0.5)) * aspect)
        tile = smoothstep((inside - grout * 0.5) / max(grout * 0.7, rows / pose.side))
        table = rng.uniform(1 - vary, 1, 4096).astype(np.float32)
        return tile * table[(row * 57 + column).astype(np.int64) % 4096]

    return draw


def hexagons(rng: Rng) -> Texture:
    """A honeycomb."""
    cells, width, vary = _log(rng, 4, 14), float(rng.uniform(0.6, 1.5)), float(rng.uniform(0, 0.5))

    def draw(rng: Rng, pose: Pose) -> Float:
        _, labels = _cells(pose.side, _sites(rng, pose, cells, 0.0))
        edge = (labels != np.roll(labels, 1, 0)) | (labels != np.roll(labels, 1, 1))
        crack = np.clip(cv2.GaussianBlur(edge.astype(np.float32), (0, 0), width) * 1.6, 0, 1)
        shades = rng.uniform(1 - vary, 1, int(labels.max()) + 1).astype(np.float32)[labels]
        return np.asarray(shades * (1 - crack), dtype=np.float32)

    return draw


def rings(rng: Rng) -> Texture:
    """A profile along the distance from a centre, after a circle, square or other norm."""
    knots = rng.uniform(0, 1, int(rng.integers(6, 24))).astype(np.float32)
    x, y = (float(value) for value in rng.uniform(-0.4, 0.4, 2) * rng.integers(2))
    power, squash = float(rng.choice([2.0, 2.0, 1.0, 6.0])), float(rng.uniform(0.6, 1))
    hard = bool(rng.integers(2))

    def draw(rng: Rng, pose: Pose) -> Float:
        u, v = pose.coordinates()
        if power == 2:
            radius = np.hypot(u - x, (v - y) / squash)
        else:
            total = np.abs(u - x) ** power + np.abs((v - y) / squash) ** power
            radius = total ** (1 / power)
        place = radius * (1.2 * len(knots))
        low = np.floor(place).astype(np.int64)
        part = place - low
        part = smoothstep((part - 0.5) * 5 + 0.5) if hard else part
        ring = knots[low % len(knots)] * (1 - part) + knots[(low + 1) % len(knots)] * part
        return np.asarray(ring, dtype=np.float32)

    return draw


def spokes(rng: Rng) -> Texture:
    """A wave around a centre, with a twist."""
    count, twist = int(rng.integers(3, 28)), float(rng.choice([0.0, 3.0, 12.0]))
    kind = int(rng.integers(5))
    x, y = (float(value) for value in rng.uniform(-0.3, 0.3, 2))

    def draw(rng: Rng, pose: Pose) -> Float:
        u, v = pose.coordinates()
        turn = np.arctan2(v - y, u - x) * np.float32(count / (2 * math.pi))
        return _wave(kind, turn + np.float32(twist) * np.hypot(u - x, v - y), 4)

    return draw


def checks(rng: Rng) -> Texture:
    """Squares or rhombi of two to four shades in a repeating order."""
    cells, skew = _log(rng, 3, 16), float(rng.choice([0.0, 0.5, 0.3]))
    table = rng.uniform(0, 1, (int(rng.integers(2, 4)), int(rng.integers(1, 4)))).astype(np.float32)
    table[0, 0], table[1, 0] = 0, 1
    angle = _angle(rng)

    def draw(rng: Rng, pose: Pose) -> Float:
        u, v = pose.coordinates()
        c, s = math.cos(angle), math.sin(angle)
        i = np.floor((c * u + s * v) * cells + 64)
        j = np.floor((c * v - s * u) * cells + skew * i + 64)
        rows, columns = table.shape
        shade = table[(i + j).astype(np.int64) % rows, j.astype(np.int64) % columns]
        return np.asarray(cv2.GaussianBlur(shade, (3, 3), 0.6))

    return draw


def islands(rng: Rng) -> Texture:
    """Noise cut at a level, or its level lines."""
    cells, levels, soft = _log(rng, 3, 24), int(rng.integers(1, 4)), _log(rng, 0.05, 0.5)
    cut = float(rng.uniform(-0.7, 0.7))

    def draw(rng: Rng, pose: Pose) -> Float:
        field = octaves(rng, pose.side, cells, 0.5, levels)
        return smoothstep((field - cut) / soft + 0.5)

    return draw


def contours(rng: Rng) -> Texture:
    """Level lines of smooth noise."""
    cells, count = _log(rng, 2, 6), _log(rng, 1, 4)

    def draw(rng: Rng, pose: Pose) -> Float:
        return _wave(4, np.float32(count) * noise(rng, pose.side, cells), 4)

    return draw


def fibres(rng: Rng) -> Texture:
    """Many curved lines, lying in all directions or mostly in one."""
    count, length, width = int(rng.integers(30, 160)), _log(rng, 0.08, 0.6), _log(rng, 0.6, 2.5)
    spread, curl = float(rng.choice([0.1, 0.4, 3.2])), float(rng.uniform(0, 1.5))
    angle = _angle(rng)

    def draw(rng: Rng, pose: Pose) -> Float:
        t = np.linspace(-0.5, 0.5, 7)[None, :]
        heading = angle + pose.angle + rng.uniform(-spread, spread, (count, 1))
        heading = heading + curl * rng.normal(0, 1, (count, 1)) * t
        start = rng.uniform(-0.1, 1.1, (count, 2)) * pose.side
        step = length * pose.side / 6
        x = start[:, :1] + step * np.cumsum(np.cos(heading), axis=1)
        y = start[:, 1:] + step * np.cumsum(np.sin(heading), axis=1)
        paths = list(np.stack([x, y], axis=-1).astype(np.float32))
        return lines(pose.side, paths, width, rng.uniform(0.4, 1, count).astype(np.float32))

    return draw


def scales(rng: Rng) -> Texture:
    """Overlapping rows of round scales."""
    cells, shade = _log(rng, 4, 12), float(rng.uniform(0.2, 1))

    def draw(rng: Rng, pose: Pose) -> Float:
        u, v = pose.coordinates()
        y = v * cells * 2
        best = np.full((pose.side, pose.side), -1.0, dtype=np.float32)
        for step in (1.0, 0.0):
            row = np.floor(y) - step
            x = u * cells + 0.5 * (row % 2)
            radius = np.hypot(x - np.floor(x) - 0.5, (y - row) * 0.5) / 0.56
            best = np.where((radius < 1) & (best < 0), 1 - shade * radius**2, best)
        return np.asarray(np.clip(best, 0, 1), dtype=np.float32)

    return draw


def ripples(rng: Rng) -> Texture:
    """Circular waves from a few fixed points."""
    centres = rng.uniform(-0.8, 0.8, (int(rng.integers(2, 4)), 2))
    frequency = _log(rng, 4, 20)

    def draw(rng: Rng, pose: Pose) -> Float:
        u, v = pose.coordinates()
        total = np.zeros((pose.side, pose.side), dtype=np.float32)
        for x, y in centres:
            total += _wave(0, np.hypot(u - x, v - y) * np.float32(frequency), 1)
        return total / np.float32(len(centres))

    return draw


def plain(rng: Rng) -> Texture:
    """A smooth slope, nothing else."""
    angle, slope = _angle(rng) * 2, float(rng.uniform(0, 0.9))

    def draw(rng: Rng, pose: Pose) -> Float:
        u, v = pose.coordinates()
        return np.asarray(0.5 + slope * (math.cos(angle) * u + math.sin(angle) * v), np.float32)

    return draw


def steps(rng: Rng) -> Texture:
    """Bands of fixed widths and shades across the image."""
    count = int(rng.integers(4, 26))
    edges = np.sort(rng.uniform(-0.8, 0.8, count))
    shades = rng.uniform(0, 1, count + 1).astype(np.float32)
    angle = _angle(rng)

    def draw(rng: Rng, pose: Pose) -> Float:
        u, v = pose.coordinates()
        place = math.cos(angle) * u + math.sin(angle) * v
        return cv2.GaussianBlur(shades[np.searchsorted(edges, place)], (3, 3), 0.7)

    return draw


def grain(rng: Rng) -> Texture:
    """White noise, more or less soft, with peaks to one side or none."""
    blur, power = float(rng.uniform(0.4, 1.6)), float(rng.choice([1.0, 3.0]))

    def draw(rng: Rng, pose: Pose) -> Float:
        white = rng.standard_normal((pose.side, pose.side), dtype=np.float32)
        soft = cv2.GaussianBlur(white, (0, 0), blur) * np.float32(3.5 * blur)
        return np.asarray(unit(soft) ** power, dtype=np.float32)

    return draw


def facets(rng: Rng) -> Texture:
    """Random polygons over one another, the same in every image."""
    count = int(rng.integers(12, 50))
    corners = int(rng.integers(3, 7))
    turns = np.sort(rng.uniform(0, 2 * math.pi, (count, corners)), axis=1)
    radius = rng.uniform(0.05, 0.3, (count, 1))
    centre = rng.uniform(-0.6, 0.6, (count, 2))
    x = centre[:, :1] + radius * np.cos(turns)
    y = centre[:, 1:] + radius * np.sin(turns)
    shapes = np.stack([x, y], axis=-1).astype(np.float32)
    shades = rng.uniform(0, 1, count)

    def draw(rng: Rng, pose: Pose) -> Float:
        field = np.full((pose.side, pose.side), 0.5, dtype=np.float32)
        for shape, shade in zip(shapes, shades, strict=True):
            covered = cover(pose.side, [pose.pixels(shape)])
            field += covered * (np.float32(shade) - field)
        return field

    return draw


NDArrayInt = np.ndarray[tuple[int, ...], np.dtype[np.int32]]

FAMILIES: dict[str, Callable[[Rng], Texture]] = {
    family.__name__: family
    for family in (
        grating, clouds, streaks, marble, voronoi, spots, bricks, rings, spokes, checks,
        islands, fibres, plain, steps, grain, facets, contours, ripples, hexagons, scales,
    )
}  # fmt: skip

HELD_OUT = ("hexagons", "scales", "ripples", "contours")
"""Families that training never draws; they are for evaluation."""
