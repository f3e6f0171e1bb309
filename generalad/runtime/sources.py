"""Where images come from: files, videos and live sources, each a stream of `Frame`.

What cannot be read is not skipped: it arrives as a frame with `error` set and without an image,
so that every consumer counts it. Other sources need only implement `Source`, or
`LiveSource` if they do not wait to be read.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from generalad.errors import DataError
from generalad.parallel import map_threads
from generalad.pixels import Pixels, to_rgb
from generalad.preprocess import Depths, read_image
from generalad.processor import usable_cores

if TYPE_CHECKING:
    from generalad.runtime.notification import Notification

WATCH = "watch:"
"""What the address of a watched folder begins with."""

STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "hdfs", "memory")
"""Schemes of stores of objects, see `remote_files`."""

MOST_READ_AT_A_TIME = 4
"""Image files that are decoded side by side."""

READ_ALONE = 64 << 20
"""Bytes of a decoded image after which the next one is decoded alone: 22 megapixels."""

VIDEO_SUFFIXES = frozenset(
    {
        *(".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".wmv"),
        *(".mts", ".m2ts", ".mjpeg", ".mjpg", ".flv", ".3gp", ".ogv", ".asf", ".vob", ".mxf"),
    }
)


@dataclass(frozen=True, eq=False)
class Frame:
    """One image of a source, or the reason why there is none.

    Attributes:
        source: address of the source, as the user gave it.
        index: position in the source, from 0.
        time: in seconds: since the start for a video; since 1970 for an image (when its file was
            modified) and for a frame of a live source (when it was captured).
        path: the file the image is in or comes from; empty where there is none.
        name: relative path that no other image of this source has, for naming outputs.
        image: (H, W, 3) uint8 RGB, or None.
        error: why there is no image, or None.
        rate: frames a second of a video, None for single images.
        captured_at: when a camera gave it, in seconds of `time.monotonic`; None for files.
    """

    source: str
    index: int
    time: float
    path: str
    name: str
    image: NDArray[np.uint8] | None
    error: str | None = None
    rate: float | None = None
    captured_at: float | None = None


class Source(Protocol):
    """A stream of frames. Iterated once, in one thread."""

    @property
    def address(self) -> str:
        """What the user wrote, without passwords; `Frame.source`."""

    @property
    def folder(self) -> Path | None:
        """Folder that `Frame.name` is relative to; None where images are no files."""

    def count(self) -> int | None:
        """Expected number of frames, for showing progress; None where it is not known."""

    def __iter__(self) -> Iterator[Frame]:
        """Yield frames in order; resources are freed when the iterator is closed."""


class State(str, enum.Enum):
    """What a live source is doing."""

    CONNECTING = "connecting"
    """First attempt; no frame yet."""
    LIVE = "live"
    """Frames come."""
    STALLED = "stalled"
    """The driver has not answered in time and was given up; a new attempt follows."""
    RECONNECTING = "reconnecting"
    """An attempt failed or the connection was lost; a new attempt follows or is on its way."""
    FAILED = "failed"
    """Given up for good: another attempt cannot help."""
    ENDED = "ended"
    """The source came to its end, or was closed."""


@dataclass(frozen=True)
class Status:
    """A live source at one moment; `captured == processed + dropped + in_flight` always holds.

    Attributes:
        state: what it is doing.
        reason: why, on one line, without secrets.
        since: when it entered the state, monotonic seconds.
        captured: frames that the camera gave.
        processed: frames that were reported as done.
        dropped: frames that will not be processed, by reason.
        in_flight: frames that wait or have been handed out.
        attempts: how often opening was begun.
        reconnects: how often frames came again after they had been lost.
        fps: frames a second of the camera over the last 100 frames; 0 while there are too few.
        resolution: (height, width) of the last frame, None before the first one.
    """

    state: State
    reason: str
    since: float
    captured: int
    processed: int
    dropped: Mapping[str, int]
    in_flight: int
    attempts: int
    reconnects: int
    fps: float
    resolution: tuple[int, int] | None


@runtime_checkable
class LiveSource(Source, Protocol):
    """A source that does not wait to be read: a camera, or something like one."""

    def read(self) -> Iterator[Frame | Notification]:
        """Yield frames to the end, and a notification of kind "camera" where the state changes."""

    def done(self, frame: Frame, *, dropped: str | None = None) -> None:
        """Take back a frame that `read` gave: it was processed, or dropped for a reason."""

    def status(self) -> Status:
        """State and counts of one moment, from any thread."""

    def stop(self) -> None:
        """Give no further frames but those that wait already; from any thread, returns soon."""


class LiveSourceMixin:
    """`count` and iteration for live sources, from their `read` and `done`."""

    def read(self) -> Iterator[Frame | Notification]:
        """See `LiveSource`."""
        raise NotImplementedError

    def done(self, frame: Frame, *, dropped: str | None = None) -> None:
        """See `LiveSource`."""
        raise NotImplementedError

    def count(self) -> int | None:
        """Not known."""
        return None

    def __iter__(self) -> Iterator[Frame]:
        """Frames without the notifications; each is done when the next one is asked for."""
        for thing in self.read():
            if isinstance(thing, Frame):
                yield thing
                self.done(thing)


LEFT_OUT = ("left_out", "videos", "unnamed", "unread")
"""Attributes of a source that name files which were found beside its images and are not read."""


class ImageFiles:
    """Image files in a given order."""

    def __init__(
        self,
        address: str,
        paths: Sequence[Path],
        folder: Path,
        left_out: Mapping[Path, Path] | None = None,
        videos: Sequence[Path] = (),
        unnamed: Sequence[Path] = (),
        unread: Sequence[Path] = (),
    ) -> None:
        """`folder` is the one that names are relative to; for the others see the attributes."""
        self.address = address
        self.folder = folder
        self.videos = tuple(videos)
        """Videos that were found beside `paths`, and are not read."""
        self.unnamed = tuple(unnamed)
        """Files that are images by their content and not by their names, and are not read."""
        self.unread = tuple(unread)
        """Arrays and archives that were found beside `paths`, and may hold images."""
        self.left_out = left_out or {}
        """Label images that were found beside `paths`, with the images that they belong to."""
        self.paths = tuple(paths)
        """All files, in order."""
        self.doubts = Depths()
        """Of the files that were read."""

    def count(self) -> int | None:
        """Number of files."""
        return len(self.paths)

    def __iter__(self) -> Iterator[Frame]:
        """Some are decoded at a time, where cores are there and the last image was not huge."""
        if len(self.paths) == 1:
            yield self._read(0)
            return
        workers, ahead = min(usable_cores(), MOST_READ_AT_A_TIME), 1
        numbers = range(len(self.paths))
        frames = map_threads(self._read, numbers, workers=workers, ahead=lambda: ahead)
        for frame in frames:
            huge = frame.image is not None and frame.image.nbytes > READ_ALONE
            ahead = 1 if huge else workers
            yield frame
            del frame  # or it is in memory while the next ones are read

    def _read(self, index: int) -> Frame:
        path, image, error, time = self.paths[index], None, None, 0.0
        try:
            image = read_image(path, depths=self.doubts)
            time = path.stat().st_mtime
        except DataError as failure:
            error = failure.message
        except OSError as failure:  # removed between the two calls
            image, error = None, f"{path}: {failure.strerror}"
        name = path.relative_to(self.folder).as_posix()
        return Frame(self.address, index, time, str(path), name, image, error)


class ImagesInMemory:
    """Arrays and images of Pillow, as `pixels.to_rgb` takes them, in a given order."""

    folder: Path | None = None

    def __init__(self, images: Sequence[Pixels], address: str = "memory") -> None:
        self.address = address
        self._images = images

    def count(self) -> int | None:
        """Number of images."""
        return len(self._images)

    def __iter__(self) -> Iterator[Frame]:
        """Raises UsageError at what is no image."""
        for index, given in enumerate(self._images):
            image, error = None, None
            try:
                image = to_rgb(given, name=f"{self.address}, image {index}")
            except DataError as failure:
                error = failure.message
            yield Frame(self.address, index, 0.0, "", f"{index:06d}.png", image, error)
