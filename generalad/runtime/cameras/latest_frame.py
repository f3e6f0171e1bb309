"""`LatestFrame`: hands the newest frames from one thread to another, and counts every one."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from generalad.runtime.sources import Frame

OnDropped = Callable[[str, int], None]
"""Takes the reason and how many frames; returns at once and takes no lock."""


@dataclass(frozen=True)
class Counts:
    """Where the frames of a source are; see `Status`."""

    captured: int
    processed: int
    dropped: Mapping[str, int]
    in_flight: int


class LatestFrame:
    """Holds the newest frame, or the newest few, and knows what became of every one.

    Nothing is derived: what is in flight is what really waits here or was handed out, so that the
    equation of `Status` is a check and not a definition. `lock` (reentrant) guards everything and
    may guard more; `changed` belongs to it and is notified of every change.
    """

    def __init__(self, on_dropped: OnDropped | None = None) -> None:
        """`on_dropped` is told, with the lock held, of frames that nobody will be handed."""
        self._on_dropped = on_dropped
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self._waiting: deque[Frame] = deque()
        self.most = 1
        """How many frames may wait; one more, and the oldest is dropped."""
        self._handed_out: set[int] = set()
        self._captured = 0
        self._processed = 0
        self._dropped: Counter[str] = Counter()

    def next_index(self) -> int:
        """Index of the frame that is captured next."""
        with self.changed:
            return self._captured

    def put(self, frame: Frame) -> None:
        """Count a frame and let it wait, where there is no room in place of the oldest."""
        with self.changed:
            if len(self._waiting) >= self.most:
                self._waiting.popleft()
                self._drop("newer frame", 1)
            self._captured += 1
            self._waiting.append(frame)
            self.changed.notify_all()

    def refuse(self, reason: str, count: int = 1) -> None:
        """Count frames that were captured but must not be handed out."""
        with self.changed:
            self._captured += count
            self._drop(reason, count)
            self.changed.notify_all()

    def hand_out(self, frame: Frame) -> None:
        """Count a frame that somebody waits for; it takes no other one's place."""
        with self.changed:
            self._captured += 1
            self._handed_out.add(frame.index)
            self.changed.notify_all()

    def take(self) -> Frame | None:
        """The oldest waiting frame, or None; it stays in flight until it is done."""
        with self.changed:
            if not self._waiting:
                return None
            frame = self._waiting.popleft()
            self._handed_out.add(frame.index)
            self.changed.notify_all()
            return frame

    def done(self, frame: Frame, dropped: str | None = None) -> bool:
        """Count a frame that was handed out; False, and nothing is counted, the second time."""
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
                self._drop(reason, len(self._waiting))
                self._waiting.clear()
                self.changed.notify_all()

    def _drop(self, reason: str, count: int) -> None:
        self._dropped[reason] += count
        if self._on_dropped is not None:
            self._on_dropped(reason, count)

    @property
    def waiting(self) -> bool:
        """Whether there is a frame that has not been handed out."""
        with self.changed:
            return bool(self._waiting)

    def counts(self) -> Counts:
        """All numbers of one moment."""
        with self.changed:
            in_flight = len(self._handed_out) + len(self._waiting)
            return Counts(self._captured, self._processed, dict(self._dropped), in_flight)
