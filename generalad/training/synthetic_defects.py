"""Defects drawn into good images, with masks: what discriminators learn from.

Eight kinds, each at sizes from a few pixels to a quarter of the image and at strengths from faint
to plain. Nothing is known of the part: colours are those of the image itself, of another good one,
or shifted from what is there. Real defects need not resemble them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from generalad.synth.views import VERSION as VIEWS_VERSION
from generalad.synth.views import view

Float = NDArray[Any]
Image = NDArray[np.uint8]

VERSION = 2
"""Raised when what is drawn changes, because features of drawn images are cached."""

VIEWED = 0.5
"""Share of defects that are drawn into a view of an image instead of the image itself."""


@dataclass(frozen=True)
class DrawnDefects:
    """Draws `count` defective images from `images` good ones; a `Drawing` of the feature cache."""

    images: int
    count: int
    seed: int

    def identity(self) -> dict[str, Any]:
        """See `Drawing`."""
        versions = {"version": VERSION, "views": VIEWS_VERSION}
        return {**versions, "count": self.count, "seed": self.seed}

    def sources(self, index: int) -> tuple[int, int]:
        """The good images that a drawn one is made of."""
        return index % self.images, self._other(self._random(index))

    def _random(self, index: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, 3, index])

    def _other(self, rng: np.random.Generator) -> int:
        return int(rng.integers(self.images))

    def __call__(self, index: int, read: Callable[[int], Image]) -> tuple[Image, Float]:
        """See `Drawing`."""
        rng = self._random(index)
        image, other = read(index % self.images), read(self._other(rng))
        if rng.random() < VIEWED:
            image = view(image, rng)
        return with_defect(image, other, rng)


KINDS = ("paste", "scar", "texture", "scratch", "spot", "warp", "fill", "blur")
LEAST_CHANGE = 6.0
"""Grey levels that a pixel must change by to count as defective."""


def with_defect(
    image: Image, other: Image, rng: np.random.Generator, kinds: tuple[str, ...] = KINDS
) -> tuple[Image, Float]:
    """One to three defects of one kind.

    Args:
        image: (H, W, 3) uint8.
        other: another good image of the same size, a source of patches.
        rng: all chance comes from here.
        kinds: to choose from.

    Returns:
        The image, and the mask (H, W) float32 0...1 of what visibly changed.
    """
    base = image.astype(np.float32)
    out = base.copy()
    kind = kinds[rng.integers(len(kinds))]
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        cover, colour = DRAW[kind](rng, out, other)
        out += cover[..., None] * (colour - out)
    out = np.clip(np.round(out), 0, 255)
    changed = np.abs(out - base).max(axis=2) >= LEAST_CHANGE
    mask = cv2.morphologyEx(changed.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    return out.astype(np.uint8), mask.astype(np.float32)


def _log(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _noise(rng: np.random.Generator, shape: tuple[int, int], cell: float) -> Float:
    """Smooth noise of about unit variance, bumps about `cell` pixels wide."""
    h, w = max(2, round(shape[0] / cell) + 2), max(2, round(shape[1] / cell) + 2)
    return cv2.resize(
        rng.standard_normal((h, w)).astype(np.float32), shape[::-1], interpolation=cv2.INTER_CUBIC
    )


def _where(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[float, float]:
    return rng.uniform(0.03, 0.97) * shape[1], rng.uniform(0.03, 0.97) * shape[0]


def _blob(
    rng: np.random.Generator, shape: tuple[int, int], low: float = 0.008, high: float = 0.12
) -> Float:
    """An irregular soft-edged patch; its radius is a share of the smaller side."""
    radius = max(1.5, _log(rng, low, high) * min(shape))
    ratio = _log(rng, 0.35, 1.0)
    cx, cy = _where(rng, shape)
    angle = rng.uniform(0, np.pi)
    reach = math.ceil(2.2 * radius) + 3
    top, left = max(0, int(cy) - reach), max(0, int(cx) - reach)
    bottom, right = min(shape[0], int(cy) + reach), min(shape[1], int(cx) + reach)
    y, x = np.ogrid[top:bottom, left:right]
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    dx, dy = x.astype(np.float32) - np.float32(cx), y.astype(np.float32) - np.float32(cy)
    u, v = (c * dx + s * dy) / radius, (c * dy - s * dx) / (radius * ratio)
    ragged = rng.uniform(0, 0.35) * _noise(
        rng, (bottom - top, right - left), max(2.0, radius * 0.6)
    )
    edge = _log(rng, 0.8, max(1.0, 0.5 * radius)) / (radius * np.sqrt(ratio))
    cover = np.zeros(shape, np.float32)
    cover[top:bottom, left:right] = np.clip(
        (1 - np.sqrt(u * u + v * v) - ragged) / edge + 0.5, 0, 1
    )
    return cover


def _line(
    rng: np.random.Generator, shape: tuple[int, int], low: float = 0.03, high: float = 0.6
) -> Float:
    """A bent line of one to a few pixels."""
    length = _log(rng, low, high) * min(shape)
    width = _log(rng, 0.7, 4.0)
    t = np.linspace(0, 1, 24)
    angle, (x0, y0) = rng.uniform(0, 2 * np.pi), _where(rng, shape)
    sag = rng.uniform(-0.2, 0.2) * length * 4 * t * (1 - t) + 0.015 * length * np.cumsum(
        rng.normal(0, 1, 24)
    )
    x = x0 + (t - 0.5) * length * np.cos(angle) - sag * np.sin(angle)
    y = y0 + (t - 0.5) * length * np.sin(angle) + sag * np.cos(angle)
    cover = np.zeros(shape, np.uint8)
    points = np.round(np.stack([x, y], 1) * 16).astype(np.int32)
    cv2.polylines(cover, [points], False, 255, max(1, round(width)), cv2.LINE_AA, 4)
    out = cover.astype(np.float32) / 255
    return out * min(1.0, width) if width < 1 else out


def _quad(
    rng: np.random.Generator,
    shape: tuple[int, int],
    long: tuple[float, float],
    ratio: tuple[float, float],
) -> Float:
    a = _log(rng, *long) * min(shape)
    b = max(2.0, a * _log(rng, *ratio))
    box = cv2.boxPoints((_where(rng, shape), (a, b), rng.uniform(0, 180)))
    cover = np.zeros(shape, np.uint8)
    cv2.fillConvexPoly(cover, np.round(box * 16).astype(np.int32), 255, cv2.LINE_AA, 4)
    return cover.astype(np.float32) / 255


def _moved(rng: np.random.Generator, image: Float, turn: bool) -> Float:
    """The image from elsewhere: shifted round its edges, flipped, perhaps turned, light changed."""
    h, w = image.shape[:2]
    shift = (int(rng.integers(h)), int(rng.integers(w)))
    moved = np.roll(image, shift, axis=(0, 1))
    if rng.random() < 0.5:
        moved = moved[:, ::-1]
    if turn:
        m = cv2.getRotationMatrix2D((w / 2, h / 2), rng.uniform(0, 360), _log(rng, 0.7, 1.4))
        moved = cv2.warpAffine(
            np.ascontiguousarray(moved), m, (w, h), borderMode=cv2.BORDER_REFLECT
        )
    if rng.random() < 0.5:
        moved = moved * rng.uniform(0.75, 1.25) + rng.uniform(-15, 15)
    return np.asarray(moved, np.float32)


def _paste(rng: np.random.Generator, image: Float, other: Image) -> tuple[Float, Float]:
    shape = image.shape[:2]
    source = image if rng.random() < 0.5 else other.astype(np.float32)
    cover = _blob(rng, shape) if rng.random() < 0.5 else _quad(rng, shape, (0.03, 0.3), (0.3, 1))
    return cover, _moved(rng, source, rng.random() < 0.5)


def _scar(rng: np.random.Generator, image: Float, other: Image) -> tuple[Float, Float]:
    source = image if rng.random() < 0.5 else other.astype(np.float32)
    return _quad(rng, image.shape[:2], (0.05, 0.4), (0.04, 0.2)), _moved(rng, source, True)


def _texture(rng: np.random.Generator, image: Float, other: Image) -> tuple[Float, Float]:
    shape = image.shape[:2]
    cell = _log(rng, 1.5, 20)
    noise = _noise(rng, shape, cell)
    if rng.random() < 0.5:  # stripes
        y, x = np.mgrid[: shape[0], : shape[1]]
        a = rng.uniform(0, np.pi)
        noise = np.sin((x * np.cos(a) + y * np.sin(a)) * 2 * np.pi / max(3.0, cell) + noise).astype(
            np.float32
        )
    tint = 1 + rng.uniform(-0.3, 0.3, 3)
    strength = _log(rng, 8, 70)
    blend = rng.uniform(0, 1)
    level = rng.uniform(30, 225)
    return _blob(rng, shape), (
        image * (1 - blend) + blend * level + noise[..., None] * strength * tint
    ).astype(np.float32)


def _shift(rng: np.random.Generator, image: Float) -> Float:
    amount = _log(rng, 10, 150) * rng.choice([-1, 1])
    return np.asarray(image + amount * rng.uniform(0.6, 1.0, 3), np.float32)


def _scratch(rng: np.random.Generator, image: Float, other: Image) -> tuple[Float, Float]:
    return _line(rng, image.shape[:2]), _shift(rng, image)


def _spot(rng: np.random.Generator, image: Float, other: Image) -> tuple[Float, Float]:
    return _blob(rng, image.shape[:2]), _shift(rng, image)


def _fill(rng: np.random.Generator, image: Float, other: Image) -> tuple[Float, Float]:
    """Material where there is none, or none where there is some: a colour found elsewhere."""
    shape = image.shape[:2]
    cover = _blob(rng, shape, 0.006, 0.06) if rng.random() < 0.6 else _line(rng, shape, 0.02, 0.2)
    y, x = rng.integers(shape[0], size=8), rng.integers(shape[1], size=8)
    colours = image[y, x]
    inside = (cover[..., None] * image).sum((0, 1)) / max(float(cover.sum()), 1e-6)
    far = np.abs(colours - inside).sum(1)
    return cover, np.broadcast_to(colours[int(far.argmax())], image.shape).astype(np.float32)


def _warp(rng: np.random.Generator, image: Float, other: Image) -> tuple[Float, Float]:
    """The surface pushed aside, only within a patch."""
    shape = image.shape[:2]
    cover = _blob(rng, shape, 0.02, 0.12)
    size = _log(rng, 2, 10)
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    cell = _log(rng, 6, 30)
    dx, dy = _noise(rng, shape, cell) * size, _noise(rng, shape, cell) * size
    soft = cv2.GaussianBlur(cover, (0, 0), 2)
    moved = cv2.remap(
        image, x + dx * soft, y + dy * soft, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    return (soft > 0.02).astype(np.float32), moved


def _blurred(rng: np.random.Generator, image: Float, other: Image) -> tuple[Float, Float]:
    """Texture smeared away or made stronger."""
    smooth = cv2.GaussianBlur(image, (0, 0), _log(rng, 1.5, 6))
    gain = 0.0 if rng.random() < 0.6 else rng.uniform(1.8, 3.0)
    return _blob(rng, image.shape[:2], 0.015, 0.12), smooth + gain * (image - smooth)


DRAW = {
    "paste": _paste,
    "scar": _scar,
    "texture": _texture,
    "scratch": _scratch,
    "spot": _spot,
    "warp": _warp,
    "fill": _fill,
    "blur": _blurred,
}
