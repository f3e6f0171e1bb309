"""`open_live`: a live source from its address."""

from __future__ import annotations

from pathlib import Path

from generalad.errors import DataError, UsageError
from generalad.runtime.cameras.address import parse_address, refuse_settings
from generalad.runtime.cameras.camera import Settings
from generalad.runtime.cameras.camera_source import CameraSource
from generalad.runtime.cameras.video_camera import VideoCamera
from generalad.runtime.cameras.watched_folder import WatchedFolder
from generalad.runtime.names import digest
from generalad.runtime.secrets import expand
from generalad.runtime.sources import VIDEO_SUFFIXES, WATCH, LiveSource


def open_live(
    address: str,
    *,
    name: str | None = None,
    settings: Settings | None = None,
    stall_after: float = 5.0,
    state: Path | None = None,
) -> LiveSource:
    """A camera, a watched folder ("watch:FOLDER"), or a video file, which is played in real time.

    Args:
        address: see `parse_address`; with `${NAME}` or `${file:PATH}` for secrets.
        name: what results and notifications call it; None takes the address without its secrets.
        settings: of an industrial camera by their GenICam names, made whenever it is opened.
        stall_after: seconds without a frame after which a camera is opened again.
        state: folder in which a watched folder remembers what is done; None forgets.

    Raises:
        UsageError: an address of unknown form, or with wrong settings.
        DataError: a video that is not there.
        MissingExtraError: the packages for this kind of address are not installed.
    """
    if address.startswith(WATCH):
        refuse_settings(address, settings)
        folder = Path(address[len(WATCH) :])
        if not address[len(WATCH) :]:
            raise UsageError("watch: without a folder", remedy="write watch:FOLDER")
        return WatchedFolder(folder, name=name, journal=_journal(folder, state))
    path = Path(address)
    if path.suffix.lower() in VIDEO_SUFFIXES and "://" not in address:
        if not path.is_file():
            raise DataError(f"{address}: no such file", remedy="check the path")
        refuse_settings(address, settings)
        return CameraSource(
            lambda: VideoCamera(path, stall_after / 2),
            name=name or address,
            stall_after=stall_after,
        )
    # The password is not in the name, whether it was written or referred to.
    expanded = expand(address, quote=True).reveal()
    return CameraSource(
        parse_address(expanded), name=name, settings=settings, stall_after=stall_after
    )


def _journal(folder: Path, state: Path | None) -> Path | None:
    if state is None:
        return None
    return state / f"watched-{digest(str(folder.resolve()))}.jsonl"
