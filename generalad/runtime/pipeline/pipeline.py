"""`Pipeline`: sources -> resize -> session -> decision -> sinks, each stage in threads of its own.

    readers: read sources, resize, look for camera faults ─┐ batcher: batches from all in turn
    runners: run the session on a batch, one or several   ─┤ bounded queue
    writer:  decide, find events, hand to every sink      ─┘

Results of a source come in the order of its frames. Every frame that was read is processed, failed
or shows a camera fault. An error in any stage stops all of them and is raised once, here. The
calling thread only waits, so Ctrl-C and SIGTERM always find it: reading stops, what is in flight is
finished, sinks are closed.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from generalad.errors import UsageError
from generalad.progress import Log
from generalad.runtime.backends.session import Session
from generalad.runtime.interrupt import on_interrupt
from generalad.runtime.notification import SHUT_DOWN
from generalad.runtime.pipeline.busy import Busy
from generalad.runtime.pipeline.kept_images import KeptImages
from generalad.runtime.pipeline.queues import BoundedQueue, BrokenOff, FairBatcher, Turns
from generalad.runtime.pipeline.reader_thread import ReaderThread
from generalad.runtime.pipeline.summary import Summary, Tally
from generalad.runtime.pipeline.tracker import Item, Message, SourceTracker, takes_a_place
from generalad.runtime.pipeline.writer import OnNotification, OnResult, Writer
from generalad.runtime.sinks.sink import Sink
from generalad.runtime.view import GIVEN_UP, Observer, View

MAX_WAIT = 0.01
"""Seconds that an image of a camera waits for others to fill a batch."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM during a run; everything read up to then is finished and written."""

    def __init__(self, summary: Summary, signal_number: int) -> None:
        super().__init__("interrupted")
        self.summary = summary
        self.signal_number = signal_number


