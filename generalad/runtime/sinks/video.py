"""`AnnotatedVideo`: the frames of one source with their maps over them, as a video."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from io import FileIO
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from generalad import files
from generalad.decision import Result
from generalad.errors import StorageError, UsageError
from generalad.overlay import draw
from generalad.progress import Log, no_log
from generalad.runtime.sinks.sink import Map
from generalad.runtime.sinks.text_files import part_of, rename_part
from generalad.runtime.sources import Frame, LiveSource, Source
from generalad.spec import Spec

LIVE_SECONDS = 3600
"""Length at which the recording of a live source ends, so that it cannot fill the disk."""

_LONGEST_STILL = 2.0  # seconds; a longer gap in a live source is cut out


class AnnotatedVideo:
    """The frames of one source with their maps over them, as .mp4 or .avi.

    A video keeps its rate and its frames. A live source is recorded in real time at the rate that
    is stated: frames are left out, or shown until the next one, to fit; gaps of more than two
    seconds are cut out, another resolution is scaled to the first one, and the recording ends after
    an hour.
    """

    needs_image = True

    def __init__(
        self, target: str | Path, *, rate: float | None = None, log: Log | None = None
    ) -> None:
        """Nothing is touched before `open`.

        Args:
            target: the file, which ends in .mp4 or .avi.
            rate: frames a second, for a live source; a video has its own.
            log: told in one line when the recording of a live source ends by itself.

        Raises:
            UsageError: the rate is out of range.
        """
        if rate is not None and not 0 < rate <= 1000:
            raise UsageError(f"rate: expected frames a second, up to 1000, found {rate}")
        self._path = Path(target)
        self._rate = rate
        self._log = log or no_log
        self._writer: cv2.VideoWriter | None = None
        self._frames = 0
        self._done = False
        self._claim: FileIO | None = None
        self._last: cv2.typing.MatLike = np.empty(0)

    def open(self, sources: Sequence[Source], spec: Spec) -> None:
        """Check the name and the source; the file begins with the first frame."""
        if self._path.suffix.lower() not in (".mp4", ".avi"):
            raise UsageError(f"{self._path}: expected a name that ends in .mp4 or .avi")
        if len(sources) != 1:
            raise UsageError(
                f"an annotated video needs one source, found {len(sources)} sources",
                remedy="run them one by one",
            )
        source = Path(sources[0].address)
        if self._path.exists() and source.exists() and self._path.samefile(source):
            raise UsageError(
                f"{self._path} is the video that is read", remedy="choose another name"
            )
        self._live = isinstance(sources[0], LiveSource)
        if self._live and self._rate is None:
            raise UsageError(
                "a video of a live source needs a rate", remedy="state the frames a second"
            )
        files.refuse_no_file(self._path)
        files.make_folder(self._path.parent)
        try:
            self._claim = files.open_claimed(part_of(self._path))
        except OSError as error:
            raise files.storage_error(error, self._path) from error
        self._spec = spec

    def write(self, frame: Frame, result: Result, anomaly_map: Map | None) -> None:
        """Append one frame."""
        rate = self._rate if self._live else frame.rate
        if rate is None:
            raise UsageError(
                f"an annotated video needs a video as its source, found the image {frame.path}",
                remedy="write overlays instead",
            )
        if frame.image is None or anomaly_map is None or self._done:
            return
        if self._writer is None:
            self._writer = self._begin(frame.image, rate)
            self._began = frame.time
        missing = self._missing(frame.time, rate) if self._live else 1
        if missing == 0:
            return
        image = self._fitting(draw(frame.image, anomaly_map, self._spec))
        for _ in range(missing - 1):  # none before the first frame
            self._writer.write(self._last)
        self._writer.write(image)
        self._last = image
        self._frames += missing
        if self._live and self._frames >= LIVE_SECONDS * rate:
            try:
                self._finish()
                self._log(f"{self._path}: complete after {LIVE_SECONDS} s of video")
            except StorageError as error:  # no reason to end the run
                self._log(error.message)

    def _missing(self, time: float, rate: float) -> int:
        """How many frames the video lacks up to this one of a live source, with it, in real time.

        The frame itself is the last of them; 0 leaves it out.
        """
        missing = round((time - self._began) * rate) + 1 - self._frames
        longest = max(1, round(_LONGEST_STILL * rate))
        if -longest <= missing <= longest:
            return max(0, missing)
        # A gap, or a clock that was set: go on from here.
        self._began = time - self._frames / rate
        return 1

    def _begin(self, image: NDArray[np.uint8], rate: float) -> cv2.VideoWriter:
        code = cv2.VideoWriter.fourcc(*("MJPG" if self._path.suffix.lower() == ".avi" else "mp4v"))
        part = part_of(self._path)
        self._size = (image.shape[1], image.shape[0])
        writer = cv2.VideoWriter(str(part), code, rate, self._size)
        if not writer.isOpened():
            raise StorageError(
                f"cannot write {part}", remedy="check the folder's permissions and free space"
            )
        return writer

    def _fitting(self, image: NDArray[np.uint8]) -> cv2.typing.MatLike:
        """In BGR and the size of the first frame; the video writer would skip another one."""
        if image.shape[1::-1] != self._size:
            image = np.asarray(cv2.resize(image, self._size, interpolation=cv2.INTER_AREA))
        return cv2.cvtColor(image, cv2.COLOR_RGB2BGR)

    def close(self, *, complete: bool) -> None:
        """Finish the file, check that it is whole, and give it its name."""
        if self._writer is not None and complete:
            self._finish()
        elif self._writer is not None:
            self._writer.release()
        if self._claim is None:
            return
        if not self._frames:  # nothing was written but the claim
            with contextlib.suppress(OSError):
                part_of(self._path).unlink()
        self._claim.close()

    def _finish(self) -> None:
        if self._writer is None:
            return
        self._writer.release()
        self._writer, self._done = None, True
        # The video writer tells of no error, neither a full disk.
        part = part_of(self._path)
        capture = cv2.VideoCapture(str(part))
        written = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        capture.release()
        if written < self._frames:
            raise StorageError(
                f"{part} holds {written} of {self._frames} frames",
                remedy="free some space or choose another place",
            )
        rename_part(self._path)
