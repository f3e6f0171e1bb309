"""`Attempt`: one camera, opened once, and its thread; `PendingTrigger`: a picture asked of it."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field

from generalad.runtime.cameras.camera import Camera
from generalad.runtime.sources import Frame

_FPS_FRAMES = 100
_FPS_SECONDS = 0.5  # shorter is no measure: after opening, drivers give what they had stored


@dataclass(eq=False)
class Attempt:
    """One camera, opened once, and its thread; fields are guarded by the lock."""

    number: int
    waiting_since: float  # for the driver to open, read or close
    doing: str = "open"
    thread: threading.Thread | None = None
    camera: Camera | None = None
    damaged: bool = False  # frames have come since the last whole one, none of them whole
    works_since: float | None = None  # the first frame, or that it waits for a trigger
    worked_at: float = 0.0  # the last time
    times: deque[float] = field(default_factory=lambda: deque(maxlen=_FPS_FRAMES))

    def fps(self) -> float:
        """Frames a second over the last frames, 0 while there are too few."""
        span = self.times[-1] - self.times[0] if self.times else 0.0
        return (len(self.times) - 1) / span if span >= _FPS_SECONDS else 0.0

    def why_given_up(self, limit: float) -> str:
        """The reason, after `limit` seconds without an answer."""
        read = "only damaged frames for" if self.damaged else "no frame for"
        what = {"open": "opening takes", "read": read, "close": "closing takes"}[self.doing]
        return f"{what} {limit:g} s"


@dataclass(eq=False)
class PendingTrigger:
    """The one picture that a trigger is to give; fields are guarded by the lock.

    Attributes:
        attempt: the camera that was triggered.
        until: when its driver must have said what became of it, in monotonic seconds.
        frame: the picture.
        failure: why there is none.
    """

    attempt: Attempt
    until: float
    frame: Frame | None = None
    failure: str = ""

    @property
    def open(self) -> bool:
        """Whether neither has come."""
        return self.frame is None and not self.failure
