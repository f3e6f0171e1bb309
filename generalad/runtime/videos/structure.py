"""What a video's container says of itself, read without FFmpeg: its parts, and whether it is whole.

The length of a file is told by its container for certain, where counts of frames and durations are
estimates, or those of the sound. MP4: ISO/IEC 14496-12. Matroska: RFC 9559. AVI: OpenDML 1.02.
ASF: its specification, 3.2.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_MP4 = frozenset({b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"})
_MATROSKA = b"\x1a\x45\xdf\xa3"
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_SEGMENT, _TRACKS, _TRACK, _VIDEO = 0x18538067, 0x1654AE6B, 0xAE, 0xE0
_CLUSTER = 0x1F43B675
_OF_CLUSTERS = frozenset({0xE7, 0x5854, 0xA7, 0xAB, 0xA3, 0xA0, 0xAF, 0xEC, 0xBF})
_FLASH = b"FLV"
_PROGRAM = b"\0\0\x01\xba"
_MOST = 1 << 20  # bytes of a box that is read; what is looked at are some hundreds


def is_mp4(start: bytes) -> bool:
    """Whether a file that begins so (8 bytes) is MP4 or QuickTime."""
    return start[4:8] in _MP4


def is_matroska(start: bytes) -> bool:
    """Whether a file that begins so is Matroska or WebM."""
    return start.startswith(_MATROSKA)


def is_whole(path: Path) -> bool | None:
    """Whether a file is as long as its container says; None where it does not say."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            start = content(file, 0, 16)
            if is_mp4(start):
                return _mp4_is_whole(file, size)
            if is_matroska(start):
                return _matroska_is_whole(file, size)
            if start[:4] == b"RIFF":
                return _avi_is_whole(file, size)
            if start == _ASF:
                return _asf_is_whole(file, size)
            if start[:4] == _PROGRAM:
                return True  # recorded from the air, they begin and end anywhere
            if packet := _packet_of_transport(content(file, 0, 400)):
                return size % packet == 0  # but with a whole packet
    except (OSError, ValueError, struct.error, IndexError):
        pass
    return None


_TRACKS_OF_VIDEO = re.compile(rb"hdlr.{8}vide", re.DOTALL)


def count_videos(path: Path) -> int:
    """Videos that MP4 or Matroska holds; 0 of other containers, or where it cannot be read."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            start = content(file, 0, 8)
            if is_matroska(start):
                return len(list(matroska_videos(file, size)))
            if is_mp4(start):
                movies = [box for box in list(boxes(file, 0, size)) if box[0] == b"moov"]
                found = (_TRACKS_OF_VIDEO.findall(content(file, *box[1:])) for box in movies[:1])
                return sum(map(len, found))
    except (OSError, ValueError, struct.error, IndexError):
        pass
    return 0


def another_follows(path: Path) -> bool:
    """Whether a second video lies behind the first in a container that readers end with it."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            start = content(file, 0, 16)
            if is_mp4(start):
                return sum(kind == b"moov" for kind, _, _ in boxes(file, 0, size)) > 1
            if start == _ASF:
                length = _asf_length(file)
                return 0 < length < size and content(file, length, length + 16) == _ASF
            if start[:3] == _FLASH:
                return _flash_end(file, size) < size
    except (OSError, ValueError, struct.error, IndexError):
        pass
    return False


