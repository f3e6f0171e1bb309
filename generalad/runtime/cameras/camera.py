"""`Camera`: what opens a live source and reads it, frame by frame, in one thread.

A camera is made anew for every attempt and blocks as long as its driver blocks; timeouts, new
attempts and counting are the reader's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class DamagedFrame(Exception):
    """A frame arrived but is no whole image."""


class CameraLost(Exception):
    """A camera cannot be opened or gives no more frames; worth another attempt."""


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
