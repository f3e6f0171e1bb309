"""What sinks are given: in order, never at the cost of a verdict, and never without end."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from camera_helpers import until
from stream_helpers import Recorder as Sink

from generalad.errors import StorageError
from generalad.runtime.notification import Evidence, Notification
from generalad.runtime.station.recorder import MOST, MOST_IMAGES, Recorder

EVIDENCE = Evidence(np.zeros((4, 4, 3), np.uint8), np.zeros((2, 2), np.float32))


def verdict(number: int, evidence: Evidence | None = None) -> Notification:
    return Notification("verdict", "press-4", 0.0, {"verdict": number}, evidence)


class Waiting(Sink):
    """Takes nothing before it is let go, and refuses what it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.asked = threading.Event()
        self.full = False

    def notification(self, notification: Notification) -> None:
        self.asked.set()
        self.go.wait(10)
        if self.full:
            raise StorageError("the disk is full")
        super().notification(notification)


def started(sink: Sink) -> tuple[Recorder, threading.Thread]:
    recorder = Recorder([sink])
    recorder.open([], None)  # type: ignore[arg-type]
    thread = threading.Thread(target=recorder.run)
    thread.start()
    return recorder, thread


def test_a_sink_that_hangs_holds_up_nobody_and_takes_no_memory() -> None:
    sink = Waiting()
    recorder, thread = started(sink)
    told: list[int] = []
    for number in range(MOST + 200):
        recorder.tell(verdict(number, EVIDENCE), lambda number=number: told.append(number))  # type: ignore[misc]
        # The first is taken before more follow: the place it leaves would go to a later one.
        assert sink.asked.wait(10)
    sink.go.set()
    recorder.close()
    thread.join()
    kept: list[Any] = [n.data["verdict"] for n in sink.notifications]
    assert kept == told == list(range(len(kept)))
    assert MOST <= len(kept) <= MOST + 1
    with_images = sum(n.evidence is not None for n in sink.notifications)
    assert MOST_IMAGES <= with_images <= MOST_IMAGES + 1
    assert recorder.not_written["slow sinks"] == (MOST + 200 - len(kept)) + len(kept) - with_images


def test_what_a_sink_refuses_is_not_told_as_done() -> None:
    sink = Waiting()
    sink.go.set()
    recorder, thread = started(sink)
    told: list[int] = []
    sink.full = True
    recorder.tell(verdict(1), lambda: told.append(1))
    until(lambda: recorder.not_written.get("Waiting") == 1)
    sink.full = False
    recorder.tell(verdict(2), lambda: told.append(2))
    recorder.close()
    thread.join()
    assert told == [2] and len(sink.notifications) == 1