class Pipeline:
    """One run: its threads, what couples them, the first error."""

    def __init__(
        self,
        session: Session,
        trackers: Sequence[SourceTracker],
        sinks: Sequence[Sink],
        *,
        batch_size: int,
        max_wait: float = MAX_WAIT,
        on_result: OnResult | None = None,
        on_notification: OnNotification | None = None,
        on_problem: Log | None = None,
    ) -> None:
        """Nothing is opened or read before `run`; the arguments are those of `runtime.infer`."""
        _refuse_twins([tracker.name for tracker in trackers if tracker.live])
        self._session = session
        self._trackers = tuple(trackers)
        self._sinks = tuple(sinks)
        # Fewer would be padded to the fixed size anyway.
        self._batch_size = max(batch_size, session.fixed_batch or 1)
        live = any(tracker.live for tracker in trackers)
        self._tally = Tally(pauses=live)
        self._kept: KeptImages | None = None
        self._readers = self._make_readers()
        self._max_wait = max_wait if live else None
        capacities = [1 if reader.live else max(2, self._batch_size) for reader in self._readers]
        self._batcher: FairBatcher[Item | Message] = FairBatcher(capacities, takes_a_place)
        self._scored: BoundedQueue[Item | Message] = BoundedQueue(2)
        # A camera's images are few, and each is to be scored soon.
        self._runners = 1 if live else getattr(session, "side_by_side", 1)
        self._running = [Busy() for _ in range(self._runners)]
        self._writing = Busy()
        self._turns = Turns()
        self._stopping = False
        self._signal: int | None = None
        self._error: BaseException | None = None
        self._error_lock = threading.Lock()
        self._writer = Writer(
            self._sinks,
            self._tally,
            keep_going=live,
            on_result=on_result,
            on_notification=on_notification,
            on_problem=on_problem,
        )

    def _make_readers(self) -> list[ReaderThread]:
        """One for each live source, and one for all others."""
        groups = [[tracker] for tracker in self._trackers if tracker.live]
        files = [tracker for tracker in self._trackers if not tracker.live]
        drawing: list[Any] = [sink for sink in self._sinks if sink.needs_image]
        deciding = any(tracker.needs_images for tracker in self._trackers)
        keep_images = bool(drawing) or deciding
        if len(drawing) == 1 and hasattr(drawing[0], "alone"):
            drawing[0].alone = not deciding
        if keep_images and self._batch_size == 1:  # a larger batch waits for what is to be read
            self._kept = KeptImages()
        return [
            ReaderThread(
                group,
                spec=self._session.spec,
                keep_images=keep_images,
                kept=self._kept,
                on_frame=self._tally.read,
            )
            for group in ([*groups, files] if files else groups)
        ]

    def run(self, stop: threading.Event, observers: Sequence[Observer]) -> Summary:
        """Run to the end, to the first error, or until it is to stop."""
        with on_interrupt(self._interrupt):
            try:
                sources = [tracker.source for tracker in self._trackers]
                self._writer.open(sources, self._session.spec)
                with contextlib.ExitStack() as stack:
                    for observer in observers:
                        observer.begin(self._look)
                        stack.callback(observer.end)
                    self._work(stop)
            except BaseException:
                self._writer.close(complete=False)
                raise
            for error in self._writer.close(complete=self._error is None):
                self._fail(error)
        if self._error is not None:
            raise self._error
        views = [tracker.view() for tracker in self._trackers]
        given_up = tuple(view.name for view in views if view.state == GIVEN_UP)
        summary = self._tally.summary(self._session.backend, given_up)
        if self._signal is not None:
            raise Interrupted(summary, self._signal)
        return summary

    def _interrupt(self, number: int) -> None:
        self._signal = number
        for reader in self._readers:
            reader.stopping = True

    def _look(self) -> View:
        from generalad.runtime.sinks.sink_views import sink_views  # only for observers

        return View(
            streams=tuple(tracker.view() for tracker in self._trackers),
            sinks=tuple(view for sink in self._sinks for view in sink_views(sink)),
            not_written=self._writer.not_written,
            seconds=self._tally.seconds,
            busy=max(one.seconds for one in self._running),
            backend=self._session.backend,
            stages={
                **{f"reading {reader.name}": reader.busy for reader in self._readers},
                "writing": self._writing.seconds,
            },
        )

    def _work(self, stop: threading.Event) -> None:
        """Start the stages and wait for them; a second Ctrl-C does not wait for their end."""
        stages: list[tuple[str, Callable[[], None]]] = []
        stages += [("run", partial(self._score, busy)) for busy in self._running]
        stages += [("write", self._write)]
        for number, reader in enumerate(self._readers):
            stages.append((f"read {reader.name}", partial(reader.run, number, self._batcher)))
        threads = [
            threading.Thread(target=self._guard, args=(stage,), name=f"gad-{name}", daemon=True)
            for name, stage in stages
        ]
        try:
            if stop.is_set() or self._signal is not None:
                self._stop_reading()
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    if stop.is_set() or self._signal is not None:
                        self._stop_reading()
                    thread.join(timeout=0.2)  # on Windows, Ctrl-C waits for the end of a join
        except KeyboardInterrupt:
            self._break_off()
            for thread in threads:
                if thread.is_alive():
                    thread.join(timeout=5)
            raise

    def _guard(self, stage: Callable[[], None]) -> None:
        """Run a stage; its first error stops the others."""
        try:
            stage()
        except BrokenOff:
            pass
        except BaseException as error:
            self._fail(error)
            self._break_off()

    def _fail(self, error: BaseException) -> None:
        with self._error_lock:
            if self._error is None:
                self._error = error

    def _stop_reading(self) -> None:
        if not self._stopping:
            self._stopping = True
            for reader in self._readers:
                reader.stop()

    def _break_off(self) -> None:
        self._batcher.break_off()
        self._turns.break_off()
        self._scored.break_off()
        self._stop_reading()

    # The runners

    def _score(self, busy: Busy) -> None:
        while True:
            with self._turns.take() as turn:
                batch = self._batcher.batch(self._batch_size, self._max_wait)
            items = [thing for thing in batch if isinstance(thing, Item)]
            score(self._session, items, busy)
            with self._turns.give(turn):
                for thing in batch:
                    self._scored.put(thing)
                if not batch:
                    self._scored.end()
                    return

    # The writer

    def _write(self) -> None:
        for thing in self._scored:
            with self._writing:
                self._writer.take(thing)
            if self._kept is not None and isinstance(thing, Item) and not thing.tracker.live:
                self._kept.let_go(thing)
        self._writer.finish(self._trackers, SHUT_DOWN if self._stopping else "source ended")


def score(
    session: Session, items: Sequence[Item], busy: contextlib.AbstractContextManager[None]
) -> None:
    """Run a session on the items that have pixels; `busy` is entered while it runs."""
    usable = [(item, item.pixels) for item in items if item.pixels is not None]
    if not usable:
        return
    began = time.perf_counter()
    # One image needs no copy.
    pixels = usable[0][1][None] if len(usable) == 1 else np.stack([p for _, p in usable])
    with busy:
        scores, maps = session.run(np.ascontiguousarray(pixels))
    share = (time.perf_counter() - began) * 1000 / len(usable)
    for (item, _), value, anomaly_map in zip(usable, scores, maps, strict=True):
        item.score, item.map, item.infer = float(value), anomaly_map, share
        item.pixels = None


def _refuse_twins(names: Sequence[str]) -> None:
    """Two cameras of one name could not be told apart in any result."""
    twins = [name for name, count in Counter(names).items() if count > 1]
    if twins:
        raise UsageError(
            f"two streams are called {twins[0]!r}", remedy="give each a name of its own"
        )
