"""Which way up a video is to be shown, read from its container without FFmpeg.

OpenCV knows the angle of a display matrix but not that it mirrors, and turns such a video wrongly.
MP4: ISO/IEC 14496-12, 8.3.2. Matroska: RFC 9559, 5.1.4.1.28.41.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from generalad.runtime.videos.presentation import Matrix, parse_matrix
from generalad.runtime.videos.structure import (
    boxes,
    content,
    inside,
    is_matroska,
    is_mp4,
    matroska_videos,
)

_UNIT = 1 << 16
_PROJECTION, _YAW, _PITCH = 0x7670, 0x7673, 0x7674


class Orientation:
    """How frames are to be turned.

    Attributes:
        known: whether the container was understood; if not, an angle that OpenCV finds counts.
        matrix: of the video, None if it is to be shown as it is.
    """

    def __init__(self, matrix: Matrix | None, *, known: bool) -> None:
        self.matrix, self.known = matrix, known


def orientation_of(path: Path) -> Orientation:
    """Of a video file; raises ValueError where it is turned in a way that only FFmpeg knows."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            start = content(file, 0, 8)
            if is_mp4(start):
                return Orientation(_of_mp4(file, size), known=True)
            if is_matroska(start) and any(_projections(file, size)):
                raise ValueError("turned or mirrored in the manner of Matroska")
    except (OSError, struct.error, IndexError):
        pass  # damaged: reading says so
    return Orientation(None, known=False)


def _of_mp4(file: BinaryIO, size: int) -> Matrix | None:
    """The matrix of the first video track, times that of the whole movie."""
    for kind, first, last in boxes(file, 0, size):
        if kind != b"moov":
            continue
        movie = [_UNIT, 0, 0, _UNIT]
        for inner, start, end in list(boxes(file, first, last)):
            if inner == b"mvhd":
                movie = _matrix(content(file, start, end), 36, 48)
            elif inner == b"trak" and (track := _video_track(file, start, end)):
                a, b, c, d = track
                e, f, g, h = movie
                product = [a * e + b * g, a * f + b * h, c * e + d * g, c * f + d * h]
                turned = [value >> 16 for value in product]
                row = (turned[0], turned[1], 0, turned[2], turned[3])
                return parse_matrix(struct.pack("=9i", *row, 0, 0, 0, 1 << 30))
    return None


def _video_track(file: BinaryIO, first: int, last: int) -> list[int] | None:
    """The four numbers of its matrix that turn; None of a track that is no video."""
    found, is_video = None, False
    for kind, start, end in list(boxes(file, first, last)):
        if kind == b"tkhd":
            found = _matrix(content(file, start, end), 40, 52)
        elif kind == b"mdia":
            is_video = any(
                inner == b"hdlr" and content(file, begin, stop)[8:12] == b"vide"
                for inner, begin, stop in list(boxes(file, start, end))
            )
    return found if is_video else None


def _matrix(content: bytes, short: int, long: int) -> list[int]:
    """From a header whose times are of 32 or of 64 bits."""
    a, b, _, c, d = struct.unpack_from(">5i", content, long if content[0] == 1 else short)
    return [a, b, c, d]


def _projections(file: BinaryIO, size: int) -> Iterator[bool]:
    """Whether each projection of a video track is more than an angle, which OpenCV knows."""
    for video in matroska_videos(file, size):
        for projection in inside(file, *video, _PROJECTION):
            yield any(
                any(content(file, *pose))
                for name in (_YAW, _PITCH)
                for pose in inside(file, *projection, name)
            )
