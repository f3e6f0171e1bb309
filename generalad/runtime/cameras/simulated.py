"""`test://` addresses: procedural parts at a chosen rate, with faults to order, without hardware.

    test://washer?rate=10&defects=0.1&size=512&seed=0&frames=0&fault=stall@20+8,black@40+5

Faults are placed in seconds since the first attempt, not since the last one: a camera that is
opened again has left its fault behind.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from generalad.runtime.cameras import simulated_images
from generalad.runtime.cameras.lost import CameraLost
from generalad.runtime.cameras.simulated_address import Fault, FaultKind, Settings, parse_settings

_CHANGE_IMAGES: dict[FaultKind, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    "black": simulated_images.black,
    "covered": simulated_images.covered,
    "defocus": simulated_images.defocus,
    "overexposed": simulated_images.overexposed,
    "resolution": simulated_images.halved,
}


class SimulatedSource:
    """What all cameras of one `test://` address share: the time line, the count, the images.

    Each camera may live in a thread of its own, one of them hanging in an ordered stall.
    """

    __test__ = False  # not for pytest, whatever its name

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
        self._parts = simulated_images.shared_parts(settings.category, settings.size, settings.seed)

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

    __test__ = False

    def __init__(self, source: SimulatedSource) -> None:
        self._source = source
        self._last: NDArray[np.uint8] | None = None

    def open(self) -> None:
        """Raises CameraLost while the fault `refuse` is on."""
        if self._source.fault("refuse"):
            raise CameraLost("cannot be opened: ordered fault")

    def read(self) -> NDArray[np.uint8] | None:
        """The next part, (size, size, 3) uint8 RGB, read only; None after the last frame."""
        source = self._source
        source.wait_for_trigger()
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

    def close(self) -> None:
        """Nothing to free."""
