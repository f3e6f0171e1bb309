"""`Camera`: what opens a live source and reads it, frame by frame, in one thread.

A camera is made anew for every attempt and blocks as long as its driver blocks; timeouts, new
attempts and counting are the reader's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Value = bool | int | float | str
"""Of a setting. An enumeration's is the name of its entry."""

Settings = Mapping[str, Value]
"""Of an industrial camera by their GenICam names, in the order in which they are made: a selector
comes before what it selects."""

DAMAGED = "damaged"
"""Counts frames that are no whole image."""

LOST = "lost"
"""Counts frames that a camera took, by its own count, and that never arrived."""

WITHOUT_TRIGGER = "without trigger"
"""Counts frames that came although nobody had triggered the camera."""


class DamagedFrame(Exception):
    """A frame was captured but is no whole image, or must not be used.

    Attributes:
        dropped: the reason under which it is counted, see `Status.dropped`.
        count: how many such frames.
    """

    def __init__(self, message: str = "", *, dropped: str = DAMAGED, count: int = 1) -> None:
        super().__init__(message)
        self.dropped = dropped
        self.count = count


class CameraLost(Exception):
    """A camera cannot be opened or gives no more frames; worth another attempt."""


class NothingYet(Exception):
    """No frame has come, and reading may go on.

    Attributes:
        armed: the camera is there and waits for a trigger, so that this is no stall.
    """

    def __init__(self, *, armed: bool) -> None:
        super().__init__("no frame yet")
        self.armed = armed


class NoPicture(Exception):
    """A trigger was sent and gave no picture; the message says why. No frame was captured."""


class TriggerFailed(Exception):
    """A trigger has no picture; the message says why, on one line."""


class Camera(Protocol):
    """One attempt at a live source. Used by one thread only, which also closes it.

    One that has something to say of its images, or of settings that it did not take, has it in an
    attribute `note`; it is told once the camera works.
    """

    def open(self) -> None:
        """Connect.

        Raises:
            UsageError: it can never work, so that no further attempt is made.
            Exception: everything else is worth another attempt; the message is the reason shown.
        """

    def read(self) -> NDArray[np.uint8] | None:
        """Wait for the next frame.

        Returns:
            (H, W, 3) uint8 RGB, not changed afterwards; None at the true end of the source. A
            network stream that breaks off has not come to its end, it raises.

        Raises:
            DamagedFrame: this frame cannot be used, the next one may be.
            NothingYet: nothing has come so far; lets the reader look whether it should go on.
            NoPicture: a trigger that `TriggeredCamera.trigger` asked for gave none.
            Exception: the connection is lost; the message is the reason shown.
        """

    def close(self) -> None:
        """Free everything; called once, also after a failed `open`."""


@runtime_checkable
class TriggeredCamera(Camera, Protocol):
    """A camera that can be told to take a picture."""

    def trigger(self, timeout: float) -> None:
        """Ask for one picture, from any thread; returns at once.

        `read` then returns that picture, or raises DamagedFrame or NoPicture for it within
        `timeout` seconds. The next one may be asked for after that only.

        Raises:
            TriggerFailed: the camera is not set to be triggered by software.
        """


CameraFactory = Callable[[], Camera]
