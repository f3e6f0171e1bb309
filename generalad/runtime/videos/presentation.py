"""When a frame of a video is shown, and which way up; whether a video is whole."""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_LEAST_STEP = 0.001
"""Seconds between frames that a container stamps with the same time."""

_BEGINS_ANEW = 0.5
"""Seconds: stamps that go back by more begin anew, as in recordings that were put together."""

_TOLERANCE = 0.01
"""Share of a video that may be missing without an error: some containers hold an estimate."""


class TurnedUnknown(Exception):
    """It is not known without PyAV how a video is to be shown."""


class Matrix(NamedTuple):
    """The turning part of a display matrix: x' = a x + c y, y' = b x + d y."""

    a: int
    b: int
    c: int
    d: int


def parse_matrix(data: bytes) -> Matrix | None:
    """From nine 32-bit integers, rows first; None if it turns nothing or not by right angles."""
    if len(data) < 36:
        return None
    a, b, _, c, d = struct.unpack("=5i", data[:20])
    along, across = abs(a) + abs(d), abs(b) + abs(c)
    turns_nothing = a > 0 and d > 0 and along > across
    if turns_nothing or not along + across or min(along, across) > 0.1 * max(along, across):
        return None
    return Matrix(a, b, c, d)


def upright(image: NDArray[np.uint8], matrix: Matrix | None) -> NDArray[np.uint8]:
    """An image (H, W, 3) as it is to be shown: turned by right angles, mirrored if it says so."""
    if matrix is None:
        return image
    a, b, c, d = matrix
    if abs(a) + abs(d) >= abs(b) + abs(c):
        to_right, to_bottom = a, d
    else:
        image = image.swapaxes(0, 1)
        to_right, to_bottom = c, b
    if to_right < 0:
        image = image[:, ::-1]
    if to_bottom < 0:
        image = image[::-1]
    return np.ascontiguousarray(image)


class FrameTimes:
    """Seconds from the first frame, strictly rising whatever the container says."""

    def __init__(self, rate: float) -> None:
        """`rate` is in frames a second, for frames without a stamp."""
        self._period = 1 / rate
        self._first: float | None = None
        self.last = 0.0
        """Of the last frame."""
        self.largest_gap = 0.0
        """Between two frames."""
        self._any = False

    def next(self, stamp: float | None) -> float:
        """The time of the next frame, whose presentation stamp in seconds is `stamp`."""
        if self._first is None and stamp is not None:
            self._first = stamp - (self.last + self._period if self._any else 0.0)
        if not self._any:
            self._any = True
            return self.last
        if stamp is None or self._first is None:
            time = self.last + self._period
        else:
            if stamp - self._first < self.last - _BEGINS_ANEW:
                self._first = stamp - (self.last + self._period)
            time = max(stamp - self._first, self.last + _LEAST_STEP)
        self.largest_gap = max(self.largest_gap, time - self.last)
        self.last = time
        return time


def ends_early(
    times: FrameTimes,
    frames: int,
    *,
    rate: float,
    duration: float,
    count: int,
    exact: bool = False,
    shown: float = 0.0,
) -> bool:
    """Whether a video ends before its container says so.

    Args:
        times: of its frames.
        frames: that there were.
        rate: frames a second.
        duration: seconds that the container says, 0 where it does not.
        count: frames that it says, 0 where it does not; may be an estimate.
        exact: whether it counts them, rather than the places that there are for them.
        shown: seconds for which the last frame is shown, 0 where that is not known.
    """
    if not duration and not count:
        return False
    if count and frames >= count - max(2.0, _TOLERANCE * count):
        return False
    if not duration or exact:
        return True
    # Where the rate varies the last frame may be shown as long as any other.
    least = max(_TOLERANCE * duration, times.largest_gap + 2 / rate)
    return duration - (times.last + shown) > least
