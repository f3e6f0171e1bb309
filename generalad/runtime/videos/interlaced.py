"""Whether a video may be interlaced, told by its first bytes: OpenCV shows such frames as garbage.

H.264: ITU-T H.264, 7.3.2.1, and ISO/IEC 14496-15, 5.3.3. H.265: ITU-T H.265, 7.3.3. MPEG-2: ISO/IEC
13818-2, 6.2.2.3. MPEG-4: ISO/IEC 14496-2, 6.2.3. ProRes: SMPTE RDD 36, 5.1.1. Matroska: RFC 9559,
5.1.4.1.28.1. QuickTime: the atom `fiel`.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from generalad.runtime.videos.h264 import Bits, has_fields
from generalad.runtime.videos.structure import (
    boxes,
    content,
    inside,
    is_matroska,
    is_mp4,
    matroska_videos,
)

_LOOKED_AT = 1 << 20

_BY_ONE_FRAME = frozenset(
    {
        *(b"vp80", b"vp90", b"av01", b"theo", b"flv1", b"mpg1", b"mp1v", b"h261", b"h263"),
        *(b"wmv1", b"wmv2", b"mpg4", b"mp42", b"mp43", b"div3", b"png ", b"mpng", b"gif "),
        *(b"cvid", b"msvc", b"cram", b"rle ", b"qrle", b"svq1", b"svq3", b"zlib", b"zmbv"),
        *(b"mjpg", b"jpeg", b"ffv1", b"hfyu", b"ffvh", b"\0\0\0\0", b"dib ", b"bgr\0", b"y800"),
        *(b"grey", b"gray", b"yuy2", b"yuyv", b"uyvy", b"i420", b"yv12", b"nv12", b"raw "),
    }
)
"""Codecs without fields, or none but where their container says so."""


def may_be_interlaced(path: Path, codec: bytes) -> bool:
    """Of a video file and the four letters of its codec; where it cannot be told, it may be."""
    if _container_says_so(path):
        return True
    for codecs, tell in _TOLD:
        if codec in codecs:
            return any(found := list(tell(path))) or not found
    return codec not in _BY_ONE_FRAME


_AVC = (
    # In the configuration record of MP4, Matroska and FLV; behind start codes.
    re.compile(rb"\x01[\x2c-\xf4]..[\xfc-\xff][\xe1-\xff]..(?=[\x07\x27\x47\x67])", re.DOTALL),
    re.compile(rb"\x00\x00\x01(?=[\x07\x27\x47\x67])"),
)
"""What stands before sequence parameters of H.264."""


def _h264(path: Path) -> Iterator[bool]:
    """By the first of its sequence parameters."""
    for part in _parts(path):
        for before in _AVC:
            for match in before.finditer(part):
                try:
                    yield has_fields(part[match.end() :])
                except IndexError:
                    continue
                return


_HEVC = re.compile(rb"(?:\x00\x00\x01|[\x21\xa1]\x00\x01..)\x42\x01(.{12})", re.DOTALL)


def _h265(path: Path) -> Iterator[bool]:
    """By the kind of source that sequence parameters name: with fields, or not only frames."""
    for match in _found(path, _HEVC):
        bits = Bits(match[1])
        bits.take(8 + 8 + 32)
        whole_frames, fields = bits.take(1), bits.take(1)
        yield bool(fields or not whole_frames)


_EXTENSION = re.compile(rb"\x00\x00\x01\xb5[\x10-\x1f](.)", re.DOTALL)


def _mpeg2(path: Path) -> Iterator[bool]:
    for match in _found(path, _EXTENSION):
        yield not match[1][0] & 0x08


_LAYER = re.compile(rb"\x00\x00\x01[\x00-\x1f]\x00\x00\x01[\x20-\x2f](.{30})", re.DOTALL)
_RECTANGLE, _EXTENDED = 0, 15


def _mpeg4(path: Path) -> Iterator[bool]:
    """By the layers of video objects."""
    for match in _found(path, _LAYER):
        bits = Bits(match[1], escaped=False)
        bits.take(9)
        bits.take(7 * bits.take(1))  # version and priority
        bits.take(16 * (bits.take(4) == _EXTENDED))  # shape of a pixel
        if bits.take(1):  # of control
            bits.take(3)
            bits.take(79 * bits.take(1))
        if bits.take(2) != _RECTANGLE or not bits.take(1):
            continue
        resolution = bits.take(16)
        bits.take(1)
        bits.take(bits.take(1) * max(1, (resolution - 1).bit_length()))
        bits.take(1 + 13 + 1 + 13 + 1)
        yield bool(bits.take(1))


_FRAME = re.compile(rb"icpf.{12}(.)", re.DOTALL)


def _prores(path: Path) -> Iterator[bool]:
    for match in _found(path, _FRAME):
        yield match[1][0] & 0x0C > 0


_TOLD: tuple[tuple[tuple[bytes, ...], Callable[[Path], Iterator[bool]]], ...] = (
    ((b"h264", b"avc1", b"x264"), _h264),
    ((b"hevc", b"hev1", b"hvc1", b"h265"), _h265),
    ((b"mpg2", b"mp2v", b"hdv2"), _mpeg2),
    ((b"fmp4", b"mp4v", b"xvid", b"divx", b"dx50"), _mpeg4),
    ((b"apch", b"apcn", b"apcs", b"apco", b"ap4h", b"ap4x"), _prores),
)
"""Codecs, and what tells of each of their headers whether it has fields."""

_QUICKTIME = re.compile(rb"\x00\x00\x00\x0afiel\x02")
_AVI_OF_FIELDS = re.compile(rb"\xff\xd8\xff\xe0..AVI1[\x01\x02]", re.DOTALL)
_FLAG, _FIELDS = 0x9A, 1


def _container_says_so(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if is_matroska(content(file, 0, 8)):
                videos = list(matroska_videos(file, size))
                flags = [flag for video in videos for flag in inside(file, *video, _FLAG)]
                return any(int.from_bytes(content(file, *flag), "big") == _FIELDS for flag in flags)
    except (OSError, ValueError, struct.error, IndexError):
        pass  # damaged: reading says so
    return any(said.search(part) for part in _parts(path) for said in (_QUICKTIME, _AVI_OF_FIELDS))


def _found(path: Path, pattern: re.Pattern[bytes]) -> Iterator[re.Match[bytes]]:
    for part in _parts(path):
        yield from pattern.finditer(part)


def _parts(path: Path) -> Iterator[bytes]:
    """Where a container tells of its codec: the index of MP4, and the first bytes."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        if is_mp4(content(file, 0, 8)):
            for kind, first, last in list(boxes(file, 0, size)):
                if kind == b"moov":
                    yield content(file, first, last)
        yield content(file, 0, _LOOKED_AT)
