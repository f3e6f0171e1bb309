"""Sources -> preprocess -> session -> decision -> sinks, each stage in a thread of its own.

    reader: iterate the sources, resize        ─┐ bounded channel
    runner: group into batches, run the session ─┤ bounded channel
    writer: decide, hand to every sink          ─┘

Results come in the order of the frames. Every frame that was read is processed or counted as
failed. An error in any stage stops all of them and is raised once, here. The calling thread only
waits, so Ctrl-C always finds it: reading stops, what is in flight is finished, sinks are closed.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from generalad.errors import UsageError
from generalad.preprocess import resize
from generalad.runtime.channel import BrokenOff, Channel
from generalad.runtime.decision import Milliseconds, Result, Rule, decide
from generalad.runtime.interrupt import on_ctrl_c
from generalad.runtime.session import Session, open_session
from generalad.runtime.sinks import Sink
from generalad.runtime.sources import Frame, Source, open_sources
from generalad.runtime.summary import Summary, Tally

OnResult = Callable[[Result], None]


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during `infer`; everything read up to then is finished and written."""

    def __init__(self, summary: Summary) -> None:
        super().__init__("interrupted")
        self.summary = summary


@dataclass
class _Item:
    """A frame on its way; times in milliseconds, `began` on the clock of `time.perf_counter`."""

    frame: Frame
    image_size: tuple[int, int]
    began: float
    read: float
    preprocess: float = 0.0
    infer: float = 0.0
    error: str | None = None
    pixels: NDArray[np.uint8] | None = None
    score: float = 0.0
    map: NDArray[np.float32] | None = None


def infer(
    artifact: str | Path | Session,
    sources: Sequence[str | Source],
    *,
    sinks: Sequence[Sink] = (),
    batch_size: int = 1,
    threshold: float | None = None,
    threads: int | None = None,
    device: str | None = None,
    on_result: OnResult | None = None,
) -> Summary:
    """Run an artifact over sources and hand every result to the sinks.

    Args:
        artifact: a path, or an open session, which stays open.
        sources: addresses as in `open_sources`, or sources.
        sinks: opened and closed here.
        batch_size: pictures a run of the network.
        threshold: raw, on the score; None takes the artifact's own.
        threads: CPU threads of a session that is opened here.
        device: of a session that is opened here, see `open_session`.
        on_result: called for every result, in the writer's thread.

    Raises:
        GadError: a missing source, an unusable artifact, an output that cannot be written.
        Interrupted: after Ctrl-C; a second one does not wait for what is in flight.
    """
    if batch_size < 1:
        raise UsageError(f"batch size must be at least 1, found {batch_size}")
    opened = [source for item in sources for source in _as_sources(item)]
    with contextlib.ExitStack() as stack:
        if isinstance(artifact, (str, Path)):
            session = stack.enter_context(open_session(artifact, threads=threads, device=device))
        else:
            session = artifact
        return _Run(session, opened, sinks, batch_size, threshold, on_result).execute()


def _as_sources(item: str | Source) -> list[Source]:
    return open_sources([item]) if isinstance(item, str) else [item]


