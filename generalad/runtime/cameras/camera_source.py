"""`CameraSource`: a camera as a source of `infer`."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from generalad.runtime.cameras.address import Address
from generalad.runtime.cameras.camera import CameraFactory, Settings
from generalad.runtime.cameras.history import Change
from generalad.runtime.cameras.reader import Reader
from generalad.runtime.notification import Notification
from generalad.runtime.sources import Frame, LiveSourceMixin, Status

_CHANGES_EVERY = 0.1
"""Seconds after which a change of state is told when no frame comes."""


class Loss(NamedTuple):
    """Frames that were captured and cannot be had: when, in monotonic seconds, and why."""

    at: float
    reason: str
    frames: int


class CameraSource(LiveSourceMixin):
    """The newest frames of a `Reader`, and notifications where its state changes."""

    folder: Path | None = None

    def __init__(
        self,
        source: Address | CameraFactory,
        *,
        name: str | None = None,
        settings: Settings | None = None,
        stall_after: float = 5.0,
    ) -> None:
        """Nothing is opened before `read`.

        Args:
            source: an address, or what makes a camera for each attempt.
            name: what results and notifications call it; None is the address without secrets.
            settings: see `Reader`.
            stall_after: seconds without a frame after which the camera is opened again.

        Raises:
            UsageError: an address with wrong settings, settings that a camera cannot have, or a
                time out of range.
            MissingExtraError: the packages for this kind of address are not installed.
        """
        self._on_lost: Callable[[Loss], None] | None = None
        self._losses: queue.SimpleQueue[Loss] = queue.SimpleQueue()
        self._changes: queue.SimpleQueue[Change] = queue.SimpleQueue()
        self._reader = Reader(
            source,
            name=name,
            settings=settings,
            stall_after=stall_after,
            on_change=self._changes.put,
            on_dropped=self._dropped,
        )
        self.address = self._reader.name

    def read(self) -> Iterator[Frame | Notification]:
        """See `LiveSource`; ends with the camera, or after `stop`."""
        with self._reader as reader:
            while True:
                frame = reader.next(timeout=_CHANGES_EVERY)
                yield from self._notifications()
                if frame is not None:
                    yield frame
                elif reader.finished:
                    break
        yield from self._notifications()

    def keep_all(self, most_waiting: int, on_lost: Callable[[Loss], None]) -> None:
        """Each frame is wanted: let so many wait, and tell of those that cannot be had.

        Args:
            most_waiting: frames that may wait to be read.
            on_lost: told in the thread that reads; before the first frame.
        """
        self._on_lost = on_lost
        self._reader.keep(most_waiting)

    def trigger(self, timeout: float = 1.0) -> Frame:
        """See `Reader.trigger`; while another thread reads, which tells changes of the state."""
        return self._reader.trigger(timeout)

    def done(self, frame: Frame, *, dropped: str | None = None) -> None:
        """See `LiveSource`."""
        self._reader.done(frame, dropped=dropped)

    def status(self) -> Status:
        """See `LiveSource`."""
        return self._reader.status

    def stop(self) -> None:
        """See `LiveSource`."""
        self._reader.close(drain=True, timeout=0)

    def _dropped(self, reason: str, count: int) -> None:
        if self._on_lost is not None:
            self._losses.put(Loss(time.monotonic(), reason, count))

    def _notifications(self) -> Iterator[Notification]:
        while self._on_lost is not None and not self._losses.empty():
            self._on_lost(self._losses.get())
        while not self._changes.empty():
            change = self._changes.get()
            wall = time.time() - (time.monotonic() - change.time)
            data = {"state": change.state.value, "reason": change.reason}
            yield Notification("camera", self.address, wall, data)
