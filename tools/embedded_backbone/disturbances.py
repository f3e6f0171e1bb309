"""Local disturbances of an image: what the backbone learns to tell from the category itself.

Each takes an RGB image (H, W, 3) float32, about 0...1, and gives a changed copy. The exact mask
is the difference, taken by the caller.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np

from tools.embedded_backbone.field import Float, cover, lines, noise, smoothstep

Rng = np.random.Generator


def _log(rng: Rng, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(math.log(low), math.log(high))))


def _strength(rng: Rng, low: float = 0.07, high: float = 0.6) -> Float:
    """A colour offset, grey more often than not."""
    offset = np.full(3, rng.choice([-1.0, 1.0]) * _log(rng, low, high))
    if rng.random() < 0.4:
        offset = offset * rng.uniform(-0.3, 1.3, 3)
    return offset.astype(np.float32)


def region(rng: Rng, side: int, low: float = 0.025, high: float = 0.14) -> Float:
    """A soft or hard patch of random outline, 0...1; radius `low`...`high` of the side."""
    radius = _log(rng, low, high) * side
    squash, turn = float(rng.uniform(0.3, 1)), float(rng.uniform(0, math.pi))
    t = np.linspace(0, 2 * math.pi, 25)[:-1]
    rough = sum(
        float(rng.normal(0, 0.16 / k)) * np.cos(k * t + float(rng.uniform(0, 6))) for k in (2, 3, 5)
    )
    reach = radius * (1 + rough)
    x, y = reach * np.cos(t), reach * squash * np.sin(t)
    centre = rng.uniform(0.06, 0.94, 2) * side
    c, s = math.cos(turn), math.sin(turn)
    points = np.stack([c * x - s * y, s * x + c * y], axis=1) + centre
    mask = cover(side, [points.astype(np.float32)])
    soft = float(rng.choice([0.0, 0.7, 0.3 * radius]))
    return mask if soft < 0.3 else np.asarray(cv2.GaussianBlur(mask, (0, 0), soft), np.float32)


def _path(rng: Rng, side: int, length: float, wander: float, curl: float) -> Float:
    count = 16
    heading = float(rng.uniform(0, 2 * math.pi)) + np.cumsum(rng.normal(0, wander, count))
    heading = heading + np.linspace(0, curl, count)
    step = np.stack([np.cos(heading), np.sin(heading)], axis=1) * (length * side / count)
    path = np.cumsum(step, axis=0)
    return np.asarray(path - path.mean(0) + rng.uniform(0.1, 0.9, 2) * side, dtype=np.float32)


def _mix(image: Float, other: Float, mask: Float) -> Float:
    return np.asarray(image + mask[..., None] * (other - image), dtype=np.float32)


def scratch(rng: Rng, image: Float, donor: Float) -> Float:
    """A straight or bent line, dark, bright, or one beside the other."""
    side = image.shape[0]
    path = _path(rng, side, _log(rng, 0.06, 0.5), 0.05, float(rng.normal(0, 0.3)))
    width, offset = _log(rng, 0.6, 2.6), _strength(rng, 0.12, 0.8)
    out = image + lines(side, [path], width)[..., None] * offset
    if rng.random() < 0.4:
        shift = path + rng.normal(0, 1, 2).astype(np.float32) * max(1.0, width)
        out = out - lines(side, [shift], width)[..., None] * offset * np.float32(0.7)
    return np.asarray(out, dtype=np.float32)


def hair(rng: Rng, image: Float, donor: Float) -> Float:
    """A curled thread lying on top, with or without a shadow."""
    side = image.shape[0]
    path = _path(rng, side, _log(rng, 0.15, 0.6), 0.2, float(rng.normal(0, 3)))
    colour = rng.uniform(0, 1, 3).astype(np.float32)
    out = image
    if rng.random() < 0.4:
        out = out * (1 - np.float32(0.3) * lines(side, [path + np.float32(1.5)], 2)[..., None])
    return _mix(out, colour, lines(side, [path], _log(rng, 0.6, 2.5)))


def crack(rng: Rng, image: Float, donor: Float) -> Float:
    """A dark jagged line with a branch."""
    side = image.shape[0]
    path = _path(rng, side, _log(rng, 0.1, 0.5), 0.5, 0)
    branch = _path(rng, side, _log(rng, 0.05, 0.2), 0.5, 0)
    branch = branch - branch[0] + path[int(rng.integers(4, 12))]
    dark = lines(side, [path, branch], _log(rng, 0.7, 1.8)) * np.float32(rng.uniform(0.2, 0.9))
    return np.asarray(image * (1 - dark[..., None]), dtype=np.float32)


def stain(rng: Rng, image: Float, donor: Float) -> Float:
    """A patch that is darker, lighter or tinted, evenly or in clouds."""
    side = image.shape[0]
    mask = region(rng, side, 0.03, 0.16)
    if rng.random() < 0.5:
        clouds = noise(rng, side, _log(rng, 4, 24))
        mask = mask * smoothstep(clouds * np.float32(0.4) + np.float32(0.6))
    offset = _strength(rng, 0.05, 0.35)
    if rng.random() < 0.5:
        return np.asarray(image * (1 + mask[..., None] * offset * 1.5), dtype=np.float32)
    return np.asarray(image + mask[..., None] * offset, dtype=np.float32)


def specks(rng: Rng, image: Float, donor: Float) -> Float:
    """One or a few small spots, dust or splashes."""
    side = image.shape[0]
    mask = np.zeros((side, side), dtype=np.float32)
    for _ in range(int(rng.integers(1, 5))):
        mask = np.maximum(mask, region(rng, side, 0.008, 0.035))
    return _mix(
        image, rng.uniform(0, 1, 3).astype(np.float32), mask * np.float32(_log(rng, 0.3, 1))
    )


def dent(rng: Rng, image: Float, donor: Float) -> Float:
    """A bump or hollow: bright to one side, dark to the other."""
    side = image.shape[0]
    mask = cv2.GaussianBlur(region(rng, side, 0.02, 0.09), (0, 0), _log(rng, 0.8, 4))
    turn = float(rng.uniform(0, 2 * math.pi))
    slope = math.cos(turn) * cv2.Sobel(mask, -1, 1, 0) + math.sin(turn) * cv2.Sobel(mask, -1, 0, 1)
    peak = max(float(np.abs(slope).max()), 1e-6)
    return np.asarray(image + slope[..., None] * (_log(rng, 0.12, 0.6) / peak), dtype=np.float32)


def soften(rng: Rng, image: Float, donor: Float) -> Float:
    """A patch out of focus."""
    blurred = cv2.GaussianBlur(image, (0, 0), _log(rng, 1.2, 5))
    return _mix(image, blurred, region(rng, image.shape[0], 0.04, 0.16))


def roughen(rng: Rng, image: Float, donor: Float) -> Float:
    """A patch with noise of its own, or with more or less contrast."""
    side = image.shape[0]
    mask = region(rng, side, 0.03, 0.14)
    if rng.random() < 0.5:
        grains = noise(rng, side, _log(rng, 16, 110)) * np.float32(_log(rng, 0.06, 0.25))
        return np.asarray(image + (mask * grains)[..., None], dtype=np.float32)
    mean = cv2.GaussianBlur(image, (0, 0), 5)
    return _mix(image, mean + (image - mean) * np.float32(rng.choice([0.25, 0.5, 1.7, 2.5])), mask)


def warp(rng: Rng, image: Float, donor: Float) -> Float:
    """A bulge, pinch, swirl or push."""
    side = image.shape[0]
    mask = cv2.GaussianBlur(region(rng, side, 0.05, 0.15), (0, 0), 0.025 * side)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32)
    total = max(float(mask.sum()), 1e-3)
    dx, dy = x - float((mask * x).sum()) / total, y - float((mask * y).sum()) / total
    kind, amount = int(rng.integers(3)), rng.choice([-1, 1]) * _log(rng, 0.25, 0.9)
    if kind == 0:
        dx, dy = dx * amount, dy * amount
    elif kind == 1:
        dx, dy = -dy * amount, dx * amount
    else:
        turn, push = float(rng.uniform(0, 6.3)), amount * 0.07 * side
        dx, dy = np.full_like(dx, push * math.cos(turn)), np.full_like(dy, push * math.sin(turn))
    across, down = (x + mask * dx).astype(np.float32), (y + mask * dy).astype(np.float32)
    moved = cv2.remap(image, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(moved, dtype=np.float32)


def dislocate(rng: Rng, image: Float, donor: Float) -> Float:
    """A strip moved along itself: a dropped, doubled or shifted row."""
    side = image.shape[0]
    angle = float(rng.choice([0, math.pi / 2, rng.uniform(0, math.pi)]))
    path = _path(rng, side, _log(rng, 0.2, 1.2), 0.0, 0.0)
    path = path[:1] + np.linspace(0, 1, 16)[:, None].astype(np.float32) * (
        np.array([math.cos(angle), math.sin(angle)], np.float32) * _log(rng, 0.2, 1.2) * side
    )
    mask = lines(side, [path], _log(rng, 2, 9))
    turn = angle + float(rng.choice([0, math.pi / 2]))
    shift = _log(rng, 1.5, 8)
    matrix = np.array([[1, 0, shift * math.cos(turn)], [0, 1, shift * math.sin(turn)]])
    moved = cv2.warpAffine(image, matrix, (side, side), borderMode=cv2.BORDER_REFLECT)
    return _mix(image, moved, mask)


def streak(rng: Rng, image: Float, donor: Float) -> Float:
    """A long soft bar, upright, level or slanted: a thick row, a smear, a tide mark."""
    side = image.shape[0]
    angle = float(rng.choice([0, math.pi / 2, rng.uniform(0, math.pi)]))
    reach = np.array([math.cos(angle), math.sin(angle)], np.float32) * _log(rng, 0.1, 0.7) * side
    centre = rng.uniform(0.1, 0.9, 2).astype(np.float32) * side
    path = np.stack([centre - reach, centre + reach]).astype(np.float32)
    mask = cv2.GaussianBlur(lines(side, [path], _log(rng, 1.5, 10)), (0, 0), _log(rng, 0.4, 2))
    return np.asarray(image + mask[..., None] * _strength(rng, 0.06, 0.35), dtype=np.float32)


def transplant(rng: Rng, image: Float, donor: Float) -> Float:
    """A patch of the same image from elsewhere, turned, mirrored or scaled."""
    side = image.shape[0]
    turn, scale = rng.uniform(0.4, 5.9), _log(rng, 0.5, 2)
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), math.degrees(turn), scale)
    matrix[:, 2] += rng.uniform(-0.3, 0.3, 2) * side
    source = image[:, ::-1] if rng.random() < 0.3 else image
    moved = cv2.warpAffine(
        np.ascontiguousarray(source), matrix, (side, side), borderMode=cv2.BORDER_REFLECT
    )
    return _mix(image, moved, region(rng, side, 0.03, 0.13))


def foreign(rng: Rng, image: Float, donor: Float) -> Float:
    """A patch of another category, opaque or not, sometimes in this one's brightness."""
    side = image.shape[0]
    mask = region(rng, side, 0.03, 0.14)
    other = donor
    if rng.random() < 0.5:
        other = donor - donor.mean((0, 1)) + image.mean((0, 1))
    return _mix(image, other, mask * np.float32(_log(rng, 0.3, 1)))


