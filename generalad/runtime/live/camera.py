"""Cameras: what opens a live source and reads it, frame by frame, in one thread.

A camera is made anew for every attempt and blocks as long as its driver blocks; patience, new
attempts and counting are the reader's. `camera_factory` makes the right ones for an address.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

# Before OpenCV, whose log it keeps quiet: FFmpeg would print addresses with their passwords.
from generalad.preprocess import to_uint8  # isort: split

import cv2

from generalad.runtime.live.address import Address
from generalad.runtime.live.lost import CameraLost
from generalad.runtime.live.rtsp import check_answers, refusal


class Camera(Protocol):
    """One attempt at a live source. Used by one thread only, which also closes it."""

    def open(self) -> None:
        """Connect.

        Raises:
            UsageError: it can never work, so that no further attempt is made.
            Exception: everything else is worth another attempt; the message is the reason shown.
        """

    def read(self) -> NDArray[np.uint8] | None:
        """Wait for the next frame.

        Returns:
            (H, W, 3) uint8 RGB, not changed afterwards; None at the true end of the source. A
            network stream that breaks off has not come to its end, it raises.

        Raises:
            DamagedFrame: this frame cannot be used, the next one may be.
            Exception: the connection is lost; the message is the reason shown.
        """

    def close(self) -> None:
        """Free everything; called once, also after a failed `open`."""


CameraFactory = Callable[[], Camera]


# OpenCV opens one network stream at a time, the others wait without a limit. Waiting here instead
# has a limit and a reason, and leaves no thread behind in the driver.
_OPENING = threading.Lock()


class OpenCvCamera:
    """RTSP and other network streams through FFmpeg, and cameras of this machine."""

    def __init__(self, address: Address, *, open_timeout: float, read_timeout: float) -> None:
        """Timeouts in seconds are the driver's; not every driver keeps them."""
        self._address = address
        self._open_timeout = open_timeout
        self._timeouts = [
            int(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC),
            int(open_timeout * 1000),
            int(cv2.CAP_PROP_READ_TIMEOUT_MSEC),
            int(read_timeout * 1000),
        ]
        self._capture: cv2.VideoCapture | None = None

    def open(self) -> None:
        """Connect; raises CameraLost."""
        usb, rtsp = self._address.kind == "usb", self._address.kind == "rtsp"
        if rtsp:
            check_answers(self._address, self._open_timeout)
        self._capture = self._open_usb() if usb else self._open_stream()
        if not self._capture.isOpened():
            why = "no such camera, or it is in use" if usb else "refused, or no video in it"
            why = refusal(self._address, self._open_timeout) if rtsp else why
            raise CameraLost(f"cannot be opened: {why}")
        # Fewer frames in the driver are younger frames; drivers without this setting ignore it.
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)

    def _open_stream(self) -> cv2.VideoCapture:
        if not _OPENING.acquire(timeout=self._open_timeout / 2):
            raise CameraLost("cannot be opened: another camera keeps the driver busy")
        try:
            return cv2.VideoCapture(self._address.text, cv2.CAP_FFMPEG, self._timeouts)
        finally:
            _OPENING.release()

    def _open_usb(self) -> cv2.VideoCapture:
        number, text = self._address.number, self._address.text
        backend = cv2.CAP_V4L2 if sys.platform.startswith("linux") else cv2.CAP_ANY
        return cv2.VideoCapture(text if number is None else number, backend)

    def read(self) -> NDArray[np.uint8]:
        """The next frame, (H, W, 3) uint8 RGB of the size it has; raises CameraLost."""
        assert self._capture is not None, "not open"
        read, image = self._capture.read()
        if not read or image is None:
            raise CameraLost("the connection was lost")
        code = cv2.COLOR_GRAY2RGB if image.ndim == 2 else cv2.COLOR_BGR2RGB
        return to_uint8(cv2.cvtColor(image, code), name="frame")

    def close(self) -> None:
        """Disconnect."""
        if self._capture is not None:
            self._capture.release()


def camera_factory(address: Address, *, open_timeout: float, read_timeout: float) -> CameraFactory:
    """What makes the cameras of an address, one for each attempt.

    Raises:
        UsageError: a `test://` address with unknown or wrong settings.
    """
    from generalad.runtime.live.mjpeg import HttpCamera
    from generalad.runtime.live.trial import TestSource

    if address.kind == "test":
        return TestSource.parse(address.text).camera
    kind = HttpCamera if address.kind == "http" else OpenCvCamera
    return lambda: kind(address, open_timeout=open_timeout, read_timeout=read_timeout)
