"""What tests of sinks share: live sources, frames, results, notifications, a clock, small disk."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from generalad.decision import Milliseconds, Result
from generalad.runtime.backends.fake import fake_spec
from generalad.runtime.cameras import Status
from generalad.runtime.notification import Evidence, Notification
from generalad.runtime.sinks.sink import Sink
from generalad.runtime.sources import Frame, Source

START = 1_764_000_000.0
SPEC = fake_spec()
Image = NDArray[np.uint8]


class LiveSource:
    """A stream that only has a name, and perhaps a folder."""

    def __init__(self, address: str = "line-1", folder: Path | None = None) -> None:
        self.address = address
        self.folder = folder

    def count(self) -> int | None:
        return None

    def __iter__(self) -> Iterator[Frame]:
        return iter(())

    def read(self) -> Iterator[Frame | Notification]:
        return iter(())

    def done(self, frame: Frame, *, dropped: str | None = None) -> None:
        pass

    def status(self) -> Status:
        raise NotImplementedError

    def stop(self) -> None:
        pass


class Moment:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


def noise(seed: int, size: tuple[int, int] = (48, 64)) -> Image:
    """An image that no format makes small."""
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def scored(
    index: int,
    *,
    stream: str = "line-1",
    time: float | None = None,
    path: str = "",
    anomalous: bool = False,
    image: Image | None = None,
) -> tuple[Frame, Result, NDArray[np.float32]]:
    """What a sink gets for one frame of a live stream."""
    time = START + index if time is None else time
    image = np.full((48, 64, 3), 30, np.uint8) if image is None else image
    frame = Frame(stream, index, time, path, path or f"{index:09d}.jpg", image)
    level = 0.9 if anomalous else 0.1
    result = Result(stream, index, time, path, level, level, anomalous, (), Milliseconds())
    return frame, result, np.full((16, 16), level, np.float32)


def faulty(index: int, *, stream: str = "line-1") -> tuple[Frame, Result, None]:
    """The same for a frame that was not scored because of a camera fault."""
    frame, _, _ = scored(index, stream=stream)
    times = Milliseconds()
    return frame, Result(
        stream, index, frame.time, "", None, None, None, (), times, fault="black"
    ), None  # fmt: skip


def event_end(number: int, image: Image | None = None, *, stream: str = "line-1") -> Notification:
    """The end of an event; the image is about 9 kB as PNG."""
    event = f"20261125T07{number // 60:02d}{number % 60:02d}.000Z-{number:08x}"
    image = noise(number) if image is None else image
    evidence = Evidence(image, np.full((16, 16), number, np.float32))
    data = {"phase": "end", "event": event, "begin": START, "ended_by": "normal"}
    return Notification("event", stream, START + number, data, evidence)


def opened(sink: Sink, *sources: Source) -> Sink:
    """The sink, open for a run of these sources, one live stream if there are none."""
    sink.open(sources or [LiveSource()], SPEC)
    _OPENED.append(sink)
    return sink


_OPENED: list[Sink] = []


def close_opened() -> None:
    """Close what `opened` has opened and nobody has closed; twice is fine."""
    while _OPENED:
        _OPENED.pop().close(complete=True)


def names(folder: Path) -> list[str]:
    """What lies in a folder, hidden things too, without the lock."""
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def tree(folder: Path) -> list[str]:
    """The same with everything below it."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    )


@contextlib.contextmanager
def small_disk(place: Path, size: str = "1m") -> Iterator[Path]:
    """A file system of its own, or the test is skipped."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    if sys.platform == "win32" or os.geteuid() != 0 or _fails(mount):
        pytest.skip("needs root to mount a small file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def _fails(command: Sequence[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode != 0
