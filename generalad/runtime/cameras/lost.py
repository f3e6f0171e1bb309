"""What a camera raises when it has no frame to give."""

from __future__ import annotations


class DamagedFrame(Exception):
    """A frame arrived but is no whole image."""


class CameraLost(Exception):
    """A camera cannot be opened or gives no more frames; worth another attempt."""
