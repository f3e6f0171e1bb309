"""`find_cameras`: which cameras there are, each with the address that opens it."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from generalad.errors import GadError
from generalad.runtime.cameras.address import INDUSTRIAL, Kind
from generalad.runtime.cameras.camera import CameraLost
from generalad.runtime.cameras.industrial.identity import Identity

_PATIENCE = 15.0
"""Seconds in which a library must say what cameras there are."""


class FoundCamera(NamedTuple):
    """A camera that can be opened.

    Attributes:
        address: how to open it.
        kind: of the address.
        identity: what it says of itself.
    """

    address: str
    kind: str
    identity: Identity


class FoundCameras(NamedTuple):
    """What `find_cameras` found.

    Attributes:
        cameras: in the order of their addresses.
        not_searched: kinds for which nothing could be searched, and why.
    """

    cameras: tuple[FoundCamera, ...]
    not_searched: dict[str, str]


def find_cameras(producers: Sequence[str | Path] = ()) -> FoundCameras:
    """Search for industrial cameras, and for those of this machine.

    Args:
        producers: GenTL producers (.cti) beside those of the environment's GENICAM_GENTL64_PATH.
    """
    cameras: list[FoundCamera] = [*_video_devices()]
    not_searched: dict[str, str] = {}
    for kind in INDUSTRIAL:
        try:
            cameras += _in_time(lambda kind=kind: _search(kind, producers))  # type: ignore[misc]
        except GadError as error:
            not_searched[kind] = str(error)
        except Exception as error:  # of a library
            not_searched[kind] = " ".join(str(error).split()) or type(error).__name__
    return FoundCameras(tuple(sorted(cameras)), not_searched)


def _search(kind: Kind, producers: Sequence[str | Path]) -> list[FoundCamera]:
    """Those of one library."""
    from generalad.runtime.cameras.industrial.open import listed

    found = listed(kind, [str(Path(producer).resolve()) for producer in producers])
    keys = [key for identity, _ in found for key in identity.keys]
    return [
        # The first key that no other camera has: simulators share their serial number.
        FoundCamera(
            f"{kind}:{quote(min(identity.keys, key=keys.count), safe=':')}{rest}", kind, identity
        )
        for identity, rest in found
        if identity.keys
    ]


def _in_time(search: Callable[[], list[FoundCamera]]) -> list[FoundCamera]:
    """What a search finds, which may hang in a driver."""
    answer: queue.SimpleQueue[list[FoundCamera] | Exception] = queue.SimpleQueue()

    def run() -> None:
        try:
            answer.put(search())
        except Exception as error:
            answer.put(error)

    threading.Thread(target=run, name="gad-search", daemon=True).start()
    try:
        found = answer.get(timeout=_PATIENCE)
    except queue.Empty:
        raise CameraLost(f"no answer within {_PATIENCE:g} s") from None
    if isinstance(found, Exception):
        raise found
    return found


def _video_devices() -> list[FoundCamera]:
    """V4L2 cameras, by a path that does not depend on the order in which they were plugged in."""
    if not sys.platform.startswith("linux"):
        return []
    stable = {path.resolve(): path for path in sorted(Path("/dev/v4l/by-id").glob("*"))}
    found = []
    for folder in sorted(Path("/sys/class/video4linux").glob("video*")):
        try:
            if (folder / "index").read_text().strip() != "0":
                continue  # of metadata, not of images
            model = (folder / "name").read_text().strip()
        except OSError:
            continue
        device = Path("/dev", folder.name)
        address = str(stable.get(device.resolve(), device))
        found.append(FoundCamera(address, "usb", Identity(model=model)))
    return found
