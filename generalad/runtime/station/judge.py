"""`Judge`: the thread that runs the network on the pictures of parts, one after another.

A picture whose part is past its deadline is not run, so that one slow run makes no queue of others
late.
"""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable
from typing import NamedTuple

from generalad.decision import Result
from generalad.runtime.notification import Notification
from generalad.runtime.pipeline.busy import Busy
from generalad.runtime.pipeline.pipeline import score
from generalad.runtime.pipeline.reader_thread import prepare
from generalad.runtime.pipeline.tracker import Item, SourceTracker
from generalad.runtime.sources import Frame
from generalad.runtime.station.parts import Part, Picture
from generalad.runtime.station.recipes import Recipe


class Job(NamedTuple):
    """A picture to be judged."""

    camera: str
    part: Part
    frame: Frame


class Judged(NamedTuple):
    """A picture that was judged, or could not be, with all that sinks are to be given.

    Attributes:
        part: that it belongs to.
        picture: what became of it.
        item: with the frame and its map.
        result: as sinks take it.
        notifications: of camera faults and drift.
    """

    part: Part
    picture: Picture
    item: Item
    result: Result
    notifications: tuple[Notification, ...]


class Judge:
    """Runs until `close`; `submit` is for any thread."""

    def __init__(
        self,
        on_judged: Callable[[Judged], None],
        on_skipped: Callable[[str, Frame, str], None],
        *,
        batch: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing runs before `run`.

        Args:
            on_judged: told of each picture, in this thread.
            on_skipped: of one that came too late to be run: camera, frame and reason.
            batch: pictures that share a run of the network, where so many wait.
            clock: monotonic seconds, for tests.
        """
        self._on_judged, self._on_skipped = on_judged, on_skipped
        self._batch, self._clock = batch, clock
        self._jobs: queue.SimpleQueue[Job | Callable[[], None] | None] = queue.SimpleQueue()
        self._next: Job | Callable[[], None] | None = None
        self.busy = Busy()
        """How long the network has been at its run."""
        self.problem = ""
        """Why the last run failed, on one line."""

    def submit(self, job: Job) -> None:
        """Queue a picture."""
        self._jobs.put(job)

    def then(self, work: Callable[[], None]) -> None:
        """Do something once all pictures that were submitted before are judged."""
        self._jobs.put(work)

    def close(self) -> None:
        """Judge what is queued, and end."""
        self._jobs.put(None)

    def run(self) -> None:
        """Work; in a thread of its own."""
        while (thing := self._take()) is not None:
            if not isinstance(thing, list):
                thing()
                continue
            now = self._clock()
            for job in thing:
                if now >= job.part.deadline:
                    self._on_skipped(job.camera, job.frame, "late")
            self._judge([job for job in thing if now < job.part.deadline])

    def _take(self) -> list[Job] | Callable[[], None] | None:
        """The next picture with those that may share its run, or the next other work."""
        first, self._next = self._next or self._jobs.get(), None
        if not isinstance(first, Job):
            return first
        batch = [first]
        while len(batch) < self._batch and not self._jobs.empty():
            thing = self._jobs.get()
            if not isinstance(thing, Job) or thing.part.recipe is not first.part.recipe:
                self._next = thing or self.close
                break
            batch.append(thing)
        return batch

    def _judge(self, batch: list[Job]) -> None:
        if not batch:
            return
        recipe = batch[0].part.recipe
        assert isinstance(recipe, Recipe)
        items = [self._item(recipe.trackers[job.camera], job.frame) for job in batch]
        found: list[list[Notification]] = []
        for item in items:
            notification = prepare(item, recipe.session.spec, contextlib.nullcontext())
            found.append([notification] if notification is not None else [])
        try:
            score(recipe.session, items, self.busy)
            self.problem = ""
        except Exception as error:  # of a backend: the parts are lost, the line goes on
            self.problem = f"the network failed: {error}"
            for item in items:
                item.error, item.pixels = self.problem, None
        for job, item, notifications in zip(batch, items, found, strict=True):
            result, more = item.tracker.decide(item)
            item.tracker.settle(item, result)
            picture = self._picture(job.camera, item, result)
            self._on_judged(Judged(job.part, picture, item, result, (*notifications, *more)))

    def _item(self, tracker: SourceTracker, frame: Frame) -> Item:
        now = time.perf_counter()
        waited = 0.0 if frame.captured_at is None else time.monotonic() - frame.captured_at
        tracker.captured()
        return Item(tracker, frame, now - waited, waited * 1000)

    def _picture(self, camera: str, item: Item, result: Result) -> Picture:
        score, reason, detail = result.normalised, None, ""
        outcome = None if result.anomalous is None else "reject" if result.anomalous else "pass"
        if outcome is None:
            reason = "camera fault" if result.fault is not None else "picture lost"
            detail = f"{camera}: {result.fault or result.error or 'not judged'}"
        return Picture(camera, outcome, reason, detail, score, result, item)  # type: ignore[arg-type]
