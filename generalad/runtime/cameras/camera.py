"""Cameras: what opens a live source and reads it, frame by frame, in one thread.

A camera is made anew for every attempt and blocks as long as its driver blocks; patience, new
attempts and counting are the reader's. `camera_factory` makes the right ones for an address.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from generalad.errors import require_extra
from generalad.runtime.cameras.address import Address


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


def camera_factory(address: Address, *, open_timeout: float, read_timeout: float) -> CameraFactory:
    """What makes the cameras of an address, one for each attempt; timeouts in seconds.

    Raises:
        UsageError: a `test://` address with unknown or wrong settings.
        MissingExtraError: the packages for this kind of address are not installed.
    """
    # Each kind loads its own library, and only when it is asked for.
    if address.kind == "test":
        from generalad.runtime.cameras.simulated import SimulatedSource

        return SimulatedSource.parse(address.text).camera
    if address.kind == "usb":
        from generalad.runtime.cameras.usb_camera import UsbCamera

        return lambda: UsbCamera(address)
    if address.kind == "http":
        from generalad.runtime.cameras.mjpeg import HttpCamera

        return lambda: HttpCamera(address, open_timeout=open_timeout, read_timeout=read_timeout)
    require_extra("an RTSP camera", "streams", "av")
    from generalad.runtime.cameras.av_camera import AvCamera

    return lambda: AvCamera(address, open_timeout=open_timeout, read_timeout=read_timeout)
