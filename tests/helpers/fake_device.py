"""A camera that is made of Python: its plug, its features, and the frames that it sends."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from generalad.runtime.cameras.camera import CameraLost, Value
from generalad.runtime.cameras.industrial.device import Buffer, Feature, Packets
from generalad.runtime.cameras.industrial.industrial_camera import IndustrialCamera

MONO8 = 0x01080001
SIZE = (4, 6)


def buffer(value: int = 9, **changes: Any) -> Buffer:
    """An even frame of Mono8, (4, 6) pixels."""
    data = np.full(SIZE[0] * SIZE[1], value, np.uint8)
    return Buffer(data, SIZE[1], SIZE[0], MONO8)._replace(**changes)


class FakeCamera:
    """The camera itself; what is set stays set until it loses its power."""

    def __init__(self, **features: Feature) -> None:
        self.factory = {"PixelFormat": Feature("choice", "Mono8", choices=("Mono8",)), **features}
        self.features = dict(self.factory)
        self.made: list[tuple[str, Value]] = []
        self.refuses: dict[str, str] = {}
        self.rounds: dict[str, Value] = {}
        self.sent: deque[Buffer] = deque()
        self.answers: deque[list[Buffer]] = deque()
        self.changed = threading.Condition()
        self.plugged = True
        self.running = False
        self.starts = 0
        self.opened = 0
        self.closed = 0

    @classmethod
    def triggered(cls, source: str = "Software") -> FakeCamera:
        return cls(
            TriggerMode=Feature("choice", "On", choices=("Off", "On")),
            TriggerSource=Feature("choice", source, choices=("Software", "Line1")),
        )

    def send(self, *buffers: Buffer) -> None:
        with self.changed:
            self.sent.extend(buffers)
            self.changed.notify_all()

    def answer(self, *buffers: Buffer) -> None:
        """What comes after the next software trigger."""
        with self.changed:
            self.answers.append(list(buffers))

    def unplug(self) -> None:
        """Without power, it forgets what it was set to."""
        with self.changed:
            self.plugged, self.features = False, dict(self.factory)
            self.changed.notify_all()

    def plug(self) -> None:
        self.plugged = True

    def __call__(self) -> IndustrialCamera:
        """A new attempt without settings."""
        return IndustrialCamera(FakeDevice(self))


class FakeDevice:
    """One connection to a `FakeCamera`."""

    def __init__(self, camera: FakeCamera) -> None:
        self._camera = camera

    def open(self) -> None:
        self.check()
        self._camera.opened += 1

    def feature(self, name: str) -> Feature | None:
        self.check()
        return self._camera.features.get(name)

    def names(self) -> Sequence[str]:
        return tuple(self._camera.features)

    def set(self, name: str, value: Value) -> None:
        self.check()
        if name in self._camera.refuses:
            raise RuntimeError(self._camera.refuses[name])
        self._camera.made.append((name, value))
        value = self._camera.rounds.get(name, value)
        self._camera.features[name] = self._camera.features[name]._replace(value=value)

    def execute(self, name: str) -> None:
        self.check()
        if name in self._camera.refuses:
            raise RuntimeError(self._camera.refuses[name])
        self._camera.made.append((name, True))
        if name == "TriggerSoftware" and self._camera.answers:
            self._camera.send(*self._camera.answers.popleft())

    def start(self) -> None:
        self.check()
        self._camera.running = True
        self._camera.starts += 1

    def fetch(self, timeout: float) -> Buffer | None:
        camera = self._camera
        assert camera.running, "fetched while stopped"
        with camera.changed:
            camera.changed.wait_for(lambda: camera.sent or not camera.plugged, timeout)
            return camera.sent.popleft() if camera.sent and camera.plugged else None

    def stop(self) -> None:
        self._camera.running = False
        self._camera.sent.clear()

    def check(self) -> None:
        if not self._camera.plugged:
            raise CameraLost("the camera does not answer")

    def packets(self) -> Packets | None:
        return Packets(lost=3, resent=2)

    def close(self) -> None:
        self._camera.closed += 1
