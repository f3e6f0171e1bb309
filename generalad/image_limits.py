"""`Limits`: what an image of a stream may look like, learned from the calibration images."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from generalad.image_statistics import NEUTRAL, Statistics, statistics
from generalad.spec import Reference

FaultKind = Literal[
    "black", "covered", "defocused", "over-exposed", "colour", "frozen", "size", "not found"
]

_BLACK = 16.0
_NO_STRUCTURE = 1.0
"""What has at most this brightness and structure is black for certain."""

_NO_COLOUR = 0.25
"""Share of the least saturation at calibration below which a camera shows no colour."""

_LEAST_SATURATION = 2.0
"""Where calibration images have less, there is no colour to lose; without colour it is 0."""

_LEAST_COLOUR = 3.0
"""Least difference of red and blue to tell by; codecs shift grey by one or two."""

Opponent = TypeVar("Opponent", float, NDArray[np.float64])
"""A mean of opponent colours less `NEUTRAL`, or those of several images."""


class Fault(NamedTuple):
    """What is wrong with an image, and what that was seen by.

    Attributes:
        kind: which fault it would be.
        reason: in words.
        certain: whether no part could look like that.
    """

    kind: FaultKind
    reason: str
    certain: bool = False

    def __str__(self) -> str:
        return f"{self.kind}: {self.reason}"


class Limits:
    """What an image may look like.

    A limit lies beyond the calibration images by a margin in logarithms: at least the factor
    below, and more where these differ among themselves, or are few. A defect changes a part of the
    image; a fault changes all of it, by factors.
    """

    def __init__(self, reference: Reference | None) -> None:
        """Without a reference only a black image is recognised."""
        self._reference = reference
        if reference is None:
            return
        self._dark, _ = _range(reference, "brightness", 2.0, offset=1.0)
        _, self._bright = _range(reference, "brightness", 1.5, offset=1.0)
        self._detail, _ = _range(reference, "detail", 1.25, offset=0.1)
        self._least_detail, _ = _range(reference, "detail", 2.0, offset=0.1)
        self._sharpness, _ = _range(reference, "sharpness", 1.25, offset=0.01)
        self._structure, _ = _range(reference, "structure", 4.0, offset=0.1)
        self._saturated = reference.statistics["saturated"][-1]

    def of_image(self, pixels: NDArray[np.uint8], image_size: tuple[int, int]) -> Fault | None:
        """What is wrong with one image by itself.

        Args:
            pixels: (H, W, 3) uint8 RGB, the network's input.
            image_size: (height, width) of the image before the resize.
        """
        return self.fault(statistics(pixels), image_size)

    def fault(self, found: Statistics, image_size: tuple[int, int]) -> Fault | None:
        """What is wrong with one image by itself.

        Args:
            found: of the image after the resize.
            image_size: (height, width) before it.
        """
        nothing = found.brightness <= _BLACK and found.structure <= _NO_STRUCTURE
        if self._reference is None:
            if not nothing:
                return None
            reason = f"brightness {found.brightness:.0f} of 255 and no structure"
            return Fault("black", reason, certain=True)
        other = self._reference.other_format(image_size)
        fault = (
            (Fault("size", other, certain=True) if other else None)
            or self._light(found)
            or self._focus(found)
            or _colour(found, self._reference)
        )
        if fault is not None and fault.kind == "black" and nothing:
            return fault._replace(certain=True)
        return fault

    def _light(self, found: Statistics) -> Fault | None:
        if found.brightness < self._dark:
            return Fault("black", f"brightness {_expected(found.brightness, self._dark)}")
        more = found.saturated - self._saturated
        if more > 0.35 * (1 - self._saturated) or (more > 0.1 and found.brightness > self._bright):
            return Fault(
                "over-exposed",
                f"{found.saturated:.0%} saturated, at calibration at most {self._saturated:.0%}",
            )
        return None

    def _focus(self, found: Statistics) -> Fault | None:
        if found.structure < self._structure:
            return Fault("covered", f"structure {_expected(found.structure, self._structure)}")
        # Both: less light takes detail too, and a large stain lowers the sharpness.
        if found.detail < self._detail and found.sharpness < self._sharpness:
            return Fault(
                "defocused",
                f"detail {_expected(found.detail, self._detail)},"
                f" sharpness {_expected(found.sharpness, self._sharpness)}",
            )
        if found.detail < self._least_detail:
            return Fault("covered", f"detail {_expected(found.detail, self._least_detail)}")
        return None


def _colour(found: Statistics, reference: Reference) -> Fault | None:
    """A camera without colour, or with red and blue swapped; other shifts are a drift."""
    known = reference.statistics
    if "saturation" not in known:
        return None
    least = known["saturation"][0]
    if least >= _LEAST_SATURATION and found.saturation < _NO_COLOUR * least:
        return Fault(
            "colour", f"saturation {_expected(found.saturation, least)}, as without colour"
        )
    red_green, yellow_blue = found.red_green - NEUTRAL, found.yellow_blue - NEUTRAL
    if not red_and_blue_differ(red_green, yellow_blue):
        return None
    swapped = exchanged(red_green, yellow_blue)
    if _fits(reference, swapped) and not _fits(reference, (red_green, yellow_blue), wider=True):
        return Fault("colour", "red and blue look swapped: so they would be as at calibration")
    return None


def red_and_blue_differ(red_green: Opponent, yellow_blue: Opponent) -> NDArray[np.bool_] | bool:
    """Whether there is enough of either to tell them apart."""
    return abs(red_green + 2 * yellow_blue) >= _LEAST_COLOUR  # red less blue


def exchanged(red_green: Opponent, yellow_blue: Opponent) -> tuple[Opponent, Opponent]:
    """The same of the same image with red and blue exchanged."""
    return red_green / 2 - yellow_blue, -0.75 * red_green - yellow_blue / 2


def _fits(reference: Reference, opponents: tuple[float, float], *, wider: bool = False) -> bool:
    """Whether the means of the opponent colours lie where those of calibration images do."""
    for name, value in zip(("red_green", "yellow_blue"), opponents, strict=True):
        values = reference.statistics[name]
        margin = 0.5 + reference.spread * (values[-1] - values[0]) * (1 + wider)
        if not values[0] - margin <= value + NEUTRAL <= values[-1] + margin:
            return False
    return True


def _range(reference: Reference, name: str, factor: float, *, offset: float) -> tuple[float, float]:
    """From where to where a statistic may go; the offset keeps what is nearly 0 from weighing much.

    Beyond the calibration images by `factor`, or by a share of how far these lie apart.
    """
    values = reference.statistics[name]
    low, median, high = (math.log(v + offset) for v in (values[0], _middle(values), values[-1]))
    share, least = reference.spread, math.log(factor)
    below = low - max(least, share * (median - low))
    above = high + max(least, share * (high - median))
    return math.exp(below) - offset, math.exp(above) - offset


def _middle(values: tuple[float, ...]) -> float:
    return values[len(values) // 2]


def _expected(found: float, least: float) -> str:
    return f"{found:.3g}, expected at least {least:.3g}"
