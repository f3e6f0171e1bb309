"""`try_camera`: opens one camera for some seconds and says how well it works."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from generalad.errors import DataError, UsageError
from generalad.progress import Progress
from generalad.runtime.cameras.address import parse_address
from generalad.runtime.cameras.camera import Camera, Settings, TriggerFailed
from generalad.runtime.cameras.reader import Reader, camera_factory
from generalad.runtime.secrets import expand
from generalad.runtime.sources import Frame, State

_OPENING = 15.0
_NO_FRAME = 5.0


@dataclass
class Trial:
    """How well a camera worked.

    Attributes:
        address: without secrets.
        seconds: from the first frame on.
        frames: whole ones.
        dropped: others, by reason: "damaged", "lost", "without trigger".
        size: (height, width) of the last frame in pixels, None without one.
        pixel_format: by PFNC, of an industrial camera.
        trigger: "free" running, "software" or "line", of an industrial camera.
        packets: lost and resent packets, of a network camera that counts them.
        trigger_ms: from each software trigger to its picture, in milliseconds.
        failed_triggers: why triggers gave no picture, one text each.
        note: what is to be known of it: settings that it did not take as they were asked for, or
            colours of high dynamic range.
        picture: the last frame, (H, W, 3) uint8 RGB.
    """

    address: str
    seconds: float = 0.0
    frames: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    pixel_format: str | None = None
    trigger: str | None = None
    packets: tuple[int, int] | None = None
    trigger_ms: list[float] = field(default_factory=list)
    failed_triggers: list[str] = field(default_factory=list)
    note: str = ""
    picture: NDArray[np.uint8] | None = None

    @property
    def rate(self) -> float:
        """Whole frames a second."""
        return self.frames / self.seconds if self.seconds else 0.0

    def to_dict(self) -> dict[str, Any]:
        """For JSON; without the picture."""
        times = self.trigger_ms
        return {
            "address": self.address,
            "seconds": round(self.seconds, 3),
            "frames": self.frames,
            "rate": round(self.rate, 2),
            "dropped": self.dropped,
            "size": self.size,
            "pixel_format": self.pixel_format,
            "trigger": self.trigger,
            "packets": self.packets and {"lost": self.packets[0], "resent": self.packets[1]},
            "trigger_ms": {"median": statistics.median(times), "most": max(times)}
            if times
            else None,
            "failed_triggers": self.failed_triggers,
            "note": self.note,
        }


def try_camera(
    address: str,
    *,
    seconds: float = 5.0,
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> Trial:
    """Open a camera, read it for some seconds, and close it.

    A camera that is triggered by software is triggered again and again.

    Args:
        address: see `parse_address`; `${NAME}` and `${file:PATH}` stand for secrets.
        seconds: how long frames are counted.
        settings: of an industrial camera by their GenICam names.
        progress: told how much of the time is over.

    Raises:
        DataError: the camera does not open, or gives no frame.
        UsageError: an address or settings that cannot be.
        MissingExtraError: the packages for this kind of address are not installed.
    """
    if seconds <= 0:
        raise UsageError(f"expected more than 0 seconds, found {seconds:g}")
    parsed = parse_address(expand(address, quote=True).reveal())
    make = camera_factory(
        parsed, settings=settings, open_timeout=_OPENING + 1, read_timeout=_NO_FRAME + 1
    )
    cameras: list[Camera] = []

    def camera() -> Camera:
        cameras.append(make())
        return cameras[-1]

    trial = Trial(str(parsed))
    with Reader(camera, name=trial.address, stall_after=_NO_FRAME, open_timeout=_OPENING) as reader:
        _wait_until_live(reader)
        _count(reader, trial, seconds, cameras, progress)
        status = reader.status
        facts, note = getattr(cameras[-1], "facts", None), getattr(cameras[-1], "note", "")
    trial.dropped = _spoiled(status.dropped)
    trial.size = status.resolution
    if facts is not None:
        trial.pixel_format, trial.trigger = facts.pixel_format or None, facts.trigger
        trial.packets = facts.packets and tuple(facts.packets)
    trial.note = note
    return trial


def _wait_until_live(reader: Reader) -> None:
    """Raises DataError where the first attempt fails; the reason says why."""
    while True:
        status = reader.status
        if status.state is State.LIVE:
            return
        if status.state is not State.CONNECTING:
            raise DataError(
                f"{reader.name}: {status.reason}", remedy="gad cameras lists what can be opened"
            )
        time.sleep(0.01)


def _count(
    reader: Reader,
    trial: Trial,
    seconds: float,
    cameras: list[Camera],
    progress: Progress | None,
) -> None:
    began = time.monotonic()
    before = _whole(reader)
    tenths = round(seconds * 10)
    while (passed := time.monotonic() - began) < seconds and not reader.finished:
        if progress is not None:
            progress("reading", min(int(passed * 10), tenths - 1), tenths)  # ends once, below
        facts = getattr(cameras[-1], "facts", None)
        if facts is not None and facts.trigger == "software":
            frame = _trigger(reader, trial)
        else:
            frame = reader.next(timeout=0.1)
        if frame is not None:
            trial.picture = frame.image
            reader.done(frame)
    trial.seconds = time.monotonic() - began
    trial.frames = _whole(reader) - before
    if progress is not None:
        progress("reading", tenths, tenths)


def _spoiled(dropped: Mapping[str, int]) -> dict[str, int]:
    """Those that were no whole frames that somebody wanted."""
    return {why: count for why, count in dropped.items() if why not in ("newer frame", "closed")}


def _whole(reader: Reader) -> int:
    """Whole frames so far."""
    status = reader.status
    return status.captured - sum(_spoiled(status.dropped).values())


def _trigger(reader: Reader, trial: Trial) -> Frame | None:
    began = time.monotonic()
    try:
        frame = reader.trigger()
    except TriggerFailed as error:
        trial.failed_triggers.append(str(error))
        return None
    trial.trigger_ms.append((time.monotonic() - began) * 1000)
    return frame