def erase(rng: Rng, image: Float, donor: Float) -> Float:
    """A patch filled from its surroundings, or with one colour: something is missing."""
    side = image.shape[0]
    mask = region(rng, side, 0.025, 0.12)
    hole = 1 - (mask > 0.05).astype(np.float32)
    weight = cv2.GaussianBlur(hole, (0, 0), 0.05 * side) + np.float32(1e-4)
    around = cv2.GaussianBlur(image * hole[..., None], (0, 0), 0.05 * side) / weight[..., None]
    if rng.random() < 0.3:
        around = np.broadcast_to(rng.uniform(0, 1, 3).astype(np.float32), image.shape)
    return _mix(image, around, mask)


def nudge(rng: Rng, image: Float, donor: Float) -> Float:
    """A patch moved by a little: a chipped edge, a doubled or displaced piece."""
    side = image.shape[0]
    shift = rng.normal(0, 0.06, 2) * side
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
    moved = cv2.warpAffine(image, matrix, (side, side), borderMode=cv2.BORDER_REFLECT)
    return _mix(image, moved, region(rng, side, 0.03, 0.14))


def chip(rng: Rng, image: Float, ground: Float) -> Float:
    """A piece broken out, so that the `ground` below shows; at the rim where one is found."""
    side = image.shape[0]
    inside = (np.abs(image - ground).max(axis=2) > 0.02).astype(np.uint8)
    rim = np.argwhere(inside - cv2.erode(inside, np.ones((3, 3), np.uint8)))
    mask = region(rng, side, 0.02, 0.07)
    if len(rim):
        y, x = rim[int(rng.integers(len(rim)))]
        weight = max(float(mask.sum()), 1e-3)
        rows, columns = np.mgrid[0:side, 0:side]
        moves = (
            float(x - (mask * columns).sum() / weight),
            float(y - (mask * rows).sum() / weight),
        )
        matrix = np.array([[1, 0, moves[0]], [0, 1, moves[1]]])
        mask = np.asarray(cv2.warpAffine(mask, matrix, (side, side)), dtype=np.float32)
    return _mix(image, ground, mask)


DISTURBANCES: tuple[Callable[[Rng, Float, Float], Float], ...] = (
    scratch, scratch, hair, crack, stain, stain, specks, specks, dent, soften, roughen, warp,
    dislocate, streak, transplant, foreign, erase, nudge,
)  # fmt: skip


def disturb(rng: Rng, image: Float, donor: Float) -> Float:
    """One, sometimes two or three, random disturbances; `donor` is of another category."""
    out = image
    for _ in range(int(rng.choice([1, 2, 3], p=[0.6, 0.25, 0.15]))):
        out = DISTURBANCES[int(rng.integers(len(DISTURBANCES)))](rng, out, donor)
    return np.clip(out, 0, 1)
