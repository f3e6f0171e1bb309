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

LONGEST_STILL = 2.0
"""Seconds that a video is played without a new frame; a longer gap is cut out."""


class Pace:
    """Waits until a frame is due; late ones are at once."""

    def __init__(
        self,
        longest: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`longest` is the longest wait in seconds: whoever waits longer is taken for stalled."""
        self._longest = min(LONGEST_STILL, longest)
        self._clock, self._sleep = clock, sleep
        self._began: float | None = None

    def wait_for(self, due: float) -> None:
        """Of a frame at `due` seconds since the start of the video."""
        now = self._clock()
        if self._began is None:
            self._began = now - due
        wait = self._began + due - now
        if wait > self._longest:
            self._began -= wait - self._longest
            wait = self._longest
        if wait > 0:
            self._sleep(wait)


class VideoCamera:
    """A `Camera` that gives the frames of a video when they are due."""

    def __init__(self, path: Path, longest_still: float = LONGEST_STILL) -> None:
        self._video = VideoFile(path)
        self._pace = Pace(longest_still)
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
        self._pace.wait_for(frame.time)
        return frame.image

    @property
    def note(self) -> str:
        """What may not be meant of the video, once a frame was read; or empty."""
        return self._video.doubts.in_words()

    def close(self) -> None:
        """Free the file."""
        close = getattr(getattr(self, "_frames", None), "close", None)
        if close is not None:
            close()
