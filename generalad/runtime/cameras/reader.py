"""`Reader`: frames of one camera that may hang, break off and come back, for months."""

from __future__ import annotations

import random as randomness
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType

from generalad.errors import UsageError, require_extra
from generalad.runtime.backoff import Backoff, Clock, SystemClock
from generalad.runtime.cameras.address import (
    INDUSTRIAL,
    Address,
    parse_address,
    refuse_settings,
)
from generalad.runtime.cameras.camera import CameraFactory, Settings
from generalad.runtime.cameras.history import Change
from generalad.runtime.cameras.latest_frame import LatestFrame, OnDropped
from generalad.runtime.cameras.supervisor import OnChange, Supervisor
from generalad.runtime.notification import CLOSED
from generalad.runtime.sources import Frame, Status


class Reader:
    """Reads one camera and always says what it is doing.

    One frame waits at most, and a newer one takes its place, unless `keep` says more. Every frame
    that is handed out must be given back with `done`; its `index` counts all that were captured,
    also across reconnects, so that a gap is a frame that was dropped. `next`, `frames`, `done` and
    `status` may be used from any thread.
    """

    def __init__(
        self,
        source: str | Address | CameraFactory,
        *,
        name: str | None = None,
        settings: Settings | None = None,
        stall_after: float = 5.0,
        open_timeout: float = 15.0,
        backoff: Backoff | None = None,
        max_stuck: int = 3,
        on_change: OnChange | None = None,
        on_dropped: OnDropped | None = None,
        clock: Clock | None = None,
        random: Callable[[], float] = randomness.random,
    ) -> None:
        """Nothing is opened before `start`.

        Args:
            source: an address, or what makes a camera for each attempt.
            name: what frames and threads call it; None takes the address without its secrets.
            settings: of an industrial camera by their GenICam names, made whenever it is opened.
            stall_after: seconds without a frame after which an attempt is given up.
            open_timeout: the same for opening.
            backoff: waiting times between attempts.
            max_stuck: no further attempt while so many hang in the driver.
            on_change: called with every change in order, in the watchdog's thread, which it must
                not hold up. What it raises is ignored.
            on_dropped: told of frames that were captured and that `next` will not give, with the
                reader's lock held: it must return at once and take no lock.
            clock: for tests.
            random: 0...1, for tests.

        Raises:
            UsageError: an address of unknown form or with wrong settings, or a setting out of
                range.
            MissingExtraError: the packages for this kind of address are not installed.
        """
        if min(stall_after, open_timeout) <= 0 or max_stuck < 1:
            raise UsageError("expected stall_after and open_timeout above 0, max_stuck at least 1")
        if isinstance(source, str):
            source = parse_address(source)
        clean: Callable[[str], str] = _one_line
        if isinstance(source, Address):
            name, clean = name or str(source), source.clean
            # Later than the watchdog, which then names the reason; its thread comes back soon.
            source = camera_factory(
                source,
                settings=settings,
                open_timeout=open_timeout + 1,
                read_timeout=stall_after + 1,
            )
        else:
            refuse_settings(name or "camera", settings)
        self.name = name or "camera"
        self._clock = clock or SystemClock()
        self._frames = LatestFrame(on_dropped)
        self._supervisor = Supervisor(
            self.name,
            source,
            self._frames,
            stall_after=stall_after,
            open_timeout=open_timeout,
            backoff=backoff or Backoff(),
            max_stuck=max_stuck,
            clean=clean,
            on_change=on_change,
            clock=self._clock,
            random=random,
        )

    def __repr__(self) -> str:
        return f"Reader({self.name!r}, {self.status.state.value})"

    def __enter__(self) -> Reader:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> None:
        """Begin the first attempt; returns at once. A second call does nothing."""
        self._supervisor.start()

    def keep(self, most_waiting: int) -> None:
        """Let so many frames wait from now on."""
        with self._frames.changed:
            self._frames.most = most_waiting

    def next(self, timeout: float | None = None) -> Frame | None:
        """The oldest frame that waits, once there is one that was not handed out.

        Returns:
            None after `timeout` seconds, or when no further frame can come (`finished`).
        """
        until = None if timeout is None else self._clock.now() + timeout
        with self._frames.changed:
            while (frame := self._frames.take()) is None and not self._supervisor.over:
                rest = None if until is None else until - self._clock.now()
                if rest is not None and rest <= 0:
                    break
                self._clock.wait(self._frames.changed, rest)
            return frame

    def frames(self) -> Iterator[Frame]:
        """Frames until no further one can come. While a camera is down this waits."""
        while (frame := self.next()) is not None:
            yield frame

    def trigger(self, timeout: float = 1.0) -> Frame:
        """Tell the camera to take a picture, and wait for it; from any thread, one at a time.

        The picture goes to nobody else: `next` gives none that a trigger asked for.

        Args:
            timeout: seconds from the trigger to the whole picture.

        Returns:
            Exactly one frame, which must be given back with `done`.

        Raises:
            TriggerFailed: there is no picture for this trigger, and none will come later: none in
                time, a damaged one, the camera is down or not triggered by software, or the trigger
                before is not answered yet.
        """
        return self._supervisor.trigger(timeout)

    def done(self, frame: Frame, *, dropped: str | None = None) -> bool:
        """Give a frame back as processed, or as dropped for a reason.

        Returns:
            False if it was given back before; it is not counted twice.
        """
        return self._frames.done(frame, dropped)

    @property
    def finished(self) -> bool:
        """Whether no further frame can come: failed, ended or closed, and none waits."""
        with self._frames.changed:
            return self._supervisor.over and not self._frames.waiting

    @property
    def status(self) -> Status:
        """State and counts of one moment."""
        return self._supervisor.status

    @property
    def changes(self) -> tuple[Change, ...]:
        """The last 1000 changes, oldest first."""
        return self._supervisor.changes

    @property
    def stuck(self) -> tuple[str, ...]:
        """Names of the threads that were left behind in a driver call and have not come back."""
        return self._supervisor.stuck

    def close(self, *, drain: bool = False, timeout: float = 2.0) -> tuple[str, ...]:
        """Stop reading; waits at most `timeout` seconds for the threads.

        Args:
            drain: leave the waiting frame to be taken with `next`; otherwise it is dropped.
            timeout: in seconds.

        Returns:
            The threads that hang in a driver call, see `stuck`. They end when the call returns, or
            with the process.
        """
        threads = self._supervisor.stop(CLOSED)
        if not drain:
            self._frames.drop_waiting("closed")
        until = time.monotonic() + timeout
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, until - time.monotonic()))
        return self.stuck


