"""`VideoFile`: a video as a source of frames."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from generalad.errors import DataError
from generalad.runtime.sources import Frame
from generalad.runtime.videos.colours import high_range
from generalad.runtime.videos.presentation import FrameTimes, TurnedUnknown, ends_early
from generalad.runtime.videos.structure import another_follows, is_whole

_USUAL_RATE = 25.0
"""Where a container says none."""


class _Reader(Protocol):
    @property
    def rate(self) -> float: ...
    @property
    def duration(self) -> float: ...
    @property
    def count(self) -> int: ...

    shown: float
    exact: bool
    transfer: int
    others: int

    def frames(self) -> Iterator[tuple[float | None, NDArray[np.uint8] | str | None]]: ...
    def close(self) -> None: ...


class Doubts:
    """What may not be meant of a video that is read.

    Attributes:
        transfer: number of its transfer function, see `colours`.
        others: videos beside it in the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.transfer = self.others = 0

    def in_words(self) -> str:
        """A warning with its remedy; empty where there is nothing to say."""
        said = []
        if colours := high_range(self.transfer):
            said.append(f"{self._path}: a video {colours}")
        if self.others:
            said.append(
                f"{self._path}: holds {self.others + 1} videos, of which one is read → split it"
                " into files of one video each"
            )
        return "; ".join(said)


class VideoFile:
    """A video file; each frame is upright and RGB, and their times rise."""

    def __init__(self, path: Path) -> None:
        self.address = str(path)
        self.folder = path.parent
        self.paths = (path,)
        """The file, as `ImageFiles` has them."""
        self.doubts = Doubts(path)
        """About the video, once it was read."""
        self._path = path

    def count(self) -> int | None:
        """What the container says, if anything."""
        try:
            reader = _open(self._path)
        except (OSError, DataError, TurnedUnknown):
            return None
        try:
            return reader.count or round(reader.duration * reader.rate) or None
        finally:
            reader.close()

    def __iter__(self) -> Iterator[Frame]:
        try:
            reader = _open(self._path)
        except DataError as large:
            yield self._frame(0, 0.0, None, large.message, _USUAL_RATE)
            return
        except TurnedUnknown as unknown:
            error = f"{self._path}: {unknown}, which only PyAV (extra streams) shows right"
            yield self._frame(0, 0.0, None, error, _USUAL_RATE)
            return
        except OSError:
            error = f"{self._path}: empty, cut off or not a video in a known format"
            yield self._frame(0, 0.0, None, error, _USUAL_RATE)
            return
        try:
            yield from self._frames(reader)
        finally:
            reader.close()

    def _frames(self, reader: _Reader) -> Iterator[Frame]:
        self.doubts.transfer, self.doubts.others = reader.transfer, reader.others
        # Containers without a rate say 0 or a time base.
        rate = reader.rate if 0 < reader.rate < 1000 else _USUAL_RATE
        times, index = FrameTimes(rate), 0
        damaged: list[float | None] = []
        for stamp, image in reader.frames():
            if image is None:
                damaged.append(stamp)
                continue
            # That the video goes on after them shows that it is not cut off.
            for missing in damaged:
                error = f"{self._path}, frame {index}: damaged"
                yield self._frame(index, times.next(missing), None, error, rate)
                index += 1
            damaged = []
            if isinstance(image, str):
                error = f"{self._path}, frame {index}: {image}"
                yield self._frame(index, times.next(stamp), None, error, rate)
            else:
                yield self._frame(index, times.next(stamp), image, None, rate)
            index += 1
        why = self._why_not_whole(reader, times, index, rate, damaged=bool(damaged))
        if why is not None:
            yield self._frame(index, times.last, None, why, rate)

    def _why_not_whole(
        self, reader: _Reader, times: FrameTimes, index: int, rate: float, *, damaged: bool
    ) -> str | None:
        count, duration = reader.count, reader.duration
        if index == 0:
            return f"{self._path}: empty, cut off or not a video in a known format"
        if another_follows(self._path):
            return f"{self._path}: several videos in one file, of which the first was read"
        whole = is_whole(self._path)  # not by counts, where the container tells its length
        if whole is None:
            whole = not ends_early(
                times,
                index,
                rate=rate,
                duration=duration,
                count=count,
                exact=reader.exact,
                shown=reader.shown,
            )
        if whole and not damaged:
            return None
        of = f" frames, {times.last:.1f} of {duration:.1f} s"
        if count >= index:
            of = f" of {count} frames"
        return f"{self._path}: ends after {index}{of}, cut off or damaged"

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


def _open(path: Path) -> _Reader:
    """The best reader that is installed; raises OSError at what is no video, or no file."""
    if not path.is_file():  # a pipe would hold up the run for ever
        raise OSError("not a regular file")
    if importlib.util.find_spec("av") is not None:
        from generalad.runtime.videos.av_reader import AvReader

        return AvReader(path)
    from generalad.runtime.videos.cv_reader import CvReader

    return CvReader(path)
