"""What the tests of live sources share: a clock set by hand, cameras that follow a script."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from generalad.runtime.cameras import Backoff, Reader, State

Image = NDArray[np.uint8]
Step = Image | Exception | threading.Event | None

PATIENCE = 30.0  # real seconds until a test gives up; never reached by a test that passes


def image(value: int = 9, size: tuple[int, int] = (4, 6)) -> Image:
    """(H, W, 3) uint8, even."""
    return np.full((*size, 3), value, np.uint8)


class FakeClock:
    """Time that passes only by `advance`."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._looks = 0

    def now(self) -> float:
        return self._now

    def wall(self) -> float:
        return self._now + 1e9

    def wait(self, condition: threading.Condition, timeout: float | None) -> None:
        self._looks += 1
        condition.wait(0.002)

    def advance(self, seconds: float) -> None:
        self._now += seconds

    def step(self, seconds: float) -> None:
        """Advance, and let the threads that wait look twice, however busy the machine is."""
        self.advance(seconds)
        looks, end = self._looks, time.monotonic() + 0.1
        while self._looks < looks + 2 and time.monotonic() < end:
            time.sleep(0.001)


class Script:
    """Makes cameras that follow a script each; the last script is repeated.

    The first step of a script is that of `open`: None succeeds. A step is an image, an exception
    to raise, None for the end, or an event to hang on, after which the next step follows. A script
    that is used up hangs for good, until `release`.

    With `waits`, reading goes on only when the consumer has called `go_on` for the image before, so
    that no newer frame takes the place of an older one.
    """

    def __init__(self, *scripts: Iterable[Step], waits: bool = False) -> None:
        self._scripts = [list(script) for script in scripts]
        self._may_read = threading.Semaphore(1) if waits else None
        self.made: list[ScriptedCamera] = []
        self.at_rest = threading.Event()

    def __call__(self) -> ScriptedCamera:
        steps = self._scripts[min(len(self.made), len(self._scripts) - 1)]
        camera = ScriptedCamera(list(steps), self.at_rest, self._may_read)
        self.made.append(camera)
        return camera

    def go_on(self) -> None:
        """The consumer is done with an image."""
        assert self._may_read is not None
        self._may_read.release()

    def release(self) -> None:
        """Let go of every camera that hangs at the end of its script; it reads no more."""
        self.at_rest.set()


class ScriptedCamera:
    def __init__(
        self, steps: list[Step], at_rest: threading.Event, may_read: threading.Semaphore | None
    ) -> None:
        self._steps = steps
        self._at_rest = at_rest
        self._may_read = may_read
        self.closed = 0
        self.thread = threading.current_thread()

    def _step(self) -> Image | None:
        assert threading.current_thread() is self.thread, "used by two threads"
        assert not self.closed, "used after closing"
        while self._steps:
            step = self._steps.pop(0)
            if isinstance(step, threading.Event):
                step.wait()
                continue
            if isinstance(step, Exception):
                raise step
            return step
        self._at_rest.wait()
        raise ConnectionError("released")

    def open(self) -> None:
        self._step()

    def read(self) -> Image | None:
        if self._may_read is None or not self._steps:
            return self._step()
        assert self._may_read.acquire(timeout=PATIENCE), "the consumer never went on"
        found = None
        try:
            found = self._step()
        finally:
            if found is None:  # nothing that a consumer could be done with
                self._may_read.release()
        return found

    def close(self) -> None:
        self.closed += 1


def until(condition: Callable[[], Any], clock: FakeClock | None = None, step: float = 0.05) -> None:
    """Wait until something is true, letting time pass on the clock if one is given."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        if clock is not None:
            clock.step(step)
        time.sleep(0.001)


def make_reader(source: Any, clock: FakeClock, **settings: Any) -> Reader:
    """A reader on a fake clock: stalls after 5 s, first waiting time 1 s without chance."""
    settings.setdefault("backoff", Backoff(first=1.0, cap=8.0, jitter=0.0, good_after=10.0))
    settings.setdefault("stall_after", 5.0)
    settings.setdefault("open_timeout", 7.0)
    return Reader(source, clock=clock, **settings)


def states(reader: Reader) -> list[State]:
    """The states entered, in order, changes of only the reason left out."""
    found = [change.state for change in reader.changes]
    return [state for i, state in enumerate(found) if i == 0 or found[i - 1] is not state]


def balanced(reader: Reader) -> bool:
    """The equation of `Status`."""
    now = reader.status
    return now.captured == now.processed + sum(now.dropped.values()) + now.in_flight
