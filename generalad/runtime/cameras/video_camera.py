"""`VideoCamera`: a video file that is played like a camera, at its own rate."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from generalad.errors import UsageError
from generalad.runtime.cameras.camera import DamagedFrame
from generalad.runtime.sources import Frame
from generalad.runtime.videos.video_file import VideoFile


class VideoCamera:
    """A `Camera` that gives the frames of a video when they are due; late ones at once."""

    def __init__(
        self,
        path: Path,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._video = VideoFile(path)
        self._clock = clock
        self._sleep = sleep
        self._began: float | None = None
        self._next: Frame | None = None

    def open(self) -> None:
        """Begin to play."""
        self._frames: Iterator[Frame] = iter(self._video)

    def read(self) -> NDArray[np.uint8] | None:
        """The next frame, (H, W, 3) uint8 RGB; None at the end.

        Raises:
            DamagedFrame: this one is, and others follow.
            UsageError: not a video, or cut off; another attempt would end at the same place.
        """
        frame = self._next or next(self._frames, None)
        self._next = None
        if frame is None:
            return None
        if frame.image is None:
            self._next = next(self._frames, None)
            if self._next is not None:
                raise DamagedFrame(frame.error or "no image")
            raise UsageError(frame.error or "no image")
        now = self._clock()
        if self._began is None:
            self._began = now - frame.time
        wait = self._began + frame.time - now
        if wait > 0:
            self._sleep(wait)
        return frame.image

    def close(self) -> None:
        """Free the file."""
        close = getattr(getattr(self, "_frames", None), "close", None)
        if close is not None:
            close()
