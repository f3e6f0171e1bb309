"""Cameras of this machine, through OpenCV."""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray

# Before OpenCV, whose log it keeps quiet.
from generalad.preprocess import to_uint8  # isort: split

import cv2

from generalad.runtime.cameras.address import Address
from generalad.runtime.cameras.camera import CameraLost


class UsbCamera:
    """One attempt at a camera of this machine; the driver knows no timeouts."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._capture: cv2.VideoCapture | None = None

    def open(self) -> None:
        """Connect; raises CameraLost."""
        number, text = self._address.number, self._address.text
        backend = cv2.CAP_V4L2 if sys.platform.startswith("linux") else cv2.CAP_ANY
        self._capture = cv2.VideoCapture(text if number is None else number, backend)
        if not self._capture.isOpened():
            raise CameraLost("cannot be opened: no such camera, or it is in use")
        # Fewer frames in the driver are younger frames; drivers without this setting ignore it.
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)

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
