"""`EventFolder`: one folder for each event, with what a person needs to judge it.

20261125T071233.123Z-3f9a2c81-line-1/    begin (UTC) and id of the event, name of the stream
    event.json     the notification of its end
    peak.png       the image at its peak, as the camera gave it, without loss
    overlay.jpg    the same with the anomaly map over it
    map.npy        the map: (h, w) float32, raw
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from generalad import files
from generalad.decision import Result
from generalad.overlay import draw
from generalad.progress import Log
from generalad.runtime.names import safe_name, utc_stamp
from generalad.runtime.notification import Notification
from generalad.runtime.sinks.bounded_folder import BoundedFolder, Bounds, FolderStatus
from generalad.runtime.sinks.output_paths import refuse_sources
from generalad.runtime.sinks.overlays import encode
from generalad.runtime.sources import Frame, Source
from generalad.spec import Spec

_NAMES = r"\d{8}T\d{6}\.\d{3}Z-[0-9a-f]{8}-.*"


class EventFolder:
    """A sink that keeps the events, each whole or not at all, also after a power failure.

    The oldest go first when the bounds are reached; other files in the folder are left alone. A
    full disk makes no room by itself: what is over cannot be kept, is counted, and the next event
    tries again.
    """

    needs_image = True

    def __init__(
        self,
        folder: str | Path,
        *,
        max_bytes: int | None = 1_000_000_000,
        max_age: float | None = None,
        log: Log | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Nothing is touched before `open`.

        Args:
            folder: is made if it is not there.
            max_bytes: of all events together; None does not bound.
            max_age: seconds that an event is kept; None is for ever.
            log: told in one line of what goes wrong, see `BoundedFolder`.
            clock: seconds since 1970, for tests.

        Raises:
            UsageError: a bound is not above 0.
        """
        bounds = Bounds(bytes=max_bytes, age=max_age)
        self._folder = BoundedFolder(Path(folder), _NAMES, bounds, log=log, clock=clock)

    @property
    def status(self) -> FolderStatus:
        """Events kept, removed and not kept."""
        return self._folder.status

    def open(self, sources: Sequence[Source], spec: Spec) -> None:
        """Take the folder over.

        Raises:
            StorageError: it cannot be written.
            UsageError: another process has it, or images are read there.
        """
        self._spec = spec
        refuse_sources(self._folder.path, sources)
        self._folder.open()

    def write(self, frame: Frame, result: Result, anomaly_map: NDArray[np.float32] | None) -> None:
        """Remove what has become too old; single frames are not kept."""
        self._folder.expire()

    def notification(self, notification: Notification) -> None:
        """Keep an event when it ends, and a part that is rejected."""
        if notification.kind == "event" and notification.data["phase"] == "end":
            id = str(notification.data["event"])
        elif notification.kind == "verdict" and notification.evidence is not None:
            id = f"{utc_stamp(notification.time)}-{notification.data['verdict']:08x}"
        else:
            return
        name = f"{id}-{safe_name(notification.stream)}"
        self._folder.add(name, lambda place: self._write(place, notification))

    def close(self, *, complete: bool) -> None:
        """Leave the folder to others; every event in it is whole already."""
        self._folder.close()

    def _write(self, place: Path, notification: Notification) -> None:
        place.mkdir()
        files.write_json(place / "event.json", notification.to_dict())
        if notification.evidence is None:
            return
        image, anomaly_map = notification.evidence.image, notification.evidence.anomaly_map
        (place / "peak.png").write_bytes(encode(image, ".png"))
        marked = draw(image, anomaly_map, self._spec)
        (place / "overlay.jpg").write_bytes(encode(marked, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, 90]))
        np.save(place / "map.npy", anomaly_map, allow_pickle=False)
