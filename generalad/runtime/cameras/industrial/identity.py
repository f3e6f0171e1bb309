"""`Identity`: what a camera is called by; `choose`: which camera an address means.

An address names a camera by what stays with it: serial number, user name, or network address. A
number in a list would be another camera after the next restart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from generalad.runtime.cameras.camera import CameraLost


class Identity(NamedTuple):
    """What a camera says of itself before it is opened; empty where it does not.

    Attributes:
        vendor: who made it.
        model: its type.
        serial: serial number.
        name: that its user gave it, GenICam's DeviceUserID.
        network: IP and MAC addresses.
    """

    vendor: str = ""
    model: str = ""
    serial: str = ""
    name: str = ""
    network: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """All that it can be called by, the best first."""
        return tuple(key for key in (self.serial, self.name, *self.network) if key)


def choose(key: str, cameras: Sequence[Identity]) -> int:
    """Place of the camera that is called `key`.

    Raises:
        CameraLost: none is, or several are.
    """
    wanted = key.casefold()
    for field in ("serial", "name", "network"):
        found = [
            place
            for place, camera in enumerate(cameras)
            if wanted in {text.casefold() for text in _texts(getattr(camera, field)) if text}
        ]
        if len(found) == 1:
            return found[0]
        if found:
            serials = ", ".join(cameras[place].serial or "unknown" for place in found)
            raise CameraLost(f"{len(found)} cameras are called {key!r}: serial numbers {serials}")
    there = ", ".join(camera.keys[0] for camera in cameras if camera.keys)
    raise CameraLost(f"no camera {key!r} here; there are: {there or 'none'}")


def _texts(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value