def camera_factory(
    address: Address,
    *,
    settings: Settings | None = None,
    open_timeout: float,
    read_timeout: float,
) -> CameraFactory:
    """What makes the cameras of an address, one for each attempt; timeouts in seconds.

    Raises:
        UsageError: a `test://` address with unknown or wrong settings, or settings for a camera
            that has none.
        MissingExtraError: the packages for this kind of address are not installed.
    """
    # Each kind loads its own library, and only when it is asked for.
    if address.kind in INDUSTRIAL:
        from generalad.runtime.cameras.industrial.open import industrial_factory

        return industrial_factory(address, settings or {})
    refuse_settings(str(address), settings)
    if address.kind == "test":
        from generalad.runtime.cameras.simulated_camera import SimulatedSource

        return SimulatedSource.parse(address.text).camera
    if address.kind == "usb":
        from generalad.runtime.cameras.usb_camera import UsbCamera

        return lambda: UsbCamera(address)
    if address.kind == "http":
        from generalad.runtime.cameras.http_camera import HttpCamera

        return lambda: HttpCamera(address, open_timeout=open_timeout, read_timeout=read_timeout)
    require_extra("an RTSP camera", "streams", "av")
    from generalad.runtime.cameras.av_camera import AvCamera

    return lambda: AvCamera(address, open_timeout=open_timeout, read_timeout=read_timeout)


def _one_line(text: str) -> str:
    return " ".join(text.split())
