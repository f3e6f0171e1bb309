"""`Backoff`: waiting times between attempts; `Clock`: what their users know of time.

Cameras that are opened again and messages that are sent again wait alike. Tests replace the clock.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Protocol

from generalad.errors import UsageError

_DOUBLINGS = 32  # beyond every cap; months of failures must not overflow


@dataclass(frozen=True)
class Backoff:
    """Waiting times between attempts, in seconds: doubled from `first` to `cap`.

    Attributes:
        first: before the second attempt.
        cap: never longer.
        jitter: share of the waiting time that is left to chance, 0...1, so that cameras that went
            down together do not come back together.
        good_after: an attempt that worked for so long was good, and counting starts anew; a camera
            that dies after every first frame is not asked for one at full speed.
    """

    first: float = 0.5
    cap: float = 30.0
    jitter: float = 0.5
    good_after: float = 10.0

    def __post_init__(self) -> None:
        if not (0 < self.first <= self.cap and 0 <= self.jitter <= 1 and self.good_after >= 0):
            raise UsageError(
                "expected 0 < first <= cap, jitter 0...1 and good_after >= 0, found "
                f"{self.first}, {self.cap}, {self.jitter} and {self.good_after}"
            )

    def delay(self, failures: int, chance: float) -> float:
        """Seconds to wait after so many failures in a row, at least 1; `chance` is 0...1."""
        longest = min(self.cap, self.first * 2.0 ** min(failures - 1, _DOUBLINGS))
        return longest * (1 - self.jitter * chance)


class Clock(Protocol):
    """What waiting code knows of time."""

    def now(self) -> float:
        """Monotonic seconds."""

    def wall(self) -> float:
        """Seconds since 1970."""

    def wait(self, condition: threading.Condition, timeout: float | None) -> None:
        """Wait on a condition that is held; may return early without a reason."""


class SystemClock:
    """The real one."""

    def now(self) -> float:
        """Monotonic seconds."""
        return time.monotonic()

    def wall(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def wait(self, condition: threading.Condition, timeout: float | None) -> None:
        """`Condition.wait`."""
        condition.wait(timeout)
