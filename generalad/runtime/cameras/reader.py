"""`Reader`: frames of one camera that may hang, break off and come back, for months."""

from __future__ import annotations

import random as randomness
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType

from generalad.errors import UsageError
from generalad.runtime.cameras.address import Address, parse_address
from generalad.runtime.cameras.camera import CameraFactory, camera_factory
from generalad.runtime.cameras.state import Captured, Change, Ledger, Policy, Status
from generalad.runtime.cameras.supervisor import OnChange, Supervisor
from generalad.runtime.cameras.timing import Backoff, Clock, Patience, SystemClock


class Reader:
    """Reads one live source and always says what it is doing.

    `next`, `frames`, `done` and `status` may be used from any thread. Every frame that is handed
    out must be given back with `done`.
    """

    def __init__(
        self,
        source: str | Address | CameraFactory,
        *,
        name: str = "camera",
        policy: Policy = "latest",
        capacity: int = 8,
        stall_after: float = 5.0,
        open_timeout: float = 15.0,
        backoff: Backoff | None = None,
        max_stuck: int = 3,
        on_change: OnChange | None = None,
        clock: Clock | None = None,
        random: Callable[[], float] = randomness.random,
    ) -> None:
        """Nothing is opened before `start`.

        Args:
            source: an address, or what makes a camera for each attempt.
            name: shown where `source` is no address.
            policy: "latest" drops an older frame that waits when a newer one comes; "all" lets up
                to `capacity` frames wait and then the camera.
            capacity: for "all".
            stall_after: seconds without a frame after which an attempt is given up.
            open_timeout: the same for opening.
            backoff: waiting times between attempts.
            max_stuck: no further attempt while so many hang in the driver.
            on_change: called with every change in order, in the watchdog's thread, which it must
                not hold up. What it raises is ignored.
            clock: for tests.
            random: 0...1, for tests.

        Raises:
            UsageError: an address of unknown form, or a setting out of range.
        """
        if policy not in ("latest", "all") or capacity < 1:
            raise UsageError("expected policy latest or all, and capacity at least 1")
        patience = Patience(stall_after, open_timeout, backoff or Backoff(), max_stuck)
        if isinstance(source, str):
            source = parse_address(source)
        clean: Callable[[str], str] = _one_line
        if isinstance(source, Address):
            name, clean = str(source), source.clean
            # Later than the watchdog, which then names the reason; its thread comes back soon.
            source = camera_factory(
                source, open_timeout=open_timeout + 1, read_timeout=stall_after + 1
            )
        self.name = name
        self._clock = clock or SystemClock()
        self._ledger = Ledger(policy, capacity)
        self._supervisor = Supervisor(
            name,
            source,
            self._ledger,
            patience,
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

    def next(self, timeout: float | None = None) -> Captured | None:
        """The oldest waiting frame.

        Returns:
            None after `timeout` seconds, or when no further frame can come (`finished`).
        """
        until = None if timeout is None else self._clock.now() + timeout
        with self._ledger.changed:
            while (frame := self._ledger.take()) is None and not self._supervisor.over:
                rest = None if until is None else until - self._clock.now()
                if rest is not None and rest <= 0:
                    break
                self._clock.wait(self._ledger.changed, rest)
            return frame

    def frames(self) -> Iterator[Captured]:
        """Frames until no further one can come. While a camera is down this waits."""
        while (frame := self.next()) is not None:
            yield frame

    def done(self, frame: Captured, *, dropped: str | None = None) -> bool:
        """Give a frame back as processed, or as dropped for a reason.

        Returns:
            False if it was given back before; it is not counted twice.
        """
        return self._ledger.done(frame, dropped)

    @property
    def finished(self) -> bool:
        """Whether no further frame can come: failed, ended or closed, and none is waiting."""
        with self._ledger.changed:
            return self._supervisor.over and not self._ledger.waiting()

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
            drain: leave the waiting frames to be taken with `next`; otherwise they are dropped.
            timeout: in seconds.

        Returns:
            The threads that hang in a driver call, see `stuck`. They end when the call returns, or
            with the process.
        """
        threads = self._supervisor.stop("closed")
        if not drain:
            self._ledger.drop_waiting("closed")
        until = time.monotonic() + timeout
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, until - time.monotonic()))
        return self.stuck


def _one_line(text: str) -> str:
    return " ".join(text.split())