class _Run:
    """One call of `infer`: three stages, two channels, the first error."""

    def __init__(
        self,
        session: Session,
        sources: Sequence[Source],
        sinks: Sequence[Sink],
        batch_size: int,
        threshold: float | None,
        on_result: OnResult | None,
    ) -> None:
        self._session = session
        self._sources = sources
        self._sinks = sinks
        # Fewer would be padded to the fixed size anyway.
        self._batch_size = max(batch_size, session.fixed_batch or 1)
        self._threshold = session.spec.thresholds.image if threshold is None else threshold
        self._on_result = on_result
        self._keep_images = any(sink.needs_image for sink in sinks)
        self._prepared: Channel[_Item] = Channel(max(2, self._batch_size))
        self._scored: Channel[_Item] = Channel(2)
        self._stop_reading = False
        self._interrupted = False
        self._tally = Tally()
        self._error: BaseException | None = None
        self._error_lock = threading.Lock()

    def execute(self) -> Summary:
        """Run to the end, to the first error, or to Ctrl-C."""
        with on_ctrl_c(self._interrupt):
            opened: list[Sink] = []
            try:
                for sink in self._sinks:
                    sink.open(self._sources, self._session.spec)
                    opened.append(sink)
                self._work()
            except BaseException:
                self._close(opened, complete=False)
                raise
            self._close(opened, complete=self._error is None)
        if self._error is not None:
            raise self._error
        summary = self._tally.summary(self._session.backend)
        if self._interrupted:
            raise Interrupted(summary)
        return summary

    def _interrupt(self) -> None:
        self._interrupted = self._stop_reading = True

    def _work(self) -> None:
        """Start the stages and wait for them; a second Ctrl-C does not wait for their end."""
        stages = [
            threading.Thread(target=self._guard, args=(stage,), name=f"gad-{name}", daemon=True)
            for name, stage in (("read", self._read), ("run", self._run), ("write", self._write))
        ]
        try:
            for stage in stages:
                stage.start()
            for stage in stages:
                while stage.is_alive():
                    stage.join(timeout=0.2)  # on Windows, Ctrl-C waits for the end of a join
        except KeyboardInterrupt:
            self._break_off()
            for stage in stages:
                if stage.is_alive():
                    stage.join(timeout=5)
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

    def _break_off(self) -> None:
        self._stop_reading = True
        self._prepared.break_off()
        self._scored.break_off()

    def _close(self, sinks: Sequence[Sink], *, complete: bool) -> None:
        """Close every sink; an error in closing counts if there was none before."""
        for sink in sinks:
            try:
                sink.close(complete=complete)
            except Exception as error:
                self._fail(error)

    # The reader

    def _read(self) -> None:
        for source in self._sources:
            with contextlib.closing(_timed(source)) as frames:
                for began, frame in frames:
                    self._prepared.put(self._prepare(frame, began))
                    if self._stop_reading:
                        break
            if self._stop_reading:
                break
        self._prepared.end()

    def _prepare(self, frame: Frame, began: float) -> _Item:
        ready = time.perf_counter()
        self._tally.read()
        item = _Item(frame, (0, 0), began, (ready - began) * 1000, error=frame.error)
        if frame.image is None:
            item.error = frame.error or "the source gave neither a picture nor a reason"
            return item
        item.image_size = (frame.image.shape[0], frame.image.shape[1])
        try:
            item.pixels = resize(frame.image, self._session.spec.image_size)
        except cv2.error as error:
            item.error = f"{frame.path}: cannot be resized ({error.err})"
        if not self._keep_images:
            item.frame = replace(frame, image=None)
        item.preprocess = (time.perf_counter() - ready) * 1000
        return item

    # The runner

    def _run(self) -> None:
        waiting: list[_Item] = []
        usable = 0
        for item in self._prepared:
            waiting.append(item)
            usable += item.pixels is not None
            # Broken pictures are passed on at once when there is nothing they must wait for.
            if usable == self._batch_size or usable == 0:
                self._run_batch(waiting)
                waiting, usable = [], 0
        self._run_batch(waiting)
        self._scored.end()

    def _run_batch(self, items: list[_Item]) -> None:
        usable = [(item, item.pixels) for item in items if item.pixels is not None]
        if usable:
            began = time.perf_counter()
            # One picture needs no copy.
            pixels = usable[0][1][None] if len(usable) == 1 else np.stack([p for _, p in usable])
            scores, maps = self._session.run(np.ascontiguousarray(pixels))
            share = (time.perf_counter() - began) * 1000 / len(usable)
            for (item, _), score, anomaly_map in zip(usable, scores, maps, strict=True):
                item.score, item.map, item.infer = float(score), anomaly_map, share
        for item in items:
            item.pixels = None
            self._scored.put(item)

    # The writer

    def _write(self) -> None:
        for item in self._scored:
            result = self._result(item)
            anomaly_map = item.map if result.error is None else None
            for sink in self._sinks:
                sink.write(item.frame, result, anomaly_map)
            self._tally.add(result)
            if self._on_result is not None:
                self._on_result(result)

    def _result(self, item: _Item) -> Result:
        decision, error = None, item.error
        if item.map is not None:
            decision = decide(
                item.score,
                item.map,
                self._session.spec,
                rule=Rule(self._threshold),
                image_size=item.image_size,
            )
            if decision is None:
                error = f"{item.frame.path}: the network returned a number that is not finite"
        total = (time.perf_counter() - item.began) * 1000
        frame = item.frame
        return Result(
            source=frame.source,
            index=frame.index,
            time=frame.time,
            path=frame.path,
            score=decision.score if decision else None,
            normalised=decision.normalised if decision else None,
            anomalous=decision.anomalous if decision else None,
            regions=decision.regions if decision else (),
            milliseconds=Milliseconds(item.read, item.preprocess, item.infer, total),
            error=error,
        )


def _timed(source: Source) -> Generator[tuple[float, Frame], None, None]:
    """Each frame with the moment its reading began; frees the source when closed."""
    frames = iter(source)
    try:
        while True:
            began = time.perf_counter()
            frame = next(frames, None)
            if frame is None:
                return
            yield began, frame
    finally:
        close = getattr(frames, "close", None)
        if close is not None:
            close()
