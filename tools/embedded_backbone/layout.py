"""Layered shapes at fixed places, jittered from image to image; one of them may be wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from tools.embedded_backbone.field import Float, Pose

Rng = np.random.Generator
Image = NDArray[np.uint8]


def _ellipse(width: float, height: float) -> Float:
    t = np.linspace(0, 2 * math.pi, 21)[:-1]
    return np.stack([width * np.cos(t), height * np.sin(t)], axis=1).astype(np.float32)


def _outline(rng: Rng) -> Float:
    """A closed outline of about unit radius, (n, 2)."""
    kind, squash = int(rng.integers(6)), float(rng.uniform(0.3, 1))
    if kind == 0:
        return _ellipse(1, 1)
    if kind == 1:
        return _ellipse(1, squash)
    if kind == 2:
        return np.array([[-1, -squash], [1, -squash], [1, squash], [-1, squash]], dtype=np.float32)
    corners = int(rng.integers(3, 9))
    t = np.arange(corners) * (2 * math.pi / corners)
    if kind == 3:
        return np.stack([np.cos(t), np.sin(t)], axis=1).astype(np.float32)
    if kind == 4:  # star or gear
        t = np.arange(2 * corners) * (math.pi / corners)
        radius = np.where(np.arange(2 * corners) % 2 == 0, 1.0, float(rng.uniform(0.4, 0.85)))
        return np.stack([radius * np.cos(t), radius * np.sin(t)], axis=1).astype(np.float32)
    t = np.linspace(0, 2 * math.pi, 25)[:-1]
    radius = np.ones_like(t) + sum(
        float(rng.normal(0, 0.3 / k)) * np.cos(k * t + float(rng.uniform(0, 6))) for k in (2, 3, 4)
    )
    return np.stack([radius * np.cos(t), radius * np.sin(t)], axis=1).astype(np.float32)


@dataclass(frozen=True)
class Kind:
    """What several elements share: parts drawn one over the other.

    Attributes:
        parts: for each part its points (n, 2) about the element's centre, its colour 0...255, and
            the width of the line (share of the image) or 0 for a filled outline.
    """

    parts: tuple[tuple[Float, Float, float], ...]

    @classmethod
    def draw_one(cls, rng: Rng) -> Kind:
        """One to three parts, concentric or beside each other."""
        parts = []
        base = _outline(rng)
        for index in range(int(rng.integers(1, 4))):
            points = base if index == 0 else _outline(rng) * np.float32(rng.uniform(0.2, 0.8))
            if index and rng.random() < 0.4:
                points = points + rng.uniform(-0.7, 0.7, 2).astype(np.float32)
            width = float(rng.uniform(0.006, 0.03)) if rng.random() < 0.3 else 0.0
            if rng.random() < 0.15:  # an open stroke
                points = np.cumsum(rng.normal(0, 0.6, (4, 2)), axis=0).astype(np.float32)
                width = float(rng.uniform(0.006, 0.03))
            parts.append((points, rng.uniform(0, 255, 3).astype(np.float32), width))
        return cls(tuple(parts))


@dataclass(frozen=True)
class Element:
    """One thing at one place of the category's plane."""

    kind: int
    x: float
    y: float
    size: float
    angle: float
    tint: tuple[float, float, float] = (0.0, 0.0, 0.0)


