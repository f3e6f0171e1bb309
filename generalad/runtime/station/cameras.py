"""`StationCamera`: one camera of a station, and the threads that read and trigger it."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from generalad.runtime.cameras.camera import TriggerFailed
from generalad.runtime.cameras.camera_source import CameraSource, Loss
from generalad.runtime.line.stream import Stream
from generalad.runtime.notification import Notification
from generalad.runtime.sources import Frame, LiveSource, State
from generalad.runtime.station.coordinator import CameraFacts, Coordinator, How
from generalad.runtime.station.parts import Part
from generalad.runtime.station.verdict import Reason

LOSSES = ("damaged", "lost", "newer frame")
"""Reasons under which a frame is dropped that a signal had asked for."""


_MOST_WAITING = 8
"""Pictures of a camera with a signal that may wait to be read; each is a part's."""


@dataclass(frozen=True)
class CameraPlan:
    """How a station uses a camera.

    Attributes:
        stream: a camera and how its images are judged.
        how: it takes pictures.
        pictures: that it takes of each part.
    """

    stream: Stream
    how: How = "free"
    pictures: int = 1


class StationCamera:
    """Reads one camera while the station runs."""

    def __init__(
        self,
        plan: CameraPlan,
        *,
        window: float,
        look: Callable[[Frame], bool] | None = None,
        on_notification: Callable[[Notification], None],
    ) -> None:
        """Nothing is opened before `start`.

        Args:
            plan: how it is used.
            window: seconds from a trigger within which the camera is told to take the picture.
            look: the photo-eye, where this camera has it: whether a part begins with a frame.
            on_notification: told of changes of the camera's state.
        """
        assert isinstance(plan.stream.source, LiveSource)
        self.name, self.plan = plan.stream.name, plan
        self._source = plan.stream.source
        self._window, self._look = window, look
        self._on_notification = on_notification
        self._asked: queue.SimpleQueue[Part | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    @property
    def facts(self) -> CameraFacts:
        """For the coordinator."""
        return CameraFacts(self.plan.how, self.plan.pictures, self.fault)

    def fault(self) -> str:
        """Why it gives no pictures now, or empty."""
        status = self._source.status()
        return (
            ""
            if status.state is State.LIVE
            else f"{self.name}: {status.state.value}: {status.reason}"
        )

    def state_in_words(self) -> str:
        """Its state and the reason, which has the size of its pictures and odd settings."""
        status = self._source.status()
        return f"{status.state.value}: {status.reason}"

    def start(self, coordinator: Coordinator) -> None:
        """Open the camera, and go on until `stop`."""
        self._coordinator = coordinator
        if isinstance(self._source, CameraSource) and self.plan.how == "line":
            self._source.keep_all(_MOST_WAITING, self._lost)
        works = [("read", self._read)]
        if self.plan.how == "software":
            works.append(("trigger", self._trigger))
        for what, work in works:
            thread = threading.Thread(target=work, name=f"gad-{what} {self.name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def take_picture(self, part: Part) -> None:
        """Tell the camera to take the pictures of a part; returns at once."""
        self._asked.put(part)

    def unwanted(self, frame: Frame, reason: str) -> None:
        """Give a frame back that is not judged."""
        self._source.done(frame, dropped=reason)

    def stop(self) -> None:
        """Read no further; returns soon."""
        self._asked.put(None)
        self._source.stop()

    def join(self, timeout: float) -> None:
        """Wait for the threads, which may hang in a driver."""
        until = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _read(self) -> None:
        for thing in self._source.read():
            if isinstance(thing, Notification):
                self._on_notification(thing)
                # The state now: the change may be long over.
                if thing.kind == "camera" and (fault := self.fault()):
                    self._coordinator.camera_lost(self.name, fault)
            elif self.plan.how == "software":
                self.unwanted(thing, "without trigger")
            else:
                if self._look is not None and self._look(thing):
                    self._coordinator.trigger(None, thing.captured_at)
                self._coordinator.picture(self.name, thing)

    def _lost(self, loss: Loss) -> None:
        if loss.reason in LOSSES:
            for _ in range(loss.frames):
                self._coordinator.lost(self.name, loss.at, loss.reason)

    def _trigger(self) -> None:
        """One part after the other; one whose time is over gets no picture."""
        while (part := self._asked.get()) is not None:
            try:
                for number in range(self.plan.pictures):
                    if part.decision is None:
                        self._coordinator.picture(self.name, self._take(part, number), part)
            except TriggerFailed as failed:
                away = self.fault()
                reason: Reason = "camera fault" if away else "picture lost"
                self._coordinator.failed(self.name, part, reason, away or f"{self.name}: {failed}")

    def _take(self, part: Part, number: int) -> Frame:
        """A picture of a part; raises TriggerFailed.

        It is begun within the window, or not at all: another part could be in its place by then.
        """
        assert isinstance(self._source, CameraSource)
        now = time.monotonic()
        if now >= part.deadline or (not number and now > part.triggered + self._window):
            raise TriggerFailed(f"was not free within {self._window * 1000:.0f} ms of the trigger")
        return self._source.trigger(part.deadline - now)
