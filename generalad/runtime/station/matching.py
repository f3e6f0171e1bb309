"""`Matcher`: which picture of a camera belongs to which part.

Pictures say nothing of the part that they show, so time has to: a picture belongs to the trigger
from which it is no further away than a window. A camera that is triggered by a signal may be faster
than the message of a PLC, so its pictures are held for as long as their trigger may still come. The
first picture that a free-running camera takes after the trigger is the part's.

A picture that is missing may still come, later than the window. Until there is another trigger the
next one is taken for it. After that trigger pictures are kept to the end of its window: if one more
comes than its part has, the first was the missing one. So at worst another picture is lost, and
none is judged for the wrong part, unless the one after it is late or lost too. Not so where the
camera's pictures come before their triggers, as the last one did.

No thread and no clock, as `Parts`.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from generalad.runtime.station.parts import Part

T = TypeVar("T")


@dataclass
class _Waiting(Generic[T]):
    part: Part
    count: int
    late: int  # pictures of earlier parts that may come before its own
    kept: list[tuple[float, T]] = field(default_factory=list)


class Matcher(Generic[T]):
    """The parts that wait for pictures of one camera, and the pictures that wait for a part."""

    def __init__(self, before: float = 0.0, after: float = math.inf) -> None:
        """A picture belongs to a trigger from `before` s after it to `after` s before it."""
        self._before, self._after = before, after
        self._waiting: deque[_Waiting[T]] = deque()
        self._settled: list[tuple[Part | None, T]] = []
        self._held: deque[tuple[float, T]] = deque()
        self._overdue = 0  # pictures that may still come for parts that wait no more
        self._early = False  # whether the last picture came before its trigger

    def trigger(self, part: Part, count: int) -> list[T]:
        """A part is to get `count` pictures; returns those of them that are held."""
        may_be_late = not self._early and math.isfinite(self._after)
        waiting = _Waiting[T](part, count, self._overdue * may_be_late)
        self._overdue = 0
        self._waiting.append(waiting)
        found = []
        for at, picture in list(self._held):
            if waiting.count and self._belongs(at, part):
                self._held.remove((at, picture))
                found.append(picture)
                self._count(waiting, at)
        return found

    def picture(self, at: float, picture: T) -> Part | Literal["held", "kept", "late"]:
        """The part that a picture belongs to, the oldest first.

        "held" keeps it until its trigger may have come, "kept" until `settled` says whose it is;
        "late" is for a part that waits no more.
        """
        for waiting in self._waiting:
            if self._belongs(at, waiting.part):
                if waiting.late:
                    waiting.kept.append((at, picture))
                    if len(waiting.kept) == waiting.late + waiting.count:
                        self._waiting.remove(waiting)
                        self._settle(waiting)
                    return "kept"
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
            self._settle(waiting)
            if waiting.count:
                self._overdue += waiting.late + waiting.count
                missed.append((waiting.part, waiting.count))
        while self._held and self._held[0][0] + self._before < now:
            unclaimed.append(self._held.popleft()[1])
        return missed, unclaimed

    def settled(self) -> list[tuple[Part | None, T]]:
        """Pictures that were kept, with their parts, or None for those that were late; once."""
        found, self._settled = self._settled, []
        return found

    def _settle(self, waiting: _Waiting[T]) -> None:
        """The last pictures that were kept are the part's."""
        late = max(0, len(waiting.kept) - waiting.count)
        for number, (at, picture) in enumerate(waiting.kept):
            own = number >= late
            self._settled.append((waiting.part if own else None, picture))
            if own:
                waiting.count -= 1
                self._early = at < waiting.part.triggered

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

    def _count(self, waiting: _Waiting[T], at: float) -> None:
        self._early = at < waiting.part.triggered
        waiting.count -= 1
        if not waiting.count:
            self._waiting.remove(waiting)
