"""`iterate`: `infer` turned round, so that a program takes one result after another.

The pipeline runs in threads of its own as in `infer`, and its writer waits until the program comes
back for more. Files are read ahead a little meanwhile. A camera is not: its next frame is taken
when the program has finished with the last one, so that what it gets is new, and the camera's
reader drops and counts what came in between.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from generalad.decision import Result, Rule
from generalad.errors import DataError
from generalad.runtime.backends.session import Session
from generalad.runtime.inference import Given, infer, resolve
from generalad.runtime.sources import Frame, LiveSource, LiveSourceMixin, Source, Status
from generalad.spec import Spec

if TYPE_CHECKING:
    from generalad.runtime.line.stream import Stream
    from generalad.runtime.notification import Notification
    from generalad.runtime.pipeline.summary import Summary


class Found(NamedTuple):
    """A frame and what was found in it; the map (h, w) is None where there is no score."""

    frame: Frame
    result: Result
    map: NDArray[np.float32] | None


def iterate(
    session: Session,
    sources: Given | Sequence[Given],
    *,
    batch_size: int | Literal["auto"] = 1,
    threshold: float | None = None,
    on_notification: Callable[[Notification], None] | None = None,
) -> Iterator[Found]:
    """Run a session over sources, one frame at a time.

    Sources are resolved at once; reading begins with the first `next`. When the iterator is closed,
    as leaving a loop does, reading stops, cameras are freed and all threads end before that
    returns.

    Args:
        session: stays open.
        sources: see `infer`. A camera's images are looked at for camera faults.
        batch_size: see `infer`.
        threshold: see `infer`.
        on_notification: called for camera states, faults and whatever streams watch for, in a
            thread of the run.

    Raises:
        GadError: as `infer`; or a camera was given up, when all other sources have ended.
    """
    wanted = [_paced(source, threshold) for source in resolve(sources)]
    handover = _Handover()
    stop = threading.Event()
    ended: list[Summary | BaseException] = []

    def work() -> None:
        try:
            ended.append(
                infer(
                    session,
                    wanted,
                    sinks=[handover],
                    batch_size=batch_size,
                    threshold=threshold,
                    stop=stop,
                    on_notification=on_notification,
                )
            )
        except BaseException as error:  # raised again in the thread of the program
            ended.append(error)
        finally:
            handover.end()

    def results() -> Iterator[Found]:
        thread = threading.Thread(target=work, name="gad-stream", daemon=True)
        thread.start()
        try:
            while (found := handover.next()) is not None:
                yield found
        finally:
            stop.set()
            handover.end()
            thread.join()
        _raise_failure(ended[0], wanted)

    return results()


def _raise_failure(outcome: Summary | BaseException, sources: Sequence[Source | Stream]) -> None:
    if isinstance(outcome, BaseException):
        raise outcome
    for one in sources:
        source = one.source if hasattr(one, "source") else one
        if source.address in outcome.given_up and isinstance(source, LiveSource):
            raise DataError(
                f"{source.address}: given up ({source.status().reason})",
                remedy="check the camera and its address",
            )


class _Handover:
    """A sink whose `write` returns when the program has come back for the next result."""

    needs_image = True

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: Found | None = None
        self._taken = self._over = False

    def open(self, sources: Sequence[Source], spec: Spec) -> None:
        """Nothing to prepare."""

    def write(self, frame: Frame, result: Result, anomaly_map: NDArray[np.float32] | None) -> None:
        """Hand over one result and wait until the program has finished with it."""
        with self._changed:
            self._waiting, self._taken = Found(frame, result, anomaly_map), False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._over or self._waiting is None)

    def close(self, *, complete: bool) -> None:
        """What was handed over last is with the program."""

    def next(self) -> Found | None:
        """Give the last result back and wait for the next one; None at the end."""
        with self._changed:
            if self._taken:
                self._waiting = None
                self._changed.notify_all()
            self._changed.wait_for(lambda: self._over or self._waiting is not None)
            self._taken = True
            return None if self._over else self._waiting

    def end(self) -> None:
        """No further result."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    leave = end
    """The program takes no further result: `write` waits no longer."""


def _paced(given: Source | Stream, threshold: float | None) -> Source | Stream:
    """A camera whose frames are taken one by one, with its faults found; files as they are."""
    source = given.source if hasattr(given, "source") else given
    if not isinstance(source, LiveSource):
        return given
    from generalad.runtime.line.stream import Stream

    if isinstance(given, Stream):
        return dataclasses.replace(given, source=_Paced(source))
    return Stream(_Paced(source), Rule(threshold), camera_faults=True)


class _Paced(LiveSourceMixin):
    """A live source that gives its next frame when the last one is done."""

    def __init__(self, source: LiveSource) -> None:
        self._source = source
        self.address, self.folder = source.address, source.folder
        self._done = threading.Event()
        self._stopped = False

    def read(self) -> Iterator[Frame | Notification]:
        """See `LiveSource`; after `stop` nothing is waited for."""
        with contextlib.closing(self._source.read()) as things:  # type: ignore[type-var]
            for thing in things:
                if not isinstance(thing, Frame):
                    yield thing
                    continue
                self._done.clear()
                if self._stopped:
                    self._done.set()
                yield thing
                self._done.wait()

    def done(self, frame: Frame, *, dropped: str | None = None) -> None:
        """See `LiveSource`."""
        self._source.done(frame, dropped=dropped)
        self._done.set()

    def status(self) -> Status:
        """See `LiveSource`."""
        return self._source.status()

    def stop(self) -> None:
        """See `LiveSource`."""
        self._source.stop()
        self._stopped = True
        self._done.set()
