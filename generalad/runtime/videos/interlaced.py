"""Whether a video may be interlaced, told by its first bytes: OpenCV shows such frames as garbage.

H.264: ITU-T H.264, 7.3.2.1, and ISO/IEC 14496-15, 5.3.3. MPEG-2: ISO/IEC 13818-2, 6.2.2.3.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from generalad.runtime.videos.h264 import has_fields
from generalad.runtime.videos.structure import boxes, content, is_mp4

_LOOKED_AT = 1 << 20

_SEQUENCES = (
    # In the configuration record of MP4, Matroska and FLV; behind start codes.
    re.compile(rb"\x01[\x2c-\xf4]..[\xfc-\xff][\xe1-\xff]..(?=[\x07\x27\x47\x67])", re.DOTALL),
    re.compile(rb"\x00\x00\x01(?=[\x07\x27\x47\x67])"),
)
"""What stands before sequence parameters of H.264."""

_EXTENSION = re.compile(rb"\x00\x00\x01\xb5[\x10-\x1f](.)", re.DOTALL)
_PROGRESSIVE = 0x08


def may_be_interlaced(path: Path, codec: bytes) -> bool:
    """Of a video file and the four letters of its codec; where it cannot be told, it may be."""
    if codec in (b"h264", b"avc1", b"x264"):
        return next(_h264(path), True)
    if codec in (b"mpg2", b"mp2v", b"hdv2"):
        found = next(
            (match[1][0] for part in _parts(path) for match in _EXTENSION.finditer(part)), 0
        )
        return not found & _PROGRESSIVE
    return codec[:2] == b"dv"


def _h264(path: Path) -> Iterator[bool]:
    """By each of its sequence parameters."""
    for part in _parts(path):
        for before in _SEQUENCES:
            for match in before.finditer(part):
                try:
                    yield has_fields(part[match.end() :])
                except IndexError:
                    continue


def _parts(path: Path) -> Iterator[bytes]:
    """Where a container tells of its codec: the index of MP4, and the first bytes."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        if is_mp4(content(file, 0, 8)):
            for kind, first, last in list(boxes(file, 0, size)):
                if kind == b"moov":
                    yield content(file, first, last)
        yield content(file, 0, _LOOKED_AT)
