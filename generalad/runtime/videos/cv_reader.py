"""A video file through OpenCV, where PyAV is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from generalad.image_formats.accept import check_size
from generalad.image_formats.header import Header
from generalad.runtime.videos.colours import are_unusual
from generalad.runtime.videos.interlaced import may_be_interlaced
from generalad.runtime.videos.orientation import orientation_of
from generalad.runtime.videos.presentation import TurnedUnknown, upright
from generalad.runtime.videos.structure import count_videos


class CvReader:
    """One pass over a video, turned upright as its container says.

    Raises OSError where it is none, DataError where its frames are too large, TurnedUnknown where
    only PyAV knows how it is to be shown.
    """

    shown = 0.0
    exact = False
    transfer = 0

    def __init__(self, path: Path) -> None:
        self._capture = cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise OSError("no video in it")
        width, height = (
            int(self._capture.get(name))
            for name in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        )
        if width > 0 and height > 0:
            check_size(Header("video", width, height), str(path))
        codec = int(self._capture.get(cv2.CAP_PROP_FOURCC)) & 0xFFFFFFFF
        try:
            if may_be_interlaced(path, codec.to_bytes(4, "little").lower()):
                raise ValueError("interlaced, or it may be")
            if are_unusual(path):
                raise ValueError("of wide colours or a high dynamic range")
            orientation = orientation_of(path)
        except ValueError as error:
            self.close()
            raise TurnedUnknown(str(error)) from error
        # OpenCV turns a mirrored video as if it were turned by half.
        if orientation.known:
            self._capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
        self._matrix = orientation.matrix
        self.others = max(0, count_videos(path) - 1)

    @property
    def rate(self) -> float:
        """Frames a second on average; 0 where the container does not say."""
        return float(self._capture.get(cv2.CAP_PROP_FPS))

    @property
    def duration(self) -> float:
        """Seconds that the container says, 0 where it does not."""
        return self.count / self.rate if self.rate > 0 else 0.0

    @property
    def count(self) -> int:
        """Frames that the container says, or their number by its duration."""
        return max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    def frames(self) -> Iterator[tuple[float | None, NDArray[np.uint8] | None]]:
        """Presentation stamps in seconds, and images (H, W, 3) RGB in the order of showing."""
        last, unknown = -1.0, 0
        period = 1 / self.rate if self.rate > 0 else 0.0
        while True:
            read, image = self._capture.read()
            if not read:
                return
            found = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            # It stays at 0 where it is not known or below 0; what follows is later by as much.
            unknown += found <= last
            stamp = found + unknown * period if found > last else None
            last = found
            rgb = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
            yield stamp, upright(rgb, self._matrix)

    def close(self) -> None:
        """Free the file."""
        self._capture.release()
