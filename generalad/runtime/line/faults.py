"""Camera faults: images that show no part, or not as the camera is to show it.

`Limits` says what an image may look like, learned from the calibration images, so that a dark
part is no dark camera; `FaultDetector` adds what needs several images of one stream: whether it
is frozen, and when a fault is reported. An image with a fault is not an anomaly and not scored.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from generalad.image_statistics import Statistics, statistics
from generalad.spec import Reference

FaultKind = Literal["black", "covered", "defocused", "over-exposed", "frozen", "size"]

FROZEN_AFTER = 10.0
"""Seconds of equal images. Where nothing moves, H.264 and H.265 repeat an image exactly until
the next key frame, which cameras send every 1 to 4 seconds."""

RAISED_AFTER, CLEARED_AFTER = 3, 5
"""Bad images in a row that raise a fault, and good ones that clear it."""

_BLACK = 16.0
_NO_STRUCTURE = 1.0
"""Without a reference, what has at most this brightness and structure is black for certain."""


class Fault(NamedTuple):
    """What is wrong with an image, and what that was seen by."""

    kind: FaultKind
    reason: str

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

    def fault(self, found: Statistics, image_size: tuple[int, int]) -> Fault | None:
        """What is wrong with one image by itself.

        Args:
            found: of the image after the resize.
            image_size: (height, width) before it.
        """
        if self._reference is None:
            if found.brightness <= _BLACK and found.structure <= _NO_STRUCTURE:
                return Fault("black", f"brightness {found.brightness:.0f} of 255 and no structure")
            return None
        return self._size(image_size, self._reference) or self._light(found) or self._focus(found)

    def _size(self, image_size: tuple[int, int], reference: Reference) -> Fault | None:
        height, width = image_size
        ratio = width / height
        low, high = reference.aspect_ratios
        # 3 %: more than rounding, less than between any two formats of cameras.
        margin = 1.03 * (high / low) ** _share(reference)
        if not low / margin <= ratio <= high * margin:
            return Fault(
                "size",
                f"{width} x {height}, width / height is {ratio:.2f}, at calibration"
                f" {low:.2f} to {high:.2f}",
            )
        least_height, least_width = reference.smallest
        if 2 * height < least_height or 2 * width < least_width:
            return Fault(
                "size",
                f"{width} x {height}, less than half of {least_width} x {least_height} at"
                " calibration",
            )
        return None

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


def _range(reference: Reference, name: str, factor: float, *, offset: float) -> tuple[float, float]:
    """From where to where a statistic may go; the offset keeps what is nearly 0 from weighing much.

    Beyond the calibration images by `factor`, or by a share of how far these lie apart.
    """
    values = reference.statistics[name]
    low, median, high = (math.log(v + offset) for v in (values[0], _middle(values), values[-1]))
    share, least = _share(reference), math.log(factor)
    below = low - max(least, share * (median - low))
    above = high + max(least, share * (high - median))
    return math.exp(below) - offset, math.exp(above) - offset


def _share(reference: Reference) -> float:
    """Few images do not show how far others go: half of their range again, or all for ten."""
    return 0.5 + 5 / reference.images


def _middle(values: tuple[float, ...]) -> float:
    return values[len(values) // 2]


def _expected(found: float, least: float) -> str:
    return f"{found:.3g}, expected at least {least:.3g}"


class Checked(NamedTuple):
    """What an image's check found.

    Attributes:
        fault: what is wrong with this image; it is not to be scored then.
        change: data of a notification of kind "fault" if the stream's state changed with it.
        statistics: of the image.
    """

    fault: Fault | None
    change: dict[str, Any] | None
    statistics: Statistics


class FaultDetector:
    """Watches the images of one stream, in one thread."""

    def __init__(self, reference: Reference | None, *, frozen_after: float = FROZEN_AFTER) -> None:
        """Watch a stream.

        Args:
            reference: what the artifact was calibrated on; without it only black and frozen
                images are recognised.
            frozen_after: seconds of exactly equal images, at least three, that are a fault.
        """
        self._limits = Limits(reference)
        self._frozen = _Frozen(frozen_after)
        self._state: FaultKind | None = None
        self._since = 0.0
        self._row: list[FaultKind | None] = []

    @property
    def state(self) -> FaultKind | None:
        """The fault that is raised."""
        return self._state

    def check(self, pixels: NDArray[np.uint8], image_size: tuple[int, int], time: float) -> Checked:
        """Check the next image.

        Args:
            pixels: (H, W, 3) uint8 RGB, the network's input.
            image_size: (height, width) of the image before the resize.
            time: when it was taken, in seconds of a clock that runs evenly.
        """
        found = statistics(pixels)
        frozen = self._frozen.check(pixels, found, time)
        fault = self._limits.fault(found, image_size) or frozen
        return Checked(fault, self._judge(fault, time), found)

    def _judge(self, fault: Fault | None, time: float) -> dict[str, Any] | None:
        kind = fault.kind if fault else None
        self._row = [*self._row, kind][-CLEARED_AFTER:]
        latest = self._row[-RAISED_AFTER:]
        if kind is None:
            return self._cleared(time)
        if kind == self._state or len(latest) < RAISED_AFTER or None in latest:
            return None
        # Faults that take turns are one camera that is not usable: the first of them stays.
        if self._state is not None and set(latest) != {kind}:
            return None
        if self._state is None:
            self._since = time
        self._state = kind
        return {"state": "raised", "fault": kind, "reason": fault.reason if fault else ""}

    def _cleared(self, time: float) -> dict[str, Any] | None:
        if self._state is None or len(self._row) < CLEARED_AFTER or any(self._row):
            return None
        change = {"state": "cleared", "fault": self._state, "seconds": time - self._since}
        self._state = None
        return change


class _Frozen:
    """Whether images have been exactly equal for some time."""

    def __init__(self, after: float) -> None:
        self._after = after
        self._last: tuple[Statistics, NDArray[np.uint8]] | None = None
        self._since = 0.0
        self._repeats = 0

    def check(self, pixels: NDArray[np.uint8], found: Statistics, time: float) -> Fault | None:
        last = self._last
        # The statistics differ first, nearly always: the pixels are rarely compared.
        if last is None or last[0] != found or not np.array_equal(last[1], pixels):
            # A copy, because cameras and programs use their memory again.
            self._last, self._since, self._repeats = (found, pixels.copy()), time, 0
            return None
        self._repeats += 1
        self._since = min(self._since, time)  # a clock that was set back
        seconds = time - self._since
        if seconds < self._after or self._repeats < 2:
            return None
        return Fault("frozen", f"exactly the same image for {seconds:.0f} s")
