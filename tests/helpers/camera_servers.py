"""What the tests against real servers share: servers in processes of their own, which are paused,
killed and restarted, and a consumer that checks every frame.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from camera_helpers import balanced, until

from generalad.runtime.cameras import Backoff, Captured, Reader, State

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


class Consumer:
    """Takes frames and checks each: red, and never anything else."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.last: Captured | None = None

    def until(self, condition: Any) -> None:
        until(lambda: self._take() and condition())

    def _take(self) -> bool:
        assert balanced(self.reader)
        frame = self.reader.next(timeout=0)
        if frame is not None:
            red, green, blue = frame.image.mean(axis=(0, 1))
            assert red > 180 and green < 70 and blue < 70
            spread = frame.image[..., 0].mean(axis=1).std()
            assert spread < 20, "half of an image"
            assert self.last is None or frame.index > self.last.index
            assert self.last is None or frame.generation >= self.last.generation
            self.reader.done(frame)
            self.last = frame
        return True

    def frames(self, more: int) -> None:
        """Wait for so many frames of the latest attempt."""
        goal = self.reader.status.processed + more
        self.until(lambda: self.reader.status.processed >= goal)


@contextlib.contextmanager
def watching(address: str, **settings: Any) -> Iterator[tuple[Reader, Consumer]]:
    with make(address, **settings) as reader:
        yield reader, Consumer(reader)


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
        assert consumer.last.generation == reader.status.attempts > 1
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
        assert consumer.last is not None and consumer.last.image.shape == (height, width, 3)
