"""Electronic components as sprites: colour, coverage, height and gloss, seen from above.

One unit is 1/100 of the image's side. Heights are in units as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from generalad.synth import lettering
from generalad.synth.noise import Float

Colour = tuple[float, float, float]
SOLDER: Colour = (0.34, 0.345, 0.34)
_EPOXY: Colour = (0.020, 0.020, 0.022)
_LASER: Colour = (0.30, 0.30, 0.30)


@dataclass(frozen=True)
class Sprite:
    """A component on a canvas of its own, centred; `colour` and `relief` are premultiplied."""

    colour: Float
    """(h, w, 4): linear RGB and coverage."""
    relief: Float
    """(h, w, 2): height in units, and gloss 0...1."""


class Bench:
    """Where a sprite is put together; coordinates are units from its centre."""

    def __init__(self, width: float, height: float, scale: float) -> None:
        self.scale = scale
        self.w, self.h = (2 * round((length * scale + 6) / 2) for length in (width, height))
        self.colour: Float = np.zeros((self.h, self.w, 3), dtype=np.float32)
        self.cover: Float = np.zeros((self.h, self.w), dtype=np.float32)
        self.height: Float = np.zeros((self.h, self.w), dtype=np.float32)
        self.gloss: Float = np.zeros((self.h, self.w), dtype=np.float32)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Pixel coordinates of a point."""
        return self.w / 2 + x * self.scale - 0.5, self.h / 2 + y * self.scale - 0.5

    def inside(self, x: float, y: float, width: float, height: float, corner: float) -> Float:
        """Distance in pixels to the border of a rounded box, positive inside."""
        cx, cy = self.at(x, y)
        yy, xx = np.ogrid[: self.h, : self.w]
        radius = corner * self.scale
        qx = np.abs(xx - cx) - width * self.scale / 2 + radius
        qy = np.abs(yy - cy) - height * self.scale / 2 + radius
        outside = np.hypot(np.maximum(qx, 0), np.maximum(qy, 0))
        return (radius - outside - np.minimum(np.maximum(qx, qy), 0)).astype(np.float32)

    def add(self, distance: Float, colour: Colour, top: float, bevel: float, gloss: float) -> None:
        """Put a body with a bevelled edge on what is there; `bevel` in units."""
        cover = np.clip(distance + 0.5, 0, 1)
        ramp = np.clip(distance / max(bevel * self.scale, 1.0), 0, 1)
        rise = top * np.sqrt(np.maximum(1 - (1 - ramp) ** 2, 0))
        self.paint(cover, colour)
        self.cover = np.maximum(self.cover, cover)
        self.height = np.where(cover > 0, np.maximum(rise, self.height * (1 - cover)), self.height)
        self.gloss += cover * (gloss - self.gloss)

    def paint(self, cover: Float, colour: Colour) -> None:
        """Colour what is there."""
        self.colour += cover[..., None] * (np.array(colour, dtype=np.float32) - self.colour)

    def mark(self, text: str, x: float, y: float, height: float, colour: Colour = _LASER) -> None:
        """Write on the body; `height` of the letters in units."""
        blank = np.zeros((self.h, self.w), dtype=np.float32)
        pixels = height * self.scale
        self.paint(0.85 * lettering.write(blank, text, self.at(x, y), pixels, pixels / 7), colour)

    def finish(self) -> Sprite:
        """The sprite."""
        cover = self.cover[..., None]
        colour = np.concatenate([self.colour * cover, cover], axis=2)
        relief = np.stack([self.height * self.cover, self.gloss * self.cover], axis=2)
        return Sprite(colour.astype(np.float32), relief.astype(np.float32))


def _chip(bench: Bench, body: Colour, text: str, end: float, gloss: float) -> None:
    """A ceramic block 8 x 4.6 with two tinned ends."""
    bench.add(bench.inside(0, 0, 8.0, 4.6, 0.4), SOLDER, 1.9, 0.7, 1.0)
    middle = bench.inside(0, 0, 8.0 - 2 * end, 4.7, 0.0)
    bench.paint(np.clip(middle + 0.5, 0, 1), body)
    bench.gloss += np.clip(middle + 0.5, 0, 1) * (gloss - bench.gloss)
    if text:
        bench.mark(text, 0, 0, 2.3)


def resistor(bench: Bench, text: str) -> None:
    """Chip resistor with its value."""
    _chip(bench, (0.022, 0.021, 0.024), text, 1.35, 0.18)


def capacitor(bench: Bench, text: str) -> None:
    """Ceramic chip capacitor."""
    _chip(bench, (0.30, 0.19, 0.105), text, 1.7, 0.10)


def tantalum(bench: Bench, text: str) -> None:
    """Moulded tantalum capacitor with its polarity bar."""
    for x in (-6.2, 6.2):
        bench.add(bench.inside(x, 0, 2.6, 4.6, 0.2), SOLDER, 0.8, 0.6, 1.0)
    bench.add(bench.inside(0, 0, 12.0, 7.0, 0.4), (0.62, 0.33, 0.045), 3.4, 0.9, 0.15)
    bench.paint(np.clip(bench.inside(-4.4, 0, 1.6, 6.2, 0) + 0.5, 0, 1), (0.16, 0.06, 0.02))
    bench.mark(text, 1.2, 0, 2.4, (0.10, 0.045, 0.02))


