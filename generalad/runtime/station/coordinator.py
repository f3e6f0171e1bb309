"""`Coordinator`: triggers, pictures and judgements meet here, under one lock.

    triggers ─► trigger() ─┐                            ┌─► ask a camera for a picture
    cameras  ─► picture() ─┼─► Parts, Matchers, Journal ┼─► judge a picture
    network  ─► judged()  ─┘                            └─► answer a part, in order

What is to be done goes to queues (`Tasks`), so that nobody waits for anybody else under the lock.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, Protocol

from generalad.errors import StorageError
from generalad.runtime.sources import Frame
from generalad.runtime.station.journal import Journal
from generalad.runtime.station.matching import Matcher
from generalad.runtime.station.parts import Named, Part, Parts, Picture
from generalad.runtime.station.plc.interface import Accepted, Refused
from generalad.runtime.station.verdict import Counts, Reason

How = Literal["software", "line", "free"]
"""How a camera takes the picture of a part: it is told to by software, by a signal that is the
trigger itself or comes with it, or it takes pictures all the time."""

MOST_WAITING = 1000
"""Parts without an answer; beyond it triggers get no id, so that a flood takes no memory."""


class CameraFacts(NamedTuple):
    """A camera of a station, as far as it matters here.

    Attributes:
        how: it takes pictures.
        pictures: that it takes of each part.
        fault: why it gives none now, or empty; called from any thread.
    """

    how: How
    pictures: int
    fault: Callable[[], str]


class Tasks(Protocol):
    """What is to be done; each call returns at once and takes no lock of the station."""

    def take_picture(self, camera: str, part: Part) -> None:
        """Tell a camera of how "software" to take a picture of a part."""

    def judge(self, camera: str, part: Part, frame: Frame) -> None:
        """Judge a picture of a part."""

    def unwanted(self, camera: str, frame: Frame, reason: str) -> None:
        """A picture will not be judged."""


class Lost(NamedTuple):
    """In place of a picture that a camera took and that never became whole."""

    reason: str


class Coordinator:
    """Who waits for what; methods are for any thread."""

    def __init__(
        self,
        parts: Parts,
        cameras: Mapping[str, CameraFacts],
        journal: Journal,
        tasks: Tasks,
        *,
        window: float = 0.05,
        begun_by_pictures: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Triggers are refused until `begin`.

        Args:
            parts: no part is open.
            cameras: by name.
            journal: what outlives the process.
            tasks: see there.
            window: seconds between a trigger and the picture that a signal gives.
            begun_by_pictures: the pictures are the triggers: one that belongs to no part begins
                one.
            clock: monotonic seconds, for tests.
        """
        self._parts, self._cameras, self._journal, self._tasks = parts, cameras, journal, tasks
        self._begun_by_pictures = begun_by_pictures
        self._clock = clock
        signals = sum(facts.pictures for facts in cameras.values() if facts.how == "line")
        # Nearer than that, a picture that is missing would make the next one that of its part.
        self._apart = window * (signals > 1 if begun_by_pictures else 2 * (signals > 0))
        self._last = -math.inf
        self._matchers = {
            name: Matcher[Frame | Lost](window, window)
            if facts.how == "line"
            else Matcher[Frame | Lost]()
            for name, facts in cameras.items()
        }
        self._answered: deque[Part] = deque()
        self.closing = False
        """Whether triggers are refused because the station ends."""
        self.recipe: Named | None = None
        self.changed = threading.Condition(threading.RLock())
        """The lock, notified when there is something for `answers`."""
        self.problem = ""
        """Why no id can be had."""

    # Triggers

    def trigger(self, name: str | None, at: float | None = None) -> Accepted | Refused:
        """A part is in place, now or `at` a monotonic second just past."""
        with self.changed:
            now = self._clock()
            at = now if at is None else at
            close = self._too_close(at, now)  # to one that is refused too
            id = self._next_id()
            if self.recipe is None or isinstance(id, Refused):
                self._parts.refused += 1
                return id if isinstance(id, Refused) else Refused("not ready")
            self._parts.expire(now)
            part = self._parts.trigger(id, name, self.recipe, at, overrun=close)
            self._journal.triggered(id, name)
            overrun = part.decision is not None
            self.changed.notify_all()
            for camera, facts in self._cameras.items():
                self._want(camera, facts, part, now, overrun=overrun)
            self._release(now)
            return Accepted(id, overrun)

    def _next_id(self) -> int | Refused:
        """An id for a trigger, or why it gets none."""
        if self.recipe is None or self.closing:
            return Refused("not ready")
        if self._parts.waiting + len(self._answered) >= MOST_WAITING:
            return Refused("overrun")
        try:
            id = self._journal.next_id()
        except StorageError as error:
            self.problem = error.message
            return Refused("not ready")
        self.problem = ""
        return id

    def _too_close(self, at: float, now: float) -> str:
        """Why pictures of this trigger and the one before could be exchanged, or empty."""
        since, self._last = at - self._last, at
        if since >= self._apart:
            return ""
        why = f"{since * 1000:.0f} ms after the trigger before; {self._apart * 1000:.0f} are needed"
        for part in list(self._parts.undecided):
            for camera, facts in self._cameras.items():
                if facts.how == "line":
                    lost = f"{camera}: no picture before the next trigger, which came {why}"
                    self._fail(part, camera, "picture lost", lost, now)
        return why

    def _want(
        self, camera: str, facts: CameraFacts, part: Part, now: float, *, overrun: bool
    ) -> None:
        """Whatever a camera must do, or can no more, for a new part."""
        if fault := facts.fault():
            self._fail(part, camera, "camera fault", fault, now)
        elif facts.how == "line":  # of an overrun too: or its picture would be that of the next
            for picture in self._matchers[camera].trigger(part, facts.pictures):
                self._arrived(camera, part, picture, now)
        elif overrun:
            return
        elif facts.how == "software":
            self._tasks.take_picture(camera, part)
        else:
            for picture in self._matchers[camera].trigger(part, facts.pictures):
                self._arrived(camera, part, picture, now)

    # Pictures

    def picture(self, camera: str, frame: Frame, part: Part | None = None) -> None:
        """A camera gave a picture; `part` where it was asked for."""
        self._picture(
            camera, frame, self._clock() if frame.captured_at is None else frame.captured_at, part
        )

    def lost(self, camera: str, at: float, why: str) -> None:
        """A camera of how "line" took a picture that never became whole."""
        if self._cameras[camera].how == "line":
            self._picture(camera, Lost(why), at, None)

    def failed(self, camera: str, part: Part, reason: Reason, why: str) -> None:
        """A camera that was asked for a picture of a part gives none."""
        with self.changed:
            now = self._clock()
            self._fail(part, camera, reason, why, now)
            self._release(now)

    def camera_lost(self, camera: str, why: str) -> None:
        """A camera is away: what it has not given yet will not come."""
        with self.changed:
            now = self._clock()
            for part in list(self._parts.undecided):
                self._fail(part, camera, "camera fault", why, now)
            self._release(now)

    def judged(self, part: Part, picture: Picture) -> None:
        """A picture was judged, or could not be."""
        with self.changed:
            now = self._clock()
            self._parts.add(part, picture, now)
            self._release(now)

    def _picture(self, camera: str, picture: Frame | Lost, at: float, part: Part | None) -> None:
        with self.changed:
            now = self._clock()
            found = part or self._matchers[camera].picture(at, picture)
            if isinstance(found, Part):
                self._arrived(camera, found, picture, now)
            elif found == "late":
                self._leave(camera, picture, "late")
            elif found == "held" and self._begun_by_pictures:
                self.trigger(None, at)
            self._expire(now)
            self._release(now)

    def _arrived(self, camera: str, part: Part, picture: Frame | Lost, now: float) -> None:
        """A picture is that of a part."""
        if isinstance(picture, Lost):
            self._fail(part, camera, "picture lost", f"{camera}: {picture.reason}", now, count=1)
            return
        self._parts.taken(part, camera)
        reason = part.decision and part.decision[1]
        if reason is not None or now >= part.deadline:
            self._tasks.unwanted(camera, picture, reason or "late")
        else:
            self._tasks.judge(camera, part, picture)

    def _fail(
        self,
        part: Part,
        camera: str,
        reason: Reason,
        why: str,
        now: float,
        count: int | None = None,
    ) -> None:
        for _ in range(part.missing[camera] if count is None else count):
            self._parts.lost(part, Picture(camera, None, reason, why), now)

    # Answers

    def answers(self, until: float) -> list[Part]:
        """Wait for parts that have a verdict, at most to a monotonic second; in order, once each.

        Also empty when `changed` was notified of something else.
        """
        with self.changed:
            if not self._answered:
                self.changed.wait(max(0.0, min(until, self._next_end()) - self._clock()))
            now = self._clock()
            self._expire(now)
            self._release(now)
            answered = list(self._answered)
            self._answered.clear()
            return answered

    def begin(self, recipe: Named) -> None:
        """Answer the parts that an earlier process left without a verdict, and take triggers."""
        with self.changed:
            now, self.recipe = self._clock(), recipe
            for id, name in self._journal.unanswered:
                self._parts.restore(id, name, recipe, now)
            self._release(now)

    def close(self) -> None:
        """Refuse further triggers; parts that wait still get their verdicts."""
        with self.changed:
            self.closing = True
            self.changed.notify_all()

    @property
    def waiting(self) -> int:
        """Parts without a verdict."""
        with self.changed:
            return self._parts.waiting + len(self._answered)

    def counts(self) -> Counts:
        """All numbers of one moment."""
        with self.changed:
            return self._parts.counts()

    def _next_end(self) -> float:
        ends = [self._parts.next_deadline, *(m.next_end for m in self._matchers.values())]
        return min((end for end in ends if end is not None), default=float("inf"))

    def _expire(self, now: float) -> None:
        """What time alone decides."""
        for camera, matcher in self._matchers.items():
            missed, unclaimed = matcher.expire(now)
            for owner, picture in matcher.settled():
                if owner is None:
                    self._leave(camera, picture, "late")
                else:
                    self._arrived(camera, owner, picture, now)
            for part, count in missed:
                within = (now - part.triggered) * 1000
                why = f"{camera}: no picture within {within:.0f} ms of the trigger"
                self._fail(part, camera, "picture lost", why, now, count)
            for picture in unclaimed:
                free = self._cameras[camera].how == "free"
                self._parts.without_trigger += not free
                self._leave(camera, picture, "between parts" if free else "without trigger")
        self._parts.expire(now)

    def _leave(self, camera: str, picture: Frame | Lost, reason: str) -> None:
        if isinstance(picture, Frame):
            self._tasks.unwanted(camera, picture, reason)

    def _release(self, now: float) -> None:
        for part in self._parts.release(now):
            assert part.verdict is not None
            self._journal.decided(part.verdict)
            self._answered.append(part)
        if self._answered:
            self.changed.notify_all()
