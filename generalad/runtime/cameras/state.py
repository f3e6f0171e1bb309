"""What a live source is doing: `State` and `Status`, and `History` of its changes."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

_CHANGES_KEPT = 1000


class State(str, enum.Enum):
    """What a live source is doing."""

    CONNECTING = "connecting"
    """First attempt; no frame yet."""
    LIVE = "live"
    """Frames come."""
    STALLED = "stalled"
    """The driver has not answered in time and was given up; a new attempt follows."""
    RECONNECTING = "reconnecting"
    """An attempt failed or the connection was lost; a new attempt follows or is on its way."""
    FAILED = "failed"
    """Given up for good: another attempt cannot help."""
    ENDED = "ended"
    """The source came to its end, or was closed."""


@dataclass(frozen=True)
class Change:
    """A state was entered, or its reason changed.

    Attributes:
        state: the one that was entered.
        reason: why, on one line, without secrets.
        time: monotonic seconds.
    """

    state: State
    reason: str
    time: float


class History:
    """The state of a source, its reason and its changes; to be guarded by a lock."""

    def __init__(self, now: float) -> None:
        self.state, self.reason, self.since = State.CONNECTING, "", now
        self._changes: deque[Change] = deque(maxlen=_CHANGES_KEPT)
        self._news: deque[Change] = deque(maxlen=_CHANGES_KEPT)

    def enter(self, state: State, reason: str, now: float) -> bool:
        """Enter a state, or give another reason for it; False if that changes nothing."""
        if (state, reason) == (self.state, self.reason):
            return False
        if state != self.state:
            self.since = now
        self.state, self.reason = state, reason
        change = Change(state, reason, now)
        self._changes.append(change)
        self._news.append(change)
        return True

    @property
    def changes(self) -> tuple[Change, ...]:
        """The last 1000, oldest first."""
        return tuple(self._changes)

    def news(self) -> list[Change]:
        """The changes since the last call."""
        news = list(self._news)
        self._news.clear()
        return news


@dataclass(frozen=True)
class Status:
    """A live source at one moment; `captured == processed + dropped + in_flight` always holds.

    Attributes:
        state: what it is doing.
        reason: why, on one line, without secrets.
        since: when it entered the state, monotonic seconds.
        captured: frames that the camera gave.
        processed: frames that were reported as done.
        dropped: frames that will not be processed, by reason.
        in_flight: frames that wait or have been handed out.
        attempts: how often opening was begun.
        reconnects: how often frames came again after they had been lost.
        fps: frames a second of the camera over the last 100 frames; 0 while there are too few.
        resolution: (height, width) of the last frame, None before the first one.
    """

    state: State
    reason: str
    since: float
    captured: int
    processed: int
    dropped: Mapping[str, int]
    in_flight: int
    attempts: int
    reconnects: int
    fps: float
    resolution: tuple[int, int] | None