class Layout:
    """A fixed arrangement: strewn, on a lattice, around a centre, or in rows.

    Args:
        rng: source of the category's parameters.
        reach: half the width of the arrangement, share of the image.
        crowd: number of further, smaller arrangements beside or over the first.
    """

    def __init__(self, rng: Rng, reach: float, crowd: int) -> None:
        self.kinds = [Kind.draw_one(rng) for _ in range(int(rng.integers(1, 5)))]
        self.elements = self._arrange(rng, reach)
        for _ in range(crowd):
            part = float(rng.uniform(0.2, 0.7))
            x, y = (float(value) for value in rng.uniform(-1, 1, 2) * reach * (1.1 - part))
            self.elements += [
                replace(one, x=one.x + x, y=one.y + y) for one in self._arrange(rng, reach * part)
            ]
        self.wobble = float(rng.choice([0.0, 0.003, 0.01]))
        self.vary = float(rng.choice([0.0, 4.0, 12.0]))
        self.stroke = rng.uniform(-1, 1, (int(rng.integers(0, 4)), 4, 2)) * reach
        self.stroke_colour = rng.uniform(0, 255, 3)

    def _arrange(self, rng: Rng, reach: float) -> list[Element]:
        style = int(rng.integers(4))
        turn = float(rng.choice([0.0, math.pi / 2, rng.uniform(0, 6.3)]))
        if style == 0:
            count = int(rng.integers(3, 22))
            places = rng.uniform(-reach, reach, (count, 2))
            sizes = np.exp(rng.uniform(math.log(0.02), math.log(0.14), count))
            turns = rng.choice([0.0, math.pi / 2, 0.7], count) if rng.random() < 0.7 else None
            angles = rng.uniform(0, 6.3, count) if turns is None else turns
        elif style == 1:
            columns, rows = (int(value) for value in rng.integers(2, 9, 2))
            grid = np.meshgrid(np.linspace(-1, 1, columns), np.linspace(-1, 1, rows))
            places = np.stack(grid, axis=-1).reshape(-1, 2) * reach
            sizes = np.full(len(places), reach / max(columns, rows) * rng.uniform(0.3, 0.95))
            angles = np.full(len(places), turn)
        elif style == 2:
            count = int(rng.integers(3, 20))
            around = np.arange(count) * (2 * math.pi / count)
            radius = reach * float(rng.uniform(0.4, 0.9))
            places = np.stack([np.cos(around), np.sin(around)], axis=1) * radius
            sizes = np.full(count, radius * min(0.5, 2.6 / count) * rng.uniform(0.4, 1))
            angles = around + turn
        else:
            rows = int(rng.integers(2, 6))
            each = [int(value) for value in rng.integers(2, 8, rows)]
            places = np.concatenate(
                [
                    np.stack([np.linspace(-reach, reach, n), np.full(n, y)], axis=1)
                    for n, y in zip(each, np.linspace(-reach, reach, rows), strict=True)
                ]
            )
            sizes = np.concatenate([np.full(n, reach / max(n, rows)) for n in each])
            sizes = sizes * rng.uniform(0.4, 0.9)
            angles = np.full(len(places), turn)
        kinds = rng.integers(0, len(self.kinds), len(places))
        if rng.random() < 0.5:
            kinds = np.arange(len(places)) % len(self.kinds)
        return [
            Element(int(kind), float(place[0]), float(place[1]), float(size), float(angle))
            for kind, place, size, angle in zip(kinds, places, sizes, angles, strict=True)
        ]

    def draw(self, rng: Rng, pose: Pose, image: Image, elements: list[Element]) -> None:
        """Draw onto `image` (H, W, 3) uint8; `elements` is `self.elements` or a wrong version."""
        for stroke in self.stroke:
            path = np.round(pose.pixels(stroke.astype(np.float32)) * 16).astype(np.int32)
            cv2.polylines(image, [path], False, self.stroke_colour.tolist(), 1, cv2.LINE_AA, 4)
        for element in elements:
            shift = rng.normal(0, 1, 3) * self.wobble
            shade = rng.normal(0, 1) * self.vary
            if element.size == 0:
                continue
            angle = element.angle + shift[2] * 4
            c, s = math.cos(angle) * element.size, math.sin(angle) * element.size
            turn = np.array([[c, s], [-s, c]], dtype=np.float32)
            centre = np.array([element.x + shift[0], element.y + shift[1]], dtype=np.float32)
            for points, colour, width in self.kinds[element.kind].parts:
                fixed = np.round(pose.pixels(points @ turn + centre) * 16).astype(np.int32)
                paint = np.clip(colour + shade + np.array(element.tint), 0, 255).tolist()
                if width > 0:
                    thick = max(1, round(width * pose.side))
                    cv2.polylines(image, [fixed], len(points) > 4, paint, thick, cv2.LINE_AA, 4)
                else:
                    cv2.fillPoly(image, [fixed], paint, cv2.LINE_AA, 4)

    def spoil(self, rng: Rng) -> list[Element]:
        """The elements with one missing, moved, turned, resized, recoloured, replaced or added."""
        elements = list(self.elements)
        index = int(rng.integers(len(elements)))
        victim = elements[index]
        fault = int(rng.integers(7))
        if fault == 0:
            elements[index] = replace(victim, size=0.0)  # keeps its turn in the stream of chance
        elif fault == 1:
            turn, far = float(rng.uniform(0, 6.3)), victim.size * float(rng.uniform(0.4, 1.5))
            moved = (victim.x + far * math.cos(turn), victim.y + far * math.sin(turn))
            elements[index] = replace(victim, x=moved[0], y=moved[1])
        elif fault == 2:
            elements[index] = replace(victim, angle=victim.angle + float(rng.uniform(0.3, 2.8)))
        elif fault == 3:
            factor = float(rng.choice([0.5, 0.7, 1.4, 1.8]))
            elements[index] = replace(victim, size=victim.size * factor)
        elif fault == 4:
            tint = rng.choice([-1, 1]) * rng.uniform(25, 120, 3) * (rng.random(3) < 0.7)
            elements[index] = replace(victim, tint=(float(tint[0]), float(tint[1]), float(tint[2])))
        elif fault == 5:
            elements[index] = replace(victim, kind=(victim.kind + 1) % len(self.kinds))
        else:
            x, y = (float(value) for value in rng.uniform(-0.4, 0.4, 2))
            elements.append(replace(victim, x=x, y=y))
        return elements
