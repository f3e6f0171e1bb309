"""What all procedural parts share: the lamp, the canvas and the camera.

A part is drawn on a canvas with `OVERSAMPLING` times the pixels of the image, in linear light,
and photographed: averaged down, softened by the lens, tone mapped and given sensor noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from generalad.synth.noise import Float, white

OVERSAMPLING = 2
_MASK_COVERAGE = 0.12  # share of a pixel that a defect has to cover to be in the mask
_TONES = 8192  # entries of the tone curve, which covers linear light 0...2
_NOISE = (1.1, 0.5)  # sensor noise, standard deviation in grey levels: luminance, each channel


@dataclass(frozen=True)
class Lighting:
    """The state of the lamp for one image; a fixed rig varies a little around its set-up."""

    azimuth: float
    """Direction of the key light in radians, added to that of the rig."""
    strength: float
    """Factor on all light."""
    warmth: float
    """Relative gain of red and loss of blue."""
    focus: float
    """Softness of the lens, 0 (sharp) ... 1."""

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Lighting:
        """Lighting within the tolerance of a production station."""
        return cls(
            azimuth=float(rng.normal(0.0, 0.06)),
            strength=float(np.exp(rng.normal(0.0, 0.035))),
            warmth=float(rng.normal(0.0, 0.012)),
            focus=float(rng.uniform(0.1, 0.6)),
        )


@dataclass(frozen=True)
class Drawing:
    """A part in linear light and what a defect changed on it.

    `light` is float32 (H, W, 3), RGB, about 0...1; `coverage` is float32 (H, W), 0...1, or None
    for a good part. Both are on the oversampled canvas.
    """

    light: Float
    coverage: Float | None


Draw = Callable[[np.random.Generator, np.random.Generator, Lighting, "str | None", int], Drawing]


@dataclass(frozen=True)
class Category:
    """A kind of part.

    `draw(part_rng, defect_rng, lighting, defect, side)` draws one on a canvas of `side` pixels;
    everything that a good part needs comes from `part_rng`, so that a defect never changes the
    part below it.
    """

    name: str
    defects: tuple[str, ...]
    draw: Draw


@lru_cache(maxsize=4)
def grid(side: int) -> tuple[Float, Float]:
    """Pixel centres of a square canvas, x and y in -0.5...0.5 of its side; read only."""
    axis = (np.arange(side, dtype=np.float32) + 0.5) / side - 0.5
    x, y = np.meshgrid(axis, axis)
    x.setflags(write=False)
    y.setflags(write=False)
    return x, y


@lru_cache(maxsize=1)
def _tone_curve() -> Float:
    """Linear light to grey levels 0...255: the sRGB curve with a soft shoulder above 0.75."""
    x = np.linspace(0.0, 2.0, _TONES)
    knee = 0.75
    x = np.where(x > knee, knee + (1 - knee) * (1 - np.exp(-(x - knee) / (1 - knee))), x)
    encoded = np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)
    curve = (255.0 * encoded).astype(np.float32)
    curve.setflags(write=False)
    return curve


def photograph(light: Float, lighting: Lighting, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The image, uint8 (H, W, 3), RGB, of a canvas in linear light."""
    size = light.shape[0] // OVERSAMPLING
    exposed = cv2.resize(light, (size, size), interpolation=cv2.INTER_AREA)
    exposed = cv2.GaussianBlur(exposed, (3, 3), 0.35 + 0.5 * lighting.focus)
    gain = np.array([1 + lighting.warmth, 1.0, 1 - lighting.warmth], dtype=np.float32)
    exposed = exposed * (gain * np.float32(lighting.strength * (_TONES - 1) / 2))
    np.clip(exposed, 0, _TONES - 1, out=exposed)
    levels = _tone_curve()[exposed.astype(np.uint16)]
    levels += np.float32(_NOISE[0]) * white(rng, (size, size, 1))
    levels += np.float32(_NOISE[1]) * white(rng, (size, size, 3))
    levels += 0.5
    return np.clip(levels, 0, 255).astype(np.uint8)


def mask_of(coverage: Float | None, size: int) -> NDArray[np.uint8]:
    """The mask, uint8 (H, W), 0 or 255, of a coverage on the canvas."""
    if coverage is None:
        return np.zeros((size, size), dtype=np.uint8)
    small = cv2.resize(coverage, (size, size), interpolation=cv2.INTER_AREA)
    return np.where(small >= _MASK_COVERAGE, np.uint8(255), np.uint8(0))


def vignette(side: int, strength: float) -> Float:
    """Fall-off of the lens towards the corners, (H, W, 1), 1 in the centre."""
    x, y = grid(side)
    fall: Float = 1 - np.float32(2 * strength) * (x * x + y * y)
    return fall[..., None]


def unit(angle: float) -> tuple[float, float]:
    """Unit vector (x, y) of an angle in radians; y points down."""
    return math.cos(angle), math.sin(angle)


def _keep_memory() -> None:
    """Let the C library keep freed memory instead of returning it to the system.

    glibc takes the largest block freed so far (up to 32 MiB) as the measure of what is worth
    keeping. Without it, the pages of every intermediate array are mapped anew for every image,
    which doubles the time. Elsewhere this does nothing.
    """
    np.empty(31 << 20, dtype=np.uint8)


_keep_memory()
