"""What a run comes to: counts, speed and the times of its stages."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from generalad.decision import Milliseconds, Result
from generalad.statistics import quantile

PAUSE = 1.0
"""Seconds without any frame that do not count as work."""

RECENT = 10_000
"""Times are taken over this many last images, so that endless runs need no more memory."""


class StageTime(NamedTuple):
    """Milliseconds an image, over the last images that did not fail."""

    median: float
    p95: float


class Summary(NamedTuple):
    """A finished run.

    Attributes:
        frames: read; each is processed, failed or faulty.
        processed: scored and decided.
        anomalous: part of the processed.
        failed: could not be read or scored.
        faulty: showed a fault of the camera and were not scored.
        seconds: from start to end, without opening the session.
        images_per_second: processed / seconds, without the pauses of cameras, in which for more
            than `PAUSE` no frame came or was on its way.
        milliseconds: for each field of `Milliseconds`, and "write" for the sinks; empty when
            nothing was processed.
        backend: what the session really ran on.
        given_up: names of the cameras that no further attempt could have helped.
        left_out: files of folders that are not read: label images beside the images they belong
            to, videos, and images without the name of one.
    """

    frames: int
    processed: int
    anomalous: int
    failed: int
    faulty: int
    seconds: float
    images_per_second: float
    milliseconds: dict[str, StageTime]
    backend: str
    given_up: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


class Tally:
    """Counts while a run goes on; `read` from any thread, `add` from one."""

    def __init__(self, *, pauses: bool = False) -> None:
        """`pauses` leaves times without any frame out of the rate, which cameras may have."""
        self._pauses = pauses
        self._paused = 0.0
        self._in_flight = 0
        self._quiet_since: float | None = time.perf_counter()
        self._began = time.perf_counter()
        self._frames = self._processed = self._anomalous = 0
        self._failed = self._faulty = 0
        self._lock = threading.Lock()
        self._times: deque[Milliseconds] = deque(maxlen=RECENT)
        self._writing: deque[float] = deque(maxlen=RECENT)

    def read(self) -> None:
        """Count a frame that entered."""
        with self._lock:
            self._frames += 1
            self._in_flight += 1
            self._end_of_quiet()

    def add(self, result: Result, write: float) -> None:
        """Count a frame that left; `write` is the milliseconds that sinks took for it."""
        with self._lock:
            self._in_flight -= 1
            if not self._in_flight:
                self._quiet_since = time.perf_counter()
        if result.fault is not None and result.score is None:
            self._faulty += 1
            return
        if result.error is not None:
            self._failed += 1
            return
        self._processed += 1
        self._anomalous += bool(result.anomalous)
        self._times.append(result.milliseconds)
        self._writing.append(write)

    def _end_of_quiet(self) -> None:
        if self._quiet_since is not None:
            quiet = time.perf_counter() - self._quiet_since
            if self._pauses and quiet > PAUSE:
                self._paused += quiet
            self._quiet_since = None

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return time.perf_counter() - self._began

    def summary(self, backend: str, given_up: tuple[str, ...] = ()) -> Summary:
        """The counts up to now; the arguments are those of `Summary`."""
        seconds = self.seconds
        with self._lock:
            self._end_of_quiet()
            working = max(seconds - self._paused, 1e-9)
        stages = {}
        if self._times:
            for name in (field.name for field in dataclasses.fields(Milliseconds)):
                stages[name] = _stage(getattr(row, name) for row in self._times)
            stages["write"] = _stage(self._writing)
        return Summary(
            frames=self._frames,
            processed=self._processed,
            anomalous=self._anomalous,
            failed=self._failed,
            faulty=self._faulty,
            seconds=seconds,
            images_per_second=self._processed / working,
            milliseconds=stages,
            backend=backend,
            given_up=given_up,
        )


def _stage(times: Iterable[float]) -> StageTime:
    ascending = sorted(times)
    return StageTime(quantile(ascending, 0.5), quantile(ascending, 0.95))