def boxes(file: BinaryIO, position: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of the content of each box of MP4; the last may end behind `end`."""
    while position + 8 <= end:
        file.seek(position)
        size, kind = struct.unpack(">I4s", file.read(8))
        head = 8
        if size == 1:
            [size] = struct.unpack(">Q", file.read(8))
            head = 16
        size = size or end - position
        if size < head:
            return
        yield kind, position + head, position + size
        position += size


def content(file: BinaryIO, start: int, end: int) -> bytes:
    """The bytes of a box, as far as they are to be looked at."""
    file.seek(start)
    return file.read(max(0, min(end - start, _MOST)))


def elements(file: BinaryIO, position: int, end: int, name: int) -> Iterator[tuple[int, int]]:
    """Start and end of the content of the elements of a name in EBML; -1 where it is not known."""
    while position < end:
        found, position = _number(file, position, keep=True)
        size, position = _number(file, position, keep=False)
        if found == name:
            yield position, position + size if size >= 0 else -1
        position = position + size if size >= 0 else end


def inside(file: BinaryIO, position: int, end: int, name: int) -> Iterator[tuple[int, int]]:
    """As `elements`; those of unknown size end where they lie in does."""
    for first, last in elements(file, position, end, name):
        yield first, end if last < 0 else min(last, end)


def matroska_videos(file: BinaryIO, size: int) -> Iterator[tuple[int, int]]:
    """Start and end of what Matroska says of each video track."""
    for segment in inside(file, 0, size, _SEGMENT):
        for tracks in inside(file, *segment, _TRACKS):
            for track in inside(file, *tracks, _TRACK):
                yield from inside(file, *track, _VIDEO)
            return  # the frames follow


def _mp4_is_whole(file: BinaryIO, size: int) -> bool | None:
    ends = {kind: last for kind, _, last in boxes(file, 0, size)}
    return max(ends.values()) <= size if b"moov" in ends else None


def _matroska_is_whole(file: BinaryIO, size: int) -> bool | None:
    for first, last in elements(file, 0, size, _SEGMENT):
        if last < 0:
            return None
        return last <= size and _follow_each_other(file, first, last)
    return None


def _follow_each_other(file: BinaryIO, position: int, end: int) -> bool:
    """Whether the frames of Matroska lie one behind the other; readers skip what is between them.

    Only their heads are read.
    """
    try:
        for first, last in elements(file, position, end, _CLUSTER):
            if not 0 <= last <= end:
                return last < 0
            while first < last:
                found, first = _number(file, first, keep=True)
                length, first = _number(file, first, keep=False)
                if found not in _OF_CLUSTERS or length < 0:
                    return False
                first += length
            if first != last:
                return False
    except (ValueError, IndexError):
        return False
    return True


def _avi_is_whole(file: BinaryIO, size: int) -> bool | None:
    """Of one RIFF chunk, or several of a long file."""
    position = 0
    while position + 12 <= size:
        kind, length, form = struct.unpack("<4sI4s", content(file, position, position + 12))
        if kind != b"RIFF" or form not in (b"AVI ", b"AVIX") or length < 4:
            return None if position == 0 else True  # something else follows
        position += 8 + length + length % 2
    return position <= size + 1


def _packet_of_transport(start: bytes) -> int:
    """Bytes of a packet: 188, or 192 with a time before each; 0 where it is no such stream."""
    for at, size in ((0, 188), (4, 192)):
        if start[at : at + 1] == start[at + size : at + size + 1] == b"G":
            return size
    return 0


def _asf_is_whole(file: BinaryIO, size: int) -> bool | None:
    length = _asf_length(file)
    return length <= size if length else None


def _asf_length(file: BinaryIO) -> int:
    """Bytes of the file as it says; 0 where it does not know."""
    head = content(file, 0, _MOST)
    place = head.find(_ASF_PROPERTIES)
    if place < 0:
        return 0
    [length] = struct.unpack_from("<Q", head, place + 40)
    [flags] = struct.unpack_from("<I", head, place + 88)
    return 0 if flags & 1 else int(length)


def _flash_end(file: BinaryIO, size: int) -> int:
    """Where the tags of FLV end, each of which is followed by its size: before another head."""
    position = 13
    while position + 11 <= size:
        head = content(file, position, position + 4)
        if head[:3] == _FLASH:
            return position
        position += 11 + int.from_bytes(head[1:4], "big") + 4
    return size


def _number(file: BinaryIO, position: int, *, keep: bool) -> tuple[int, int]:
    """A number of EBML with or without the bit that tells its length, and where it ends."""
    file.seek(position)
    first = file.read(1)[0]
    length = 9 - first.bit_length()
    if length > 8:
        raise ValueError("a number of no length")
    data = bytes([first]) + file.read(length - 1)
    value = int.from_bytes(data, "big")
    if keep:
        return value, position + length
    most = (1 << 7 * length) - 1
    return -1 if value & most == most else value & most, position + length
