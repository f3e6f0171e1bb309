"""`Matcher`: which picture of a camera belongs to which part.

Pictures say nothing of the part that they show, so time has to: a picture belongs to the trigger
from which it is no further away than a window. A camera that is triggered by a signal may be faster
than the message of a PLC, so its pictures are held for as long as their trigger may still come. The
first picture that a free-running camera takes after the trigger is the part's.

A picture that is missing may still come, later than the window. So the next one is taken for it
until there is another trigger: at worst another picture is lost then, and none is judged for the
wrong part. Not so where the camera's pictures come before their triggers, as the last one did.

No thread and no clock, as `Parts`.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from generalad.runtime.station.parts import Part

T = TypeVar("T")


@dataclass
class _Waiting:
    part: Part
    count: int


class Matcher(Generic[T]):
    """The parts that wait for pictures of one camera, and the pictures that wait for a part."""

    def __init__(self, before: float = 0.0, after: float = math.inf) -> None:
        """A picture belongs to a trigger from `before` s after it to `after` s before it."""
        self._before, self._after = before, after
        self._waiting: deque[_Waiting] = deque()
        self._held: deque[tuple[float, T]] = deque()
        self._overdue = 0  # pictures that may still come for parts that wait no more
        self._early = False  # whether the last picture came before its trigger

    def trigger(self, part: Part, count: int) -> list[T]:
        """A part is to get `count` pictures; returns those of them that are held."""
        self._overdue = 0
        waiting = _Waiting(part, count)
        self._waiting.append(waiting)
        found = []
        for at, picture in list(self._held):
            if waiting.count and self._belongs(at, part):
                self._held.remove((at, picture))
                found.append(picture)
                self._count(waiting, at)
        return found

    def picture(self, at: float, picture: T) -> Part | Literal["held", "late"]:
        """The part that a picture belongs to, the oldest first.

        "held" keeps it until its trigger may have come; "late" is for a part that waits no more.
        """
        for waiting in self._waiting:
            if self._belongs(at, waiting.part):
                self._count(waiting, at)
                return waiting.part
        if self._overdue and not self._early:
            self._overdue -= 1
            return "late"
        self._held.append((at, picture))
        return "held"

    def expire(self, now: float) -> tuple[list[tuple[Part, int]], list[T]]:
        """Parts with the number of pictures that do not come any more, and pictures of no part."""
        missed, unclaimed = [], []
        while self._waiting and self._end(self._waiting[0].part) < now:
            waiting = self._waiting.popleft()
            self._overdue += waiting.count
            missed.append((waiting.part, waiting.count))
        while self._held and self._held[0][0] + self._before < now:
            unclaimed.append(self._held.popleft()[1])
        return missed, unclaimed

    @property
    def next_end(self) -> float | None:
        """When `expire` has something to do; None while nothing waits."""
        ends = [self._end(self._waiting[0].part)] if self._waiting else []
        ends += [self._held[0][0] + self._before] if self._held else []
        return min(ends, default=None)

    def _end(self, part: Part) -> float:
        return min(part.triggered + self._after, part.deadline)

    def _belongs(self, at: float, part: Part) -> bool:
        return part.triggered - self._before <= at <= part.triggered + self._after

    def _count(self, waiting: _Waiting, at: float) -> None:
        self._early = at < waiting.part.triggered
        waiting.count -= 1
        if not waiting.count:
            self._waiting.remove(waiting)
