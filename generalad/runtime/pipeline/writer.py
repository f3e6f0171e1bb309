"""`Writer`: the last stage, which decides and hands results and notifications to every sink.

A run over files stops when a sink fails: its output would not be whole. A run with cameras goes on
for months, so there a sink that fails is tried again with every result; what it did not take is
counted, and said once.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from generalad.decision import Result
from generalad.errors import StorageError
from generalad.progress import Log
from generalad.runtime.pipeline.summary import Tally
from generalad.runtime.pipeline.tracker import Item, Message, SourceTracker
from generalad.runtime.sinks.sink import Map, Sink
from generalad.runtime.sources import Frame, Source
from generalad.spec import Spec

if TYPE_CHECKING:
    from generalad.runtime.notification import Notification

OnResult = Callable[[Result], None]
OnNotification = Callable[["Notification"], None]


class Writer:
    """Results and notifications of a run, to its sinks; `not_written` is for any thread."""

    def __init__(
        self,
        sinks: Sequence[Sink],
        tally: Tally,
        *,
        keep_going: bool,
        on_result: OnResult | None,
        on_notification: OnNotification | None,
        on_problem: Log | None,
    ) -> None:
        """`keep_going` goes on when a sink fails during the run."""
        self._sinks = sinks
        self._tally = tally
        self._keep_going = keep_going
        self._on_result = on_result
        self._on_notification = on_notification
        self._on_problem = on_problem
        self._opened: list[Sink] = []
        self._failing: set[tuple[int, str]] = set()
        self._not_written: Counter[str] = Counter()

    @property
    def not_written(self) -> Mapping[str, int]:
        """Results and notifications that sinks could not take, by sink, and marks of sources."""
        return dict(self._not_written)

    def open(self, sources: Sequence[Source], spec: Spec) -> None:
        """Open every sink; raises what the first failing one raises."""
        for sink in self._sinks:
            sink.open(sources, spec)
            self._opened.append(sink)

    def close(self, *, complete: bool) -> list[Exception]:
        """Close every sink that was opened; returns what failed."""
        errors: list[Exception] = []
        for sink in self._opened:
            try:
                sink.close(complete=complete)
            except Exception as error:
                errors.append(error)
        return errors

    def take(self, thing: Item | Message) -> None:
        """Write one frame or notification; raises StorageError unless `keep_going`."""
        if isinstance(thing, Message):
            # What went on before must have ended before the reason why nothing more is seen.
            for notification in (*thing.tracker.after(thing.notification), thing.notification):
                self.tell(notification)
            return
        result, notifications = thing.tracker.decide(thing)
        began = time.perf_counter()
        self.write(thing.frame, result, thing.map)
        for notification in notifications:
            self.tell(notification)
        with self._guard(thing.tracker.source, "marks of what is done"):
            thing.tracker.settle(thing, result)
        self._tally.add(result, (time.perf_counter() - began) * 1000)
        if self._on_result is not None:
            self._on_result(result)

    def finish(self, trackers: Sequence[SourceTracker], reason: str) -> None:
        """End the events that go on at the end of the run."""
        for tracker in trackers:
            for notification in tracker.finish(reason):
                self.tell(notification)

    def write(self, frame: Frame, result: Result, anomaly_map: Map | None) -> None:
        """Hand a result to every sink; raises StorageError unless `keep_going`."""
        for sink in self._sinks:
            with self._guard(sink, "results"):
                sink.write(frame, result, None if result.score is None else anomaly_map)

    def tell(self, notification: Notification) -> None:
        """Hand a notification to every sink that takes some; errors as `write`."""
        from generalad.runtime.notification import TakesNotifications  # not for a run over files

        for sink in self._sinks:
            if isinstance(sink, TakesNotifications):
                with self._guard(sink, "notifications"):
                    sink.notification(notification)
        if self._on_notification is not None:
            self._on_notification(notification)

    @contextlib.contextmanager
    def _guard(self, owner: object, what: str) -> Iterator[None]:
        """What a sink or source raises within ends the run, or is counted and said once."""
        key, name = (id(owner), what), type(owner).__name__
        try:
            yield
        except StorageError as error:
            if not self._keep_going:
                raise
            self._not_written[name] += 1
            if key not in self._failing:
                self._failing.add(key)
                self._say(f"{error}; the run goes on without it")
            return
        if key in self._failing:
            self._failing.remove(key)
            self._say(f"{name}: {what} are written again; {self._not_written[name]} were not")

    def _say(self, text: str) -> None:
        if self._on_problem is not None:
            self._on_problem(text)
