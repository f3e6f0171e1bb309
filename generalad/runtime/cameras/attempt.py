"""`Attempt`: one camera, opened once, what it is doing, and why it came to an end."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field

from generalad.errors import GadError

_FPS_FRAMES = 100
_FPS_SECONDS = 0.5  # shorter is no measure: after opening, drivers give what they had stored


@dataclass(eq=False)
class Attempt:
    """One camera, opened once, and its thread; fields are guarded by the lock."""

    number: int
    thread: threading.Thread | None = None
    doing: str = "open"
    waiting_since: float | None = None  # None while the camera has nothing to answer for
    damaged: bool = False  # frames have come since the last whole one, none of them whole
    first_frame: float | None = None
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


def reason_of(error: Exception) -> str:
    """Why an attempt failed; remedies are left out, they would repeat at every attempt."""
    text = error.message if isinstance(error, GadError) else str(error)
    return text or type(error).__name__
