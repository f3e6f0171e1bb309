"""`Overlays`: the images of a run with their maps over them."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

import cv2
import numpy as np
from numpy.typing import NDArray

from generalad import files
from generalad.decision import Result
from generalad.errors import GadError, StorageError
from generalad.overlay import draw
from generalad.preprocess import swap_red_and_blue
from generalad.progress import Log
from generalad.runtime.names import safe_name, utc_stamp
from generalad.runtime.sinks.bounded_folder import BoundedFolder, Bounds, FolderStatus, lock_folder
from generalad.runtime.sinks.output_paths import places_of, refuse_sources
from generalad.runtime.sinks.sink import Map
from generalad.runtime.sources import Frame, ImageFiles, LiveSource, Source
from generalad.spec import Spec

_LOCK = ".lock"
_LEFTOVER = re.compile(r"\..+\.[0-9a-f]{8}\.part(\.\w+)?")
_LEFT_AFTER = 60.0  # seconds; an overlay is written in much less

_WRITTEN = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm"))
"""Suffixes of images that overlays keep; the others become PNG."""

LIVE_KEPT = 1000
"""Overlays of each live source that are kept, the newest ones."""


class Overlays:
    """One image a frame: the original with its map over it, at the original size.

    Images keep name, suffix and place below their source; frames of a video go to a folder with
    the video's name. With several sources each folder or pattern gets a folder of its own.

    A live source always has a folder of its own, named after it, with its newest 1000 frames that
    have a score, as "20261125T071233.123Z-000000123.jpg" by UTC time and index, with the name of
    the file behind them where there is one.
    """

    needs_image = True
    alone = False
    """Whether nobody else needs the images of a run: those of files may then be drawn on."""

    def __init__(
        self,
        folder: str | Path,
        *,
        log: Log | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`log` is told of trouble with folders of live sources, see `BoundedFolder`."""
        self._folder = Path(folder)
        self._log = log
        self._clock = clock
        self._live: dict[str, BoundedFolder] = {}
        self._lock: IO[str] | None = None

    @property
    def status(self) -> Mapping[str, FolderStatus]:
        """Counts of each live source."""
        return {stream: folder.status for stream, folder in self._live.items()}

    def open(self, sources: Sequence[Source], spec: Spec) -> None:
        """Create the folder; it must not lie where images are read from."""
        self._spec = spec
        finite = [source for source in sources if not isinstance(source, LiveSource)]
        self._places = {s.address: "" for s in finite} if len(sources) == 1 else places_of(finite)
        for place in self._places.values():
            refuse_sources(self._folder / place, sources)
        files.make_folder(self._folder)
        if finite:
            self._claim()
            _remove_leftovers(self._folder)
        self._owned = {s.address for s in sources if self.alone and isinstance(s, ImageFiles)}
        self._live = {}
        try:
            for source in sources:
                if isinstance(source, LiveSource) and source.address not in self._live:
                    self._live[source.address] = self._open_live(source, sources)
        except GadError:
            self.close(complete=False)
            raise

    def _claim(self) -> None:
        """Two runs at once would overwrite each other's images."""
        try:
            self._lock = lock_folder(self._folder / _LOCK)
        except OSError as error:
            raise files.storage_error(error, self._folder) from error

    def _open_live(self, source: Source, sources: Sequence[Source]) -> BoundedFolder:
        place = self._folder / safe_name(source.address)
        refuse_sources(place, sources)
        folder = BoundedFolder(
            place,
            r"\d{8}T\d{6}\.\d{3}Z-\d+(-.*)?\.jpg",
            Bounds(number=LIVE_KEPT),
            sync=False,  # too many to wait for the disk
            log=self._log,
            clock=self._clock,
        )
        folder.open()
        return folder

    def write(self, frame: Frame, result: Result, anomaly_map: Map | None) -> None:
        """Write one image, whole or not at all."""
        if frame.image is None or anomaly_map is None:
            return
        image = draw(frame.image, anomaly_map, self._spec, own=frame.source in self._owned)
        if frame.source in self._live:
            data = encode(image, ".jpg", own=True)
            self._live[frame.source].add(_live_name(frame), lambda place: _save(place, data))
            return
        path = self._folder / self._places[frame.source] / frame.name
        if path.suffix.lower() not in _WRITTEN:
            path = path.with_name(path.name + ".png")
        with files.atomic_write(path) as temporary:
            temporary.write_bytes(_encoded(image, path.suffix, own=True).data)

    def close(self, *, complete: bool) -> None:
        """Leave the folders to others; every image is whole already."""
        if self._lock is not None:
            with contextlib.suppress(OSError):
                (self._folder / _LOCK).unlink()
            self._lock.close()
            self._lock = None
        for folder in self._live.values():
            folder.close()


def _remove_leftovers(folder: Path) -> None:
    """Remove what killed runs left half-written, unless it is so new that a run may be at it."""
    old = time.time() - _LEFT_AFTER
    for parent, _, names in os.walk(folder):
        for name in names:
            if _LEFTOVER.fullmatch(name):
                path = Path(parent, name)
                with contextlib.suppress(OSError):
                    if path.stat().st_mtime < old:
                        path.unlink()


def encode(
    image: NDArray[np.uint8], suffix: str, settings: Sequence[int] = (), *, own: bool = False
) -> bytes:
    """An RGB image (H, W, 3) as the content of a file with that suffix.

    Args:
        image: uint8.
        suffix: of the format, with its dot.
        settings: of OpenCV.
        own: whether the image may be changed; a large one is not copied then.

    Raises:
        StorageError: the format cannot hold it.
    """
    return _encoded(image, suffix, settings, own=own).tobytes()


def _encoded(
    image: NDArray[np.uint8], suffix: str, settings: Sequence[int] = (), *, own: bool = False
) -> NDArray[np.uint8]:
    """As `encode`, without one more copy."""
    try:
        bgr = swap_red_and_blue(image) if own else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        done, data = cv2.imencode(suffix, bgr, settings)
    except cv2.error:
        done = False
    if not done:
        size = f"{image.shape[1]} x {image.shape[0]}"
        raise StorageError(f"an image of {size} cannot be written as {suffix}")
    return data


def _live_name(frame: Frame) -> str:
    stem = f"-{safe_name(Path(frame.name).stem)}" if frame.path else ""
    return f"{utc_stamp(frame.time)}-{frame.index:09d}{stem}.jpg"


def _save(path: Path, data: bytes) -> None:
    path.write_bytes(data)
