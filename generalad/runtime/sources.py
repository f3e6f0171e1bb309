"""Where pictures come from: files, folders, patterns and videos, all as one stream of `Frame`.

What cannot be read is not skipped: it arrives as a frame with `error` set and without a picture,
so that every consumer counts it. Other sources need only implement `Source`.
"""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import cv2
import numpy as np
from numpy.typing import NDArray

from generalad.errors import DataError
from generalad.preprocess import IMAGE_SUFFIXES, read_image

if TYPE_CHECKING:
    from generalad.runtime.live.state import Status
    from generalad.runtime.streams.notice import Notice

WATCH = "watch:"
"""What the address of a watched folder begins with."""

STDIN = "-"
"""The address of a list of pictures and videos on standard input."""

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".wmv"}
)


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a source, or the reason why there is none.

    Attributes:
        source: address of the source, as the user gave it.
        index: position in the source, from 0.
        time: in seconds: since the start for a video, the file's modification time (since 1970)
            for a picture.
        path: the file the picture is in or comes from; empty where there is none.
        name: relative path that no other picture of this source has, for naming outputs.
        image: (H, W, 3) uint8 RGB, or None.
        error: why there is no picture, or None.
        rate: frames a second of a video, None for single pictures.
        waited: seconds from its capture by a camera until it was handed out.
    """

    source: str
    index: int
    time: float
    path: str
    name: str
    image: NDArray[np.uint8] | None
    error: str | None = None
    rate: float | None = None
    waited: float = 0.0


class Source(Protocol):
    """A stream of frames. Iterated once, in one thread."""

    @property
    def address(self) -> str:
        """What the user wrote, without passwords; `Frame.source`."""

    @property
    def folder(self) -> Path | None:
        """Folder that `Frame.name` is relative to; None where pictures are no files."""

    def count(self) -> int | None:
        """Expected number of frames, for showing progress; None where it is not known."""

    def __iter__(self) -> Iterator[Frame]:
        """Yield frames in order; resources are freed when the iterator is closed."""


@runtime_checkable
class LiveSource(Source, Protocol):
    """A source that does not wait to be read: a camera, or something like one."""

    def read(self) -> Iterator[Frame | Notice]:
        """Yield frames until the end, and a notice of kind "camera" where its state changes."""

    def settle(self, frame: Frame, *, dropped: str | None) -> None:
        """Take back a frame that `read` gave: it was processed, or dropped for a reason."""

    def status(self) -> Status:
        """State and counts of one moment, from any thread."""

    def stop(self) -> None:
        """Give no further frames but those that wait already; from any thread, returns soon."""


class PictureFiles:
    """Picture files in a given order."""

    def __init__(self, address: str, paths: Sequence[Path], folder: Path) -> None:
        """`folder` is the one that names are relative to."""
        self.address = address
        self.folder = folder
        self._files = tuple(paths)

    def count(self) -> int | None:
        """Number of files."""
        return len(self._files)

    def __iter__(self) -> Iterator[Frame]:
        for index, path in enumerate(self._files):
            image, error, time = None, None, 0.0
            try:
                image = read_image(path)
                time = path.stat().st_mtime
            except DataError as failure:
                error = failure.message
            except OSError as failure:  # removed between the two calls
                image, error = None, f"{path}: {failure.strerror}"
            name = path.relative_to(self.folder).as_posix()
            yield Frame(self.address, index, time, str(path), name, image, error)


class VideoFile:
    """A video file; each frame is upright and RGB."""

    def __init__(self, path: Path) -> None:
        self.address = str(path)
        self.folder = path.parent
        self._path = path

    def count(self) -> int | None:
        """What the container says, if anything."""
        capture = cv2.VideoCapture(self.address)
        try:
            return _frame_count(capture) or None
        finally:
            capture.release()

    def __iter__(self) -> Iterator[Frame]:
        capture = cv2.VideoCapture(self.address)
        try:
            yield from self._frames(capture)
        finally:
            capture.release()

    def _frames(self, capture: cv2.VideoCapture) -> Iterator[Frame]:
        expected = _frame_count(capture)
        rate = capture.get(cv2.CAP_PROP_FPS)
        rate = rate if 0 < rate < 1000 else 25.0  # containers without a rate say 0 or a time base
        index, time = 0, 0.0
        while True:
            read, image = capture.read()
            if not read:
                break
            time = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            yield self._frame(index, time, _to_rgb(image), None, rate)
            index += 1
        # Some containers hold an estimate, hence the tolerance.
        if index == 0:
            error = f"{self._path}: empty, cut off or not a video in a known format"
            yield self._frame(0, 0.0, None, error, rate)
        elif index < expected - max(2, expected // 100):
            error = f"{self._path}: ends after {index} of {expected} frames, cut off or damaged"
            yield self._frame(index, time, None, error, rate)

    def _frame(
        self,
        index: int,
        time: float,
        image: NDArray[np.uint8] | None,
        error: str | None,
        rate: float,
    ) -> Frame:
        name = f"{self._path.name}/{index:06d}.jpg"
        return Frame(self.address, index, time, str(self._path), name, image, error, rate)


class Listed:
    """Pictures and videos whose paths are listed, one a line, read as the lines come."""

    address = STDIN
    folder: Path | None = None

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = lines

    def count(self) -> int | None:
        """Not known before the list ends."""
        return None

    def __iter__(self) -> Iterator[Frame]:
        index = 0
        for line in self._lines:
            text = line.rstrip("\r\n")
            if not text:
                continue
            for frame in self._frames(text):
                yield replace(
                    frame, source=self.address, index=index, name=_listed(frame.name, text)
                )
                index += 1

    def _frames(self, text: str) -> Iterator[Frame]:
        path = Path(text)
        try:
            if not path.is_file():
                raise DataError(f"{text}: no such file")
            yield from _open_file(path, text)
        except DataError as failure:
            yield Frame(self.address, 0, 0.0, text, path.name, None, failure.message)


def _listed(name: str, text: str) -> str:
    """A name that no other path has: the path itself, without what leads out of a folder."""
    parts = Path(os.path.abspath(text)).parts[1:-1]
    return "/".join([*parts, name])


def _frame_count(capture: cv2.VideoCapture) -> int:
    return max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))


def _to_rgb(image: cv2.typing.MatLike) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def open_sources(addresses: Sequence[str]) -> list[Source]:
    """Resolve addresses in the given order.

    An address is a picture, a video, a folder or a pattern such as "line1/*.png" ("**" matches any
    number of folders). A folder gives its pictures with those of its subfolders, sorted by path;
    hidden files and videos in it are left out. A pattern gives its pictures as one source, sorted,
    and then each of its videos as a source of its own.

    Raises:
        DataError: an address does not exist, matches nothing, or is of an unknown kind.
    """
    if not addresses:
        raise DataError("no pictures or videos given", remedy="name files, folders or patterns")
    return [source for address in addresses for source in _open(address)]


def is_live_address(address: str) -> bool:
    """Whether an address is that of a camera or a watched folder."""
    return "://" in address or address.startswith((WATCH, "usb:", "/dev/"))


def _open(address: str) -> list[Source]:
    if address == STDIN:
        return [Listed(sys.stdin)]
    if is_live_address(address):
        # Loaded for live sources only: a run over files starts without it.
        from generalad.runtime.live.open import open_live

        return [open_live(address)]
    path = Path(address)
    if path.is_dir():
        return [PictureFiles(address, _pictures_in(path), path)]
    if path.exists():
        return [_open_file(path, address)]
    if not glob.has_magic(address):
        raise DataError(f"{address}: no such file or folder", remedy="check the path")
    return _open_pattern(address)


def _open_file(path: Path, address: str) -> Source:
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return VideoFile(path)
    if suffix in IMAGE_SUFFIXES:
        return PictureFiles(address, [path], path.parent)
    known = ", ".join(sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES))
    raise DataError(f"{address}: not a picture or video by its suffix", remedy=f"known: {known}")


def _open_pattern(address: str) -> list[Source]:
    matches = sorted(Path(match) for match in glob.glob(address, recursive=True))
    pictures = [path for path in matches if path.suffix.lower() in IMAGE_SUFFIXES]
    videos = [path for path in matches if path.suffix.lower() in VIDEO_SUFFIXES]
    if not pictures and not videos:
        raise DataError(f"{address}: no picture or video matches", remedy="check the pattern")
    sources: list[Source] = []
    if pictures:
        folder = Path(os.path.commonpath([path.parent for path in pictures]))
        sources.append(PictureFiles(address, pictures, folder))
    return [*sources, *map(VideoFile, videos)]


def _pictures_in(folder: Path) -> list[Path]:
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(parent, name)
            for name in files
            if Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith(".")
        ]
    if not found:
        raise DataError(
            f"{folder}: no pictures in this folder or below",
            remedy="name videos one by one or by a pattern such as folder/*.mp4",
        )
    return sorted(found)
