"""What a live source is doing (`State`, `Status`, `History`), where its frames are (`Ledger`)."""

from __future__ import annotations

import enum
import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Policy = Literal["latest", "all"]

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


@dataclass(frozen=True, eq=False)
class Captured:
    """One frame of a live source.

    Attributes:
        image: (H, W, 3) uint8 RGB; H and W may differ from frame to frame.
        index: number of the frame since the source was started, from 0, also across reconnects;
            a gap is a frame that was dropped.
        time: when it was read, monotonic seconds.
        wall: when it was read, seconds since 1970.
        generation: number of the attempt that it came from, from 1.
    """

    image: NDArray[np.uint8]
    index: int
    time: float
    wall: float
    generation: int


@dataclass(frozen=True)
class Counts:
    """Where the frames of a source are; see `Status`."""

    captured: int
    processed: int
    dropped: Mapping[str, int]
    in_flight: int


class Ledger:
    """Hands frames from one thread to another and knows what became of every one.

    Nothing is derived: what is in flight is what really waits here or was handed out, so that the
    equation of `Status` is a check and not a definition. `lock` (reentrant) guards everything and
    may guard more; `changed` belongs to it and is notified of every change.
    """

    def __init__(self, policy: Policy, capacity: int) -> None:
        """With "latest", `capacity` is 1 whatever is given."""
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self._policy = policy
        self._capacity = capacity if policy == "all" else 1
        self._waiting: deque[Captured] = deque()
        self._handed_out: set[int] = set()
        self._captured = 0
        self._processed = 0
        self._dropped: Counter[str] = Counter()

    def next_index(self) -> int:
        """Index of the frame that is captured next."""
        with self.changed:
            return self._captured

    def full(self) -> bool:
        """Whether a frame must wait to be added: never with "latest"."""
        with self.changed:
            return self._policy == "all" and len(self._waiting) >= self._capacity

    def add(self, frame: Captured) -> None:
        """Count a frame and let it wait; with "latest" it takes the place of an older one."""
        with self.changed:
            self._captured += 1
            if self._policy == "latest" and self._waiting:
                self._waiting.clear()
                self._dropped["newer frame"] += 1
            self._waiting.append(frame)
            self.changed.notify_all()

    def refuse(self, reason: str) -> None:
        """Count a frame that was captured but must not be handed out."""
        with self.changed:
            self._captured += 1
            self._dropped[reason] += 1
            self.changed.notify_all()

    def take(self) -> Captured | None:
        """The oldest waiting frame, or None; it stays in flight until it is done."""
        with self.changed:
            if not self._waiting:
                return None
            frame = self._waiting.popleft()
            self._handed_out.add(frame.index)
            self.changed.notify_all()
            return frame

    def done(self, frame: Captured, dropped: str | None = None) -> bool:
        """Settle a frame that was handed out; False, and nothing is counted, the second time."""
        with self.changed:
            if frame.index not in self._handed_out:
                return False
            self._handed_out.remove(frame.index)
            if dropped is None:
                self._processed += 1
            else:
                self._dropped[dropped] += 1
            self.changed.notify_all()
            return True

    def drop_waiting(self, reason: str) -> None:
        """Drop what has not been handed out."""
        with self.changed:
            if self._waiting:
                self._dropped[reason] += len(self._waiting)
                self._waiting.clear()
                self.changed.notify_all()

    def waiting(self) -> int:
        """Number of frames that have not been handed out."""
        with self.changed:
            return len(self._waiting)

    def counts(self) -> Counts:
        """All numbers of one moment."""
        with self.changed:
            in_flight = len(self._waiting) + len(self._handed_out)
            return Counts(self._captured, self._processed, dict(self._dropped), in_flight)
