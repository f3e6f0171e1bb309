"""What tests of runs with cameras share: cameras, a recording sink, views that are kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
from camera_helpers import Script, Step
from numpy.typing import NDArray

from generalad.runtime import Frame, Outputs, Result, Source
from generalad.runtime.backends.fake import FakeSession
from generalad.runtime.cameras.camera_source import CameraSource
from generalad.runtime.line.events import EventRule
from generalad.runtime.line.stream import Stream
from generalad.runtime.notification import Notification
from generalad.runtime.view import Look, StationView, StreamView, View
from generalad.spec import Spec

Image = NDArray[np.uint8]


def part(number: int = 0, *, defect: bool = False) -> Image:
    """(40, 50, 3) uint8 that `FakeSession` finds normal, or with a defect; no two are the same."""
    image = np.full((40, 50, 3), 90, np.uint8)
    image[number % 40, number // 40 % 50] = 95
    if defect:
        image[10:20, 10:20] = 255
    return image


BLACK: Image = np.zeros((40, 50, 3), np.uint8)


def parts(pattern: str) -> list[Step]:
    """A camera's script: opens, then "g" good, "a" anomalous, "k" black."""
    images = [
        BLACK if kind == "k" else part(number, defect=kind == "a")
        for number, kind in enumerate(pattern)
    ]
    return [None, *images]


def camera(name: str, *scripts: Sequence[Step]) -> CameraSource:
    """A camera that follows scripts, one for each attempt."""
    return CameraSource(Script(*scripts), name=name)


def stream(name: str, *scripts: Sequence[Step], frozen_after: float = 1e9) -> Stream:
    """With events and faults; scripted images come at once, none of them is frozen."""
    return Stream(
        camera(name, *scripts),
        events=EventRule(),
        camera_faults=True,
        frozen_after=frozen_after,
    )


STREAM = StreamView(
    name="line-1",
    live=True,
    state="live",
    reason="512 x 512",
    captured=20,
    processed=12,
    dropped={"newer frame": 5, "camera fault: black": 2},
    in_flight=1,
    anomalous=3,
    reconnects=4,
    fps=9.5,
    median=8.0,
    p95=12.0,
    score=0.25,
    events=2,
    in_event=True,
    fault=None,
    drift="stable",
)


STATION = StationView(
    name="press-4",
    ready=False,
    error="side: reconnecting: unplugged",
    recipe="washer",
    asked="bracket",
    parts=100,
    waiting=2,
    verdicts={"pass": 80, "reject": 8, "no verdict: late": 4, "no verdict: camera fault": 6},
    without_trigger=3,
    refused=1,
    started_anew=True,
    median=21.25,
    p99=48.5,
    p999=97.0,
)


class Endless:
    """A camera that gives a good part every two milliseconds, for ever."""

    def __init__(self) -> None:
        self._number = 0

    def open(self) -> None:
        pass

    def read(self) -> Image:
        time.sleep(0.002)
        self._number += 1
        return part(self._number)

    def close(self) -> None:
        pass


def endless(name: str) -> Stream:
    """A camera that goes on until it is stopped."""
    return Stream(CameraSource(Endless, name=name), events=EventRule())


class Recorder:
    """A sink that records all it is given, in order, after `at(result)`."""

    needs_image = True

    def __init__(self, at: Callable[[Result], None] = lambda result: None) -> None:
        self.things: list[Result | Notification] = []
        self.closed: list[bool] = []
        self._at = at

    def open(self, sources: Sequence[Source], spec: Spec) -> None:
        pass

    def write(self, frame: Frame, result: Result, anomaly_map: NDArray[np.float32] | None) -> None:
        self._at(result)
        self.things.append(result)

    def notification(self, notification: Notification) -> None:
        self.things.append(notification)

    def close(self, *, complete: bool) -> None:
        self.closed.append(complete)

    @property
    def results(self) -> list[Result]:
        return [thing for thing in self.things if isinstance(thing, Result)]

    @property
    def notifications(self) -> list[Notification]:
        return [thing for thing in self.things if isinstance(thing, Notification)]

    def of(self, stream: str) -> list[Result]:
        return [result for result in self.results if result.source == stream]


class Looking:
    """An observer that looks all the time and keeps what it saw."""

    def __init__(self) -> None:
        self.views: list[View] = []
        self._over = threading.Event()

    def begin(self, look: Look) -> None:
        self.look = look
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(0.001):
            self.views.append(self.look())

    def end(self) -> None:
        self._over.set()
        self._thread.join()
        self.views.append(self.look())


class Gated(FakeSession):
    """A session that waits before each batch, and records the batches' sizes."""

    def __init__(self, wait: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self._wait = wait

    def run(self, images: NDArray[np.uint8]) -> Outputs:
        self.sizes.append(len(images))
        self._wait()
        return super().run(images)
