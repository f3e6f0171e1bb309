"""`Samples`: recent images of every stream, for a person to look through and calibrate with.

    line-1/20261125T071233.123Z-000000123-normal.png       UTC time, index of the frame, decision
    line-1/20261125T071333.170Z-000000723-anomalous.png

One is taken every so often *whatever the decision was*, and the operator removes the real defects.
Good parts that were called anomalous must stay: a threshold that is set from images below the old
one can only sink, and the false-alarm rate it promises would be wrong.

PNG, because JPEG moves scores: measured on demo parts (256 x 256, 40 good images each), quality
95 moved single scores by up to 13 % (washer) and 22 % (fabric) of the distance from a typical good
image to the threshold, and quality 100 without colour subsampling still by 4 % and 10 %.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from generalad.decision import Result
from generalad.errors import GadError, UsageError
from generalad.progress import Log
from generalad.runtime.names import safe_name, utc_stamp
from generalad.runtime.sinks.bounded_folder import BoundedFolder, Bounds, FolderStatus
from generalad.runtime.sinks.output_paths import refuse_sources
from generalad.runtime.sinks.overlays import encode
from generalad.runtime.sources import Frame, Source
from generalad.spec import Spec

_NAMES = r"\d{8}T\d{6}\.\d{3}Z-\d+-(normal|anomalous)\.png"


class Samples:
    """A sink that keeps the last images with a score, in a folder for each stream."""

    needs_image = True

    def __init__(
        self,
        folder: str | Path,
        *,
        keep: int = 200,
        every: float = 60.0,
        log: Log | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Nothing is touched before `open`.

        Args:
            folder: is made if it is not there.
            keep: images of each stream; a false-alarm rate of 1 % needs at least 99 to be
                promised.
            every: seconds between two of them, on the clock of `Frame.time`; 0 takes each frame.
            log: told in one line of what goes wrong, see `BoundedFolder`.
            clock: seconds since 1970, for tests.

        Raises:
            UsageError: a number is out of range.
        """
        if every < 0:
            raise UsageError(f"every: expected seconds, 0 or more, found {every}")
        self._path = Path(folder)
        self._bounds = Bounds(number=keep)
        self._every = every
        self._log = log
        self._clock = clock
        self._folders: dict[str, BoundedFolder] = {}
        self._last: dict[str, float] = {}

    @property
    def status(self) -> Mapping[str, FolderStatus]:
        """Counts of each stream."""
        return {stream: folder.status for stream, folder in self._folders.items()}

    def open(self, sources: Sequence[Source], spec: Spec) -> None:
        """Take the folders over.

        Raises:
            StorageError: one cannot be written.
            UsageError: another process has one, or images are read there.
        """
        refuse_sources(self._path, sources)
        self._folders = {}
        try:
            for stream in dict.fromkeys(source.address for source in sources):
                path = self._path / safe_name(stream)
                folder = BoundedFolder(path, _NAMES, self._bounds, log=self._log, clock=self._clock)
                folder.open()
                self._folders[stream] = folder
        except GadError:
            self.close(complete=False)
            raise

    def write(self, frame: Frame, result: Result, anomaly_map: NDArray[np.float32] | None) -> None:
        """Keep the image if one is due."""
        image, last = frame.image, self._last.get(frame.source)
        # What lies beyond all calibration images cannot be calibrated on.
        if image is None or result.score is None or result.fault is not None:
            return
        # A clock that was set back must not stop the samples until it has caught up.
        if last is not None and 0 <= frame.time - last < self._every:
            return
        self._last[frame.source] = frame.time
        decision = "anomalous" if result.anomalous else "normal"
        name = f"{utc_stamp(frame.time)}-{frame.index:09d}-{decision}.png"
        self._folders[frame.source].add(name, lambda p: _save(p, image))

    def close(self, *, complete: bool) -> None:
        """Leave the folders to others; every image in them is whole already."""
        for folder in self._folders.values():
            folder.close()


def _save(path: Path, image: NDArray[np.uint8]) -> None:
    path.write_bytes(encode(image, ".png"))
