"""`test://` addresses: procedural parts at a chosen rate, with faults to order, without hardware.

    test://washer?rate=10&defects=0.1&size=512&seed=0&frames=0&fault=stall@20+8,black@40+5

Faults are placed in seconds since the first attempt, not since the last one: a camera that is
opened again has left its fault behind.
"""

from __future__ import annotations

import functools
import itertools
import queue
import threading
import time
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from generalad.runtime.cameras.camera import (
    CameraLost,
    DamagedFrame,
    NothingYet,
    TriggerFailed,
)
from generalad.runtime.cameras.simulated_address import Fault, FaultKind, Settings, parse_settings

_GOOD, _OF_A_DEFECT = 12, 2
"""Drawing a part takes long, so this many of each kind take turns."""

_LOOK_UP = 0.1
"""Seconds after which a camera that waits for a trigger looks whether it is still there."""


class SimulatedSource:
    """What all cameras of one `test://` address share: the time line, the count, the images.

    Each camera may live in a thread of its own, one of them hanging in an ordered stall.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.settings = settings
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._began: float | None = None
        self._count = itertools.count()
        self._due = 0.0
        self._parts = shared_parts(settings.category, settings.size, settings.seed)

    @classmethod
    def parse(cls, address: str) -> SimulatedSource:
        """From an address; raises UsageError."""
        return cls(parse_settings(address))

    def camera(self) -> SimulatedCamera:
        """A new attempt."""
        return SimulatedCamera(self)

    def now(self) -> float:
        """Seconds since the first call, on which faults are placed."""
        with self._lock:
            if self._began is None:
                self._began = self._clock()
            return self._clock() - self._began

    def fault(self, *kinds: FaultKind) -> Fault | None:
        """The one of these kinds that is on."""
        now = self.now()
        on = (f for f in self.settings.faults if f.kind in kinds and f.start <= now < f.end)
        return next(on, None)

    def sleep(self, seconds: float) -> None:
        """Sleep if there is anything left to sleep."""
        if seconds > 0:
            self._sleep(seconds)

    def wait_for_trigger(self) -> None:
        """Wait until the next frame is due; what was missed is not made up for."""
        now = self.now()
        with self._lock:
            wait = self._due - now
            self._due = max(now, self._due) + 1 / self.settings.rate
        self.sleep(wait)

    def next_index(self) -> int | None:
        """Number of the next frame; None after the last one."""
        index = next(self._count)
        return index if not 0 < self.settings.frames <= index else None

    def defect(self, index: int) -> str | None:
        """The defect that the part of a frame has."""
        from generalad.synth import CATEGORIES

        rng = np.random.default_rng([self.settings.seed, index])
        kind = str(rng.choice(CATEGORIES[self.settings.category].defects))
        return kind if rng.random() < self.settings.defects else None

    def part(self, index: int) -> NDArray[np.uint8]:
        """Image of a frame."""
        return self._parts.part(index, self.defect(index))


class SimulatedCamera:
    """One attempt at a `test://` source."""

    def __init__(self, source: SimulatedSource) -> None:
        self._source = source
        self._last: NDArray[np.uint8] | None = None
        self._asked: queue.SimpleQueue[None] = queue.SimpleQueue()

    def open(self) -> None:
        """Raises CameraLost while the fault `refuse` is on."""
        if self._source.fault("refuse"):
            raise CameraLost("cannot be opened: ordered fault")

    def read(self) -> NDArray[np.uint8] | None:
        """The next part, (size, size, 3) uint8 RGB, read only; None after the last frame."""
        source = self._source
        if source.settings.trigger == "software":
            self._wait_to_be_asked()
        source.wait_for_trigger()
        if source.fault("damaged"):
            raise DamagedFrame("not a whole image: ordered fault")
        if fault := source.fault("stall"):
            source.sleep(fault.end - source.now())
        if source.fault("disconnect"):
            raise CameraLost("the connection was lost: ordered fault")
        index = source.next_index()
        if index is None:
            return None
        if self._last is None or not source.fault("freeze"):
            self._last = source.part(index)
        image = self._last
        for kind, change in _CHANGE_IMAGES.items():
            if source.fault(kind):
                image = change(image)
        return image

    def trigger(self, timeout: float) -> None:
        """See `TriggeredCamera.trigger`; raises TriggerFailed where it runs free."""
        if self._source.settings.trigger != "software":
            raise TriggerFailed("the camera is not triggered by software: write trigger=software")
        self._asked.put(None)

    def _wait_to_be_asked(self) -> None:
        try:
            self._asked.get(timeout=_LOOK_UP)
        except queue.Empty:
            if self._source.fault("disconnect"):
                raise CameraLost("the connection was lost: ordered fault") from None
            raise NothingYet(armed=True) from None

    def close(self) -> None:
        """Nothing to free."""


class Parts:
    """The parts of one category, size and seed, each drawn when it is first asked for."""

    def __init__(self, category: str, size: int, seed: int) -> None:
        self._category = category
        self._size = size
        self._seed = seed
        self._drawing = threading.Lock()
        self._drawn: dict[tuple[str | None, int], NDArray[np.uint8]] = {}

    def part(self, index: int, defect: str | None) -> NDArray[np.uint8]:
        """Image number `index`, good or with a defect: (size, size, 3) uint8 RGB, read only."""
        key = (defect, index % (_GOOD if defect is None else _OF_A_DEFECT))
        if (part := self._drawn.get(key)) is not None:
            return part
        with self._drawing:
            if key not in self._drawn:
                self._drawn[key] = self._draw(*key)
            return self._drawn[key]

    def _draw(self, defect: str | None, variant: int) -> NDArray[np.uint8]:
        from generalad.synth import render_part  # not with the package: only tests need it

        rng = np.random.default_rng([self._seed, variant, 1])
        part, _ = render_part(self._category, rng, defect=defect, size=self._size)
        part.setflags(write=False)
        return part


@functools.lru_cache(maxsize=16)
def shared_parts(category: str, size: int, seed: int) -> Parts:
    """The same parts for all sources of a process that ask for the same."""
    return Parts(category, size, seed)


def black(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """No light."""
    return np.zeros_like(image)


def covered(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Something stands right before the lens: less light, and no shapes."""
    return (_blurred(image, image.shape[0] / 4) * 0.7).astype(np.uint8)


def defocus(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Blurred by a 64th of the side."""
    return _blurred(image, image.shape[0] / 64)


def overexposed(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Three times the light."""
    return np.minimum(image.astype(np.uint16) * 3, 255).astype(np.uint8)


def halved(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Half of the resolution."""
    return np.ascontiguousarray(image[::2, ::2])


def _blurred(image: NDArray[np.uint8], sigma: float) -> NDArray[np.uint8]:
    """In a smaller image, which shows no difference and takes next to no time."""
    height, width = image.shape[:2]
    step = max(1, int(sigma / 4))
    small = cv2.resize(image, (width // step, height // step), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / step)
    return np.asarray(cv2.resize(small, (width, height)), np.uint8)


_CHANGE_IMAGES: dict[FaultKind, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    "black": black,
    "covered": covered,
    "defocus": defocus,
    "overexposed": overexposed,
    "resolution": halved,
}
