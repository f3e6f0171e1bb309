"""`test://` addresses: procedural parts at a chosen rate, with faults to order, without hardware.

    test://washer?rate=10&defects=0.1&size=512&seed=0&frames=0&fault=stall@20+8,black@40+5

Faults are placed in seconds since the first attempt, not since the last one: a camera that is
opened again has left its fault behind.
"""

from __future__ import annotations

import itertools
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args
from urllib.parse import parse_qsl

import numpy as np
from numpy.typing import NDArray

from generalad.errors import UsageError
from generalad.runtime.live.lost import CameraLost

FaultKind = Literal["freeze", "black", "stall", "disconnect", "resolution", "refuse"]
"""freeze: the same picture again; black: no light; stall: reading blocks; disconnect: reading
fails; resolution: half of it; refuse: opening fails."""

_FORM = "test://washer?rate=10&defects=0.1&size=512&seed=0&frames=0&fault=stall@20+8"
_FAULT = re.compile(r"([a-z]+)@(\d+(?:\.\d+)?)\+(\d+(?:\.\d+)?)")
_GOOD_PARTS, _DEFECTS_OF_A_KIND = 12, 2


@dataclass(frozen=True)
class Fault:
    """A fault from `start` to `end`, in seconds since the first attempt."""

    kind: FaultKind
    start: float
    end: float


@dataclass(frozen=True)
class Settings:
    """What a `test://` address asks for.

    Attributes:
        category: from `generalad.data.synth.CATEGORIES`.
        rate: frames a second, above 0.
        defects: share of parts with a defect, 0...1.
        size: side of the pictures in pixels.
        seed: decides all pictures and defects.
        frames: ends after so many; 0 never ends.
        faults: by time.
    """

    category: str
    rate: float = 10.0
    defects: float = 0.1
    size: int = 512
    seed: int = 0
    frames: int = 0
    faults: tuple[Fault, ...] = ()


def parse_settings(address: str) -> Settings:
    """Read a `test://` address.

    Raises:
        UsageError: an unknown category or setting, or a value out of range.
    """
    from generalad.data.synth import CATEGORIES  # not with the package: only tests need it

    category, _, query = address.partition("://")[2].partition("?")
    category = category.rstrip("/")
    if category not in CATEGORIES:
        raise UsageError(
            f"{address}: unknown category {category!r}",
            remedy=f"choose from {', '.join(CATEGORIES)}",
        )
    # In a query "+" would be a space, here it separates start and duration.
    pairs = parse_qsl(query.replace("+", "%2B"), keep_blank_values=True)
    values = dict(pairs)
    faults = tuple(
        _fault(item) for name, text in pairs if name == "fault" for item in text.split(",")
    )
    values.pop("fault", None)
    try:
        settings = Settings(
            category,
            rate=float(values.pop("rate", 10.0)),
            defects=float(values.pop("defects", 0.1)),
            size=int(values.pop("size", 512)),
            seed=int(values.pop("seed", 0)),
            frames=int(values.pop("frames", 0)),
            faults=faults,
        )
    except ValueError as error:
        raise UsageError(f"{address}: {error}", remedy=f"write it as {_FORM}") from None
    if values:
        raise UsageError(f"{address}: unknown setting {min(values)!r}", remedy=f"as in {_FORM}")
    if not (
        0 < settings.rate <= 1000
        and 0 <= settings.defects <= 1
        and 32 <= settings.size <= 8192
        and settings.seed >= 0
        and settings.frames >= 0
    ):
        raise UsageError(
            f"{address}: expected rate above 0 to 1000, defects 0...1, size 32...8192, seed and "
            "frames at least 0"
        )
    return settings


def _fault(text: str) -> Fault:
    match = _FAULT.fullmatch(text)
    kinds = get_args(FaultKind)
    if match is None or match[1] not in kinds:
        raise UsageError(
            f"fault {text!r}: expected KIND@SECONDS+DURATION",
            remedy=f"such as stall@20+8; kinds: {', '.join(kinds)}",
        )
    start, duration = float(match[2]), float(match[3])
    kind: FaultKind = match[1]  # type: ignore[assignment]  # checked above
    return Fault(kind, start, start + duration)


class TestSource:
    """What all cameras of one `test://` address share: the time line, the count, the pictures.

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
        self._parts: dict[tuple[str | None, int], NDArray[np.uint8]] = {}

    @classmethod
    def parse(cls, address: str) -> TestSource:
        """From an address; raises UsageError."""
        return cls(parse_settings(address))

    def camera(self) -> TestCamera:
        """A new attempt."""
        return TestCamera(self)

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
        from generalad.data.synth import CATEGORIES

        rng = np.random.default_rng([self.settings.seed, index])
        kind = str(rng.choice(CATEGORIES[self.settings.category].defects))
        return kind if rng.random() < self.settings.defects else None

    def part(self, index: int) -> NDArray[np.uint8]:
        """Picture of a frame; drawing one takes long, so a fixed number of them takes turns."""
        from generalad.data.synth import render_part

        defect = self.defect(index)
        variant = index % (_GOOD_PARTS if defect is None else _DEFECTS_OF_A_KIND)
        with self._lock:
            part = self._parts.get((defect, variant))
        if part is None:
            rng = np.random.default_rng([self.settings.seed, variant, 1])
            part, _ = render_part(
                self.settings.category, rng, defect=defect, size=self.settings.size
            )
            part.setflags(write=False)
            with self._lock:
                self._parts[defect, variant] = part
        return part


class TestCamera:
    """One attempt at a `test://` source."""

    __test__ = False

    def __init__(self, source: TestSource) -> None:
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
        if source.fault("black"):
            image = np.zeros_like(image)
        if source.fault("resolution"):
            image = np.ascontiguousarray(image[::2, ::2])
        return image

    def close(self) -> None:
        """Nothing to free."""
