"""The ground under all textures: where an image lies (Pose) and noise that can be turned."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Float = NDArray[Any]  # float32; stubs of OpenCV and NumPy widen it at every step


@dataclass(frozen=True)
class Pose:
    """Where the category's own coordinates lie in one image.

    A category is described on a plane where the image covers -0.5...0.5; the pose shifts, turns
    and scales that plane.
    """

    side: int
    x: float = 0.0
    y: float = 0.0
    angle: float = 0.0
    scale: float = 1.0

    def coordinates(self) -> tuple[Float, Float]:
        """Category coordinates (u, v) of every pixel, each (side, side)."""
        axis = (np.arange(self.side, dtype=np.float32) + 0.5) / self.side - 0.5
        x, y = (axis - self.x)[None, :], (axis - self.y)[:, None]
        c, s = math.cos(self.angle) / self.scale, math.sin(self.angle) / self.scale
        return np.float32(c) * x + np.float32(s) * y, np.float32(-s) * x + np.float32(c) * y

    def pixels(self, points: Float) -> Float:
        """Pixel positions (x, y) of category points (n, 2)."""
        c, s = math.cos(self.angle) * self.scale, math.sin(self.angle) * self.scale
        turned = points @ np.array([[c, s], [-s, c]], dtype=np.float32)
        moved = turned + np.array([self.x + 0.5, self.y + 0.5], dtype=np.float32)
        return np.asarray(moved * self.side - 0.5, dtype=np.float32)


Texture = Callable[[np.random.Generator, Pose], Float]
"""Draws one instance of a texture: (side, side), about 0...1."""


def noise(
    rng: np.random.Generator,
    side: int,
    across: float,
    down: float | None = None,
    angle: float = 0.0,
) -> Float:
    """Smooth noise of about unit variance with `across` x `down` bumps, turned by `angle`."""
    down = across if down is None else down
    columns, rows = math.ceil(across * 1.45) + 4, math.ceil(down * 1.45) + 4
    grid = rng.standard_normal((rows, columns), dtype=np.float32)
    c, s, half = math.cos(angle), math.sin(angle), side / 2
    turn = np.array([[c, s], [-s, c]]) * np.array([[across / side], [down / side]])
    shift = np.array([columns / 2, rows / 2]) - turn @ np.array([half, half])
    matrix = np.concatenate([turn, shift[:, None]], axis=1)
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    field = cv2.warpAffine(grid, matrix, (side, side), flags=flags, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(field * np.float32(1.3), dtype=np.float32)


def octaves(
    rng: np.random.Generator,
    side: int,
    cells: float,
    roughness: float,
    levels: int,
    stretch: float = 1.0,
    angle: float = 0.0,
) -> Float:
    """Sum of noises, each twice as fine and `roughness` times as strong as the one before."""
    total = np.zeros((side, side), dtype=np.float32)
    for level in range(levels):
        across = min(cells * 2**level, side * 0.9)
        down = min(across * stretch, side * 0.9)
        total += np.float32(roughness**level) * noise(rng, side, across, down, angle)
    weight = math.sqrt(sum(roughness ** (2 * level) for level in range(levels)))
    return total / np.float32(weight)


def unit(field: Float) -> Float:
    """Noise of unit variance brought to about 0...1."""
    return np.asarray(np.clip(field * 0.22 + 0.5, 0.0, 1.0), dtype=np.float32)


def smoothstep(x: Float) -> Float:
    """0 below 0, 1 above 1, smooth between."""
    x = np.clip(x, 0.0, 1.0)
    return np.asarray(x * x * (3 - 2 * x), dtype=np.float32)


def cover(side: int, polygons: list[Float], thickness: float = 0.0) -> Float:
    """Antialiased coverage of filled polygons, or of closed outlines when `thickness` > 0.

    Polygons are (n, 2) pixel positions. The result is 0...1, (side, side).
    """
    canvas = np.zeros((side, side), dtype=np.uint8)
    fixed = [np.round(polygon * 16).astype(np.int32) for polygon in polygons]
    if thickness > 0:
        width = max(1, round(thickness))
        cv2.polylines(canvas, fixed, True, 255, width, cv2.LINE_AA, 4)
    else:
        for polygon in fixed:
            cv2.fillPoly(canvas, [polygon], 255, cv2.LINE_AA, 4)
    return canvas.astype(np.float32) * np.float32(1 / 255)


def lines(side: int, paths: list[Float], width: float, strengths: Float | None = None) -> Float:
    """Antialiased open lines through pixel positions (n, 2); the strongest wins where they cross.

    Widths below one pixel become a fainter line of one pixel.
    """
    canvas = np.zeros((side, side), dtype=np.uint8)
    faint = min(1.0, width)
    for index, path in enumerate(paths):
        strength = 1.0 if strengths is None else float(strengths[index])
        value = round(255 * min(1.0, strength * faint))
        fixed = [np.round(path * 16).astype(np.int32)]
        cv2.polylines(canvas, fixed, False, value, max(1, round(width)), cv2.LINE_AA, 4)
    return canvas.astype(np.float32) * np.float32(1 / 255)
