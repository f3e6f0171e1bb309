"""`Recorder`: hands results and verdicts to the sinks, in a thread that holds up no part.

A disk that is slow or full, or a broker that is away, must not make a verdict late. So what sinks
are to take waits in a queue with an end; what finds no room there is counted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import queue
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from generalad.decision import Result
from generalad.progress import Log
from generalad.runtime.notification import Notification
from generalad.runtime.pipeline.busy import Busy
from generalad.runtime.pipeline.summary import Tally
from generalad.runtime.pipeline.writer import Writer
from generalad.runtime.sinks.sink import Map, Sink
from generalad.runtime.sinks.sink_views import sink_views
from generalad.runtime.sources import Frame, Source
from generalad.runtime.station.judge import Judged
from generalad.runtime.view import SinkView
from generalad.spec import Spec

MOST = 1000
"""Results and notifications that may wait; images are held by the results among them."""

MOST_IMAGES = 50
"""While more wait, results with images and the picture of a verdict find no room."""


class _Result(NamedTuple):
    frame: Frame
    result: Result
    map: Map | None


class _Told(NamedTuple):
    notification: Notification
    then: Callable[[], None] | None


class Recorder:
    """Runs until `close`; `judged` and `tell` are for any thread."""

    def __init__(
        self,
        sinks: Sequence[Sink],
        *,
        on_notification: Callable[[Notification], None] | None = None,
        on_problem: Log | None = None,
    ) -> None:
        """Nothing is opened before `open`."""
        self._writer = Writer(
            sinks,
            Tally(pauses=True),
            keep_going=True,
            on_result=None,
            on_notification=None,
            on_problem=on_problem,
        )
        self._sinks, self._on_notification = sinks, on_notification
        self._needs_image = any(sink.needs_image for sink in sinks)
        self._queue: queue.SimpleQueue[_Result | _Told | None] = queue.SimpleQueue()
        self._no_room = 0
        self.busy = Busy()
        """How long the sinks have been at what they are at."""

    def open(self, sources: Sequence[Source], spec: Spec) -> None:
        """Open every sink; raises what the first failing one raises."""
        self._writer.open(sources, spec)

    def judged(self, judged: Judged) -> None:
        """A picture was judged."""
        waiting = self._queue.qsize()
        if waiting < (MOST_IMAGES if self._needs_image else MOST):
            self._queue.put(_Result(judged.item.frame, judged.result, judged.item.map))
        else:
            self._no_room += 1
        for notification in judged.notifications:
            self.tell(notification)

    def tell(self, notification: Notification, then: Callable[[], None] | None = None) -> None:
        """Hand a notification on; `then` is called once the sinks have it."""
        waiting = self._queue.qsize()
        if waiting >= MOST:
            self._no_room += 1
            return
        if notification.evidence is not None and waiting >= MOST_IMAGES:
            self._no_room += 1
            notification = dataclasses.replace(notification, evidence=None)
        self._queue.put(_Told(notification, then))

    @property
    def not_written(self) -> Mapping[str, int]:
        """What was not taken, by sink; and what found no room."""
        counts = dict(self._writer.not_written)
        return {**counts, "slow sinks": self._no_room} if self._no_room else counts

    def views(self) -> list[SinkView]:
        """What the sinks tell of themselves."""
        return [view for sink in self._sinks for view in sink_views(sink)]

    def run(self) -> None:
        """Work; in a thread of its own."""
        while (thing := self._queue.get()) is not None:
            with self.busy:
                if isinstance(thing, _Result):
                    self._writer.write(*thing)
                    continue
                self._notify(thing.notification)
                before = sum(self._writer.not_written.values())
                self._writer.tell(thing.notification)
                # What a sink did not take is told again by the next process.
                if thing.then is not None and sum(self._writer.not_written.values()) == before:
                    thing.then()

    def _notify(self, notification: Notification) -> None:
        if self._on_notification is not None:
            with contextlib.suppress(OSError, ValueError):  # a log on a full disk
                self._on_notification(notification)

    def close(self) -> None:
        """Write what waits, and end `run`."""
        self._queue.put(None)

    def close_sinks(self) -> list[Exception]:
        """After `run`; returns what failed."""
        return self._writer.close(complete=True)