def diode(bench: Bench, text: str) -> None:
    """Glass diode with a cathode ring."""
    for x in (-4.0, 4.0):
        bench.add(bench.inside(x, 0, 2.0, 4.2, 0.8), SOLDER, 1.8, 0.9, 1.0)
    bench.add(bench.inside(0, 0, 6.4, 4.0, 1.0), (0.30, 0.060, 0.018), 2.2, 2.0, 0.8)
    bench.paint(np.clip(bench.inside(-1.9, 0, 1.0, 4.2, 0) + 0.5, 0, 1), (0.02, 0.02, 0.02))


def small_outline(bench: Bench, text: str) -> None:
    """Eight-lead small outline package, 16 x 20 with leads up and down."""
    for side in (-1, 1):
        for place in range(4):
            x = (place - 1.5) * 5.0
            bench.add(bench.inside(x, side * 10.6, 2.0, 4.6, 0.4), SOLDER, 0.7, 0.5, 0.9)
            bench.add(bench.inside(x, side * 8.4, 2.0, 2.2, 0.2), SOLDER, 1.5, 0.5, 0.9)
    bench.add(bench.inside(0, 0, 19.6, 15.6, 0.4), _EPOXY, 3.6, 1.3, 0.16)
    bench.add(bench.inside(-7.6, 5.4, 1.9, 1.9, 0.95), (0.012, 0.012, 0.013), 3.1, 0.5, 0.3)
    name, batch = text.split(" ")
    bench.mark(name, 0, -2.4, 2.7)
    bench.mark(batch, 0, 2.2, 2.7)


def quad_flat(bench: Bench, text: str) -> None:
    """Quad flat package with eight leads on each side, 36 x 36."""
    for place in range(8):
        t = (place - 3.5) * 3.2
        for sign in (-1, 1):
            bench.add(bench.inside(t, sign * 17.0, 1.5, 3.6, 0.3), SOLDER, 0.7, 0.4, 0.9)
            bench.add(bench.inside(t, sign * 15.2, 1.5, 1.8, 0.2), SOLDER, 1.4, 0.4, 0.9)
            bench.add(bench.inside(sign * 17.0, t, 3.6, 1.5, 0.3), SOLDER, 0.7, 0.4, 0.9)
            bench.add(bench.inside(sign * 15.2, t, 1.8, 1.5, 0.2), SOLDER, 1.4, 0.4, 0.9)
    body = np.minimum(
        bench.inside(0, 0, 29.0, 29.0, 0.3),
        27.6 * bench.scale - _manhattan(bench),
    )
    bench.add(body, _EPOXY, 3.4, 1.3, 0.16)
    bench.add(bench.inside(-11.2, 11.2, 2.4, 2.4, 1.2), (0.012, 0.012, 0.013), 2.9, 0.6, 0.3)
    for line, word in enumerate(text.split(" ")):
        bench.mark(word, 0, (line - 1) * 5.0, 3.2)


def _manhattan(bench: Bench) -> Float:
    """Distance to the centre along the axes, in pixels: level lines are diagonal cuts."""
    cx, cy = bench.at(0, 0)
    yy, xx = np.ogrid[: bench.h, : bench.w]
    return np.asarray(np.abs(xx - cx) + np.abs(yy - cy), dtype=np.float32)


def crystal(bench: Bench, text: str) -> None:
    """Quartz in a metal can, 24 x 10."""
    bench.add(bench.inside(0, 0, 25.0, 10.4, 5.0), (0.40, 0.40, 0.38), 0.8, 0.5, 0.7)
    bench.add(bench.inside(0, 0, 22.6, 8.2, 4.1), (0.44, 0.44, 0.43), 5.2, 1.6, 0.55)
    bench.mark(text, 0, 0, 3.0, (0.06, 0.06, 0.06))


def electrolytic(bench: Bench, text: str) -> None:
    """Aluminium can on a black base, 20 x 20."""
    bench.add(bench.inside(0, 0, 20.0, 20.0, 1.6), (0.016, 0.016, 0.017), 1.4, 0.5, 0.2)
    can = bench.inside(0, 0, 18.4, 18.4, 9.2)
    bench.add(can, (0.46, 0.46, 0.45), 9.0, 1.5, 0.5)
    cx, _ = bench.at(-4.6, 0)
    wedge = np.clip(cx - np.arange(bench.w, dtype=np.float32)[None] + 0.5, 0, 1)
    top = np.clip(can - 1.1 * bench.scale + 0.5, 0, 1)
    bench.paint(wedge * top, (0.017, 0.017, 0.02))
    for line, word in enumerate(text.split(" ")):
        bench.mark(word, 2.0, (line - 0.5) * 4.4, 2.9, (0.03, 0.03, 0.035))


_KINDS: dict[str, tuple[Callable[[Bench, str], None], float, float]] = {
    "resistor": (resistor, 8, 5),
    "capacitor": (capacitor, 8, 5),
    "tantalum": (tantalum, 16, 8),
    "diode": (diode, 10, 5),
    "small_outline": (small_outline, 21, 27),
    "quad_flat": (quad_flat, 38, 38),
    "crystal": (crystal, 26, 11),
    "electrolytic": (electrolytic, 21, 21),
}


@lru_cache(maxsize=96)
def sprite(kind: str, text: str, quarter_turns: int, scale: float) -> Sprite:
    """The sprite of a component at `scale` pixels for each unit; cached, read only."""
    build, width, height = _KINDS[kind]
    bench = Bench(width, height, scale)
    build(bench, text)
    upright = bench.finish()
    arrays = [
        np.ascontiguousarray(np.rot90(a, -quarter_turns)) for a in (upright.colour, upright.relief)
    ]
    for array in arrays:
        array.setflags(write=False)
    return Sprite(*arrays)
