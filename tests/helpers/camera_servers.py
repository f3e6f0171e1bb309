"""What the tests against real servers share: servers in processes of their own, which are paused,
killed and restarted, and a consumer that checks every frame.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from camera_helpers import Image, balanced, until

from generalad.runtime.cameras import Address, Backoff, Camera, CameraFactory, Reader, State
from generalad.runtime.cameras.reader import camera_factory
from generalad.runtime.sources import Frame

HERE = Path(__file__).parent
SYSTEM_PYTHON = "/usr/bin/python3"  # has GStreamer's bindings where Debian's packages are installed
QUICK = Backoff(first=0.1, cap=0.3, jitter=0.5, good_after=1.0)
STALL = 1.0


class Server:
    """A server in a process of its own, which keeps its port when it is started again."""

    def __init__(self, python: str, script: str) -> None:
        self._command = [python, str(HERE / script)]
        self.port = 0
        self._process: subprocess.Popen[str] | None = None

    def start(self, *settings: str) -> None:
        command = [*self._command, str(self.port), *settings]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)


def make(address: str, **settings: Any) -> Reader:
    settings = {"stall_after": STALL, "open_timeout": 10.0, "backoff": QUICK, **settings}
    return Reader(address, **settings)


@dataclass(frozen=True, eq=False)
class Given:
    """An image that a camera gave, whether it was handed out or dropped."""

    image: Image
    time: float  # seconds of time.monotonic
    attempt: int  # number of the camera, from 1


class Recorder:
    """Makes the cameras of an address and notes the last thousand images that they give."""

    def __init__(self, make: CameraFactory) -> None:
        self._make = make
        self._cameras = itertools.count(1)
        self.given: deque[Given] = deque(maxlen=1000)

    def __call__(self) -> Camera:
        camera, attempt = self._make(), next(self._cameras)
        read = camera.read

        def recorded() -> Image | None:
            image = read()
            if image is not None:
                self.given.append(Given(image, time.monotonic(), attempt))
            return image

        camera.read = recorded  # type: ignore[method-assign]
        return camera


class Consumer:
    """Takes frames and checks all that the camera gives: red, and never anything else."""

    def __init__(self, reader: Reader, recorder: Recorder) -> None:
        self.reader = reader
        self.recorder = recorder
        self.last: Frame | None = None
        self._last_given: Given | None = None

    def until(self, condition: Any) -> None:
        until(lambda: self._take() and condition())

    @property
    def attempt(self) -> int:
        """Number of the attempt that the last frame came from."""
        assert self._last_given is not None
        return self._last_given.attempt

    def check_images(self) -> None:
        """Of every frame, taken or dropped: red, and whole."""
        for given in tuple(self.recorder.given):
            red, green, blue = given.image.mean(axis=(0, 1))
            assert red > 180 and green < 70 and blue < 70
            spread = given.image[..., 0].mean(axis=1).std()
            assert spread < 20, "half of an image"

    def _take(self) -> bool:
        assert balanced(self.reader)
        frame = self.reader.next(timeout=0)
        if frame is not None:
            given = next(g for g in reversed(self.recorder.given) if g.image is frame.image)
            assert self.last is None or frame.index > self.last.index
            assert self._last_given is None or given.attempt >= self._last_given.attempt
            self.reader.done(frame)
            self.last, self._last_given = frame, given
        return True

    def frames(self, more: int) -> None:
        """Wait for so many frames of the latest attempt."""
        goal = self.reader.status.processed + more
        self.until(lambda: self.reader.status.processed >= goal)


@contextlib.contextmanager
def watching(address: str, **settings: Any) -> Iterator[tuple[Reader, Consumer]]:
    recorders: list[Recorder] = []

    def recorded(address: Address, **given: Any) -> Recorder:
        recorders.append(Recorder(camera_factory(address, **given)))
        return recorders[-1]

    with patch("generalad.runtime.cameras.reader.camera_factory", recorded):
        reader = make(address, **settings)
    (recorder,) = recorders
    consumer = Consumer(reader, recorder)
    with reader:
        yield reader, consumer
    consumer.check_images()


def report(fault: str, reader: Reader, began: float, ended: float) -> None:
    """One line of the table of faults; shown with `pytest -s`."""
    first = next(c for c in reader.changes if c.time > began and c.state is not State.LIVE)
    again = next((c for c in reader.changes if c.time > ended and c.state is State.LIVE), None)
    recovered = f"{again.time - ended:.2f} s" if again else "-"
    dropped = dict(reader.status.dropped)
    print(f"\n| {fault} | {first.state.value}: {first.reason} after {first.time - began:.2f} s "
          f"| {recovered} | {dropped} |")  # fmt: skip


def pause_and_go_on(server: Server, address: str, fault: str) -> None:
    with watching(address) as (reader, consumer):
        consumer.frames(5)
        server.send(signal.SIGSTOP)
        began = time.monotonic()
        consumer.until(lambda: reader.status.state is State.STALLED)
        assert "no frame for 1 s" in reader.status.reason
        until(lambda: time.monotonic() > began + 2.5 * STALL)
        server.send(signal.SIGCONT)
        ended = time.monotonic()
        consumer.until(lambda: reader.status.state is State.LIVE)
        consumer.frames(3)
        report(fault, reader, began, ended)
        assert reader.status.reconnects == 1 and consumer.last is not None
        assert consumer.attempt == reader.status.attempts > 1
        until(lambda: not reader.stuck)


def kill_and_restart(server: Server, address: str, fault: str, size: str) -> None:
    with watching(address) as (reader, consumer):
        consumer.frames(5)
        before = reader.status.resolution
        server.kill()
        began = time.monotonic()
        consumer.until(lambda: reader.status.state is not State.LIVE)
        until(lambda: reader.status.attempts > 2)
        server.start(f"size={size}")
        ended = time.monotonic()
        consumer.until(lambda: reader.status.state is State.LIVE)
        consumer.frames(3)
        report(fault, reader, began, ended)
        width, height = map(int, size.split("x"))
        assert before != reader.status.resolution == (height, width)
        assert consumer.last is not None and consumer.last.image is not None
        assert consumer.last.image.shape == (height, width, 3)
